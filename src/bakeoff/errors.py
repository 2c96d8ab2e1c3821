"""Errors a person can act on: where, what was found, what was expected, what was probably meant.

    BakeoffError            1  failed
    |- RecipeError          2  usage or recipe
    |- DataError            3  data missing, damaged or unsuitable
    |- Diverged             4  the loss or a gradient left the finite numbers
    |- StorageError         5  disk full, read-only, not writable
    |- RunLocked            6  another process holds the run
    |- ResumeRefused        7  resuming would not continue the same run
    |- VerificationFailed   8  a result does not survive its own check
    `- Interrupted   130, 143  stopped by a signal, after a saved checkpoint

The number is the exit code of the command line.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

_DIGITS = re.compile(r"[0-9]+")


class BakeoffError(Exception):
    """Say in one message what is wrong and how to mend it.

    Args:
        where: the key, file or step concerned.
        found: what stood there.
        expected: what would have been right.
        hint: what was probably meant, or what to do next.
    """

    exit_code = 1

    def __init__(self, where: str, *, found: str, expected: str, hint: str = "") -> None:
        self.where, self.found, self.expected, self.hint = where, found, expected, hint
        super().__init__(f"{where}: found {found}; expected {expected}." + (f" {hint}" if hint else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        """Let an error travel to another process: its own class need not take what its base takes."""
        return _again, (type(self), str(self), self.__dict__.copy())

    def inside(self, place: str) -> "BakeoffError":
        """Return the same error with the larger place in which it stands, such as an arm of a study, before its own."""
        return type(self)(f"{place}: {self.where}", found=self.found, expected=self.expected, hint=self.hint)


def _again(kind: type[BakeoffError], message: str, fields: dict[str, Any]) -> BakeoffError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(fields)
    return error


class RecipeError(BakeoffError):
    """A command line, recipe or name that cannot mean anything."""

    exit_code = 2


class DataError(BakeoffError):
    """Data that is missing, damaged or does not fit the recipe."""

    exit_code = 3


class Diverged(BakeoffError):
    """Training left the finite numbers."""

    exit_code = 4


class StorageError(BakeoffError):
    """The disk refused: full, read-only or not writable."""

    exit_code = 5


class RunLocked(BakeoffError):
    """Another process holds the run."""

    exit_code = 6


class ResumeRefused(BakeoffError):
    """Going on would not continue the same run."""

    exit_code = 7


class VerificationFailed(BakeoffError):
    """A result did not survive its own check."""

    exit_code = 8


class Interrupted(BakeoffError):
    """A signal stopped the run; its state is saved."""

    def __init__(self, signal_number: int, *, where: str, hint: str) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(where, found="a signal to stop", expected="the run to finish", hint=hint)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'x'?" for the known name closest to `name`, or an empty string."""
    matches = get_close_matches(name, list(known), n=5, cutoff=0.5)
    # Of names that differ in a number only, the nearest number is meant: resnet_21 is nearer to 20 than to 110.
    alike = [match for match in matches if _DIGITS.sub("", match) == _DIGITS.sub("", name)]
    if _DIGITS.search(name) and alike:
        matches = sorted(alike, key=lambda match: abs(_number(match) - _number(name)))
    return f"Did you mean '{matches[0]}'?" if matches else ""


def _number(name: str) -> int:
    return int("".join(_DIGITS.findall(name)) or 0)


def refuse_unknown(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise for the first of the given names that is not known, listing those that are.

    Raises:
        RecipeError: naming the stranger, all known names and the nearest of them.
    """
    names = list(known)
    for name in map(str, given):
        if name not in names:
            expected = f"one of {', '.join(names)}" if names else "nothing here"
            raise RecipeError(where, found=f"'{name}'", expected=expected, hint=nearest(name, names))
