"""One command on several ranks: `devices=N` starts it again as so many; the first of them is the one that speaks."""

import logging
import os
import re
from collections.abc import Sequence

from bakeoff.cli import options
from bakeoff.errors import RecipeError

VERBS = ("train", "resume", "eval")  # what several ranks can do together
_DEVICES = re.compile(r"(--)?devices=(?P<value>.*)|--devices")


def split(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Part the words of a command line into what `devices` is, if it is given, and the rest."""
    rest, devices = list(arguments), None
    for place, word in enumerate(arguments):
        if found := _DEVICES.fullmatch(word):
            follows = found["value"] is None
            devices = (arguments[place + 1] if place + 1 < len(arguments) else "") if follows else found["value"]
            del rest[place : place + 1 + follows]
            break
    return devices, rest


def are_many() -> bool:
    """Tell whether somebody has started several processes of this command."""
    return os.environ.get("WORLD_SIZE", "1") != "1" or os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1"


def count(devices: str, *, verb: str, on_cpu: bool = False) -> int:
    """Return how many ranks `devices` means.

    Raises:
        RecipeError: no number, more GPUs than there are, or a verb that has no use for several.
    """
    from bakeoff.launch import local

    refuse_others(verb)
    cards = len(local.gpus())
    if devices == "all":
        if not cards:
            expected = "a GPU, or devices=N for so many processes on the CPU"
            raise RecipeError("devices", found="'all' where there is no GPU", expected=expected)
        return cards
    if not devices.isascii() or not devices.isdigit() or not int(devices):
        raise RecipeError("devices", found=f"'{devices}'", expected="all, or a whole number from 1 on")
    if cards and not on_cpu and int(devices) > cards:
        raise RecipeError("devices", found=devices, expected=f"at most {cards}, the GPUs of this machine")
    return int(devices)


def refuse_more(devices: str | None) -> None:
    """Refuse ranks of ranks.

    Raises:
        RecipeError: `devices` is given to a command that somebody else has started several times.
    """
    if devices is not None:
        found, expected = f"devices={devices} under a launcher", "the number of processes given to the launcher alone"
        raise RecipeError("command line", found=found, expected=expected)


def refuse_others(verb: str) -> None:
    """Refuse a verb that has no use for several ranks.

    Raises:
        RecipeError: it is one.
    """
    if verb not in VERBS:
        found, expected = f"'{verb}' on several ranks", f"one of {', '.join(VERBS)}"
        hint = "A study runs its runs side by side by itself: --jobs." if verb == "study" else ""
        raise RecipeError("command line", found=found, expected=expected, hint=hint)


def follow(arguments: Sequence[str]) -> int:
    """Do what the first rank does, and say nothing: it speaks for all."""
    from bakeoff.training import ranks

    logging.getLogger("bakeoff").handlers[:] = [logging.NullHandler()]
    for word in arguments:
        options.allow_plugin(word.removeprefix("model="))
    ranks.follow()
    ranks.part()
    return 0
