"""The command line: `bakeoff VERB ... [key=value ...]`."""

import signal
import sys

import typer

from bakeoff.cli import screen
from bakeoff.cli.verbs import app
from bakeoff.errors import BakeoffError, RecipeError, StorageError

__all__ = ["app", "main", "run"]

# typer may carry a click of its own, so the base of its usage errors is found through one of them.
_UsageError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main() -> None:
    """Run one command and exit with its code; a person's mistake gives a message, never a traceback."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    as_json = "--json" in arguments
    screen.set_up_logging()
    try:
        outcome = app(args=arguments or ["--help"], prog_name="bakeoff", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except BakeoffError as error:
        screen.show_error(error, as_json=as_json)
        return error.exit_code
    except _UsageError as error:
        found = getattr(error, "format_message")()  # noqa: B009 (its type is typer's own affair)
        usage = RecipeError("command line", found=found.rstrip("."), expected="a command as bakeoff --help shows it")
        screen.show_error(usage, as_json=as_json)
        return usage.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except OSError as error:  # a place that may not even be looked into, wherever it was met
        refused = StorageError(
            str(error.filename or "storage"),
            found=f"'{error.strerror or error}'",
            expected="a place that this user may read and write",
        )
        screen.show_error(refused, as_json=as_json)
        return refused.exit_code
