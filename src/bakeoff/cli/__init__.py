"""The command line: `bakeoff VERB ... [key=value ...]`."""

import signal
import sys

import click

from bakeoff.cli import screen
from bakeoff.cli.verbs import app
from bakeoff.errors import BakeoffError, RecipeError

__all__ = ["app", "main"]


def main() -> None:
    """Run one command and exit with its code; a person's mistake gives a message, never a traceback."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    as_json = "--json" in arguments
    screen.set_up_logging()
    try:
        outcome = app(args=arguments, prog_name="bakeoff", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except BakeoffError as error:
        screen.show_error(error, as_json=as_json)
        return error.exit_code
    except click.ClickException as error:
        usage = RecipeError("command line", found=error.format_message(), expected="a command as --help shows it")
        screen.show_error(usage, as_json=as_json)
        return usage.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
