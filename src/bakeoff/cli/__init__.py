"""The command line: `bakeoff VERB ... [key=value ...]`."""

import os
import signal
import sys

import typer

from bakeoff.cli import ranks, screen
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
        devices, words = ranks.split(arguments)
        if ranks.are_many():
            ranks.refuse_more(devices)
            return _among_ranks(words)
        if devices is not None and (num := _num_ranks(devices, words)) > 1:
            from bakeoff.launch import torchrun

            return torchrun.launch(num, words)
        return _command(words)
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


def _num_ranks(devices: str, words: list[str]) -> int:
    on_cpu = any(word.removeprefix("--") == "device=cpu" for word in words)
    return ranks.count(devices, verb=next(iter(words), ""), on_cpu=on_cpu)


def _command(arguments: list[str]) -> int:
    outcome = app(args=arguments or ["--help"], prog_name="bakeoff", standalone_mode=False)
    return outcome if isinstance(outcome, int) else 0


def _among_ranks(arguments: list[str]) -> int:
    """Run a command as one of several ranks: the first does it, the others what it asks of them."""
    from bakeoff.training import ranks as others

    try:
        if others.is_follower():
            others.leave(ranks.follow(arguments))
        others.join()
        try:
            ranks.refuse_others(next(iter(arguments), ""))
            code = _command(arguments)
        except BakeoffError:
            others.part()  # they have met it as well
            raise
        others.part()
        others.leave(code)
    except Exception as error:
        if not others.is_loss(error):
            raise
        os._exit(others.LOSS)  # what is left of the ranks' connections would be waited for
