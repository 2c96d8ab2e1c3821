"""What stands on a command line: names, and settings as `key=value` or `--key value`."""

import re
from collections.abc import Sequence

from bakeoff.errors import RecipeError

_SETTING = re.compile(r"[A-Za-z_][\w.]*=")


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the words of a command line into names and `key=value` settings.

    `--key value`, `--key=value` and `--key` (which means true) are settings as well; `-` in a key is `_`.
    """
    names: list[str] = []
    settings: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--") and len(word) > 2:
            key, equals, value = word[2:].partition("=")
            if not equals:
                value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
            settings.append(f"{key.replace('-', '_')}={value}")
        elif _SETTING.match(word):
            settings.append(word)
        else:
            names.append(word)
    return names, settings


def one(names: Sequence[str], what: str, example: str) -> str:
    """Return the only name, or say what the command line should have had."""
    if len(names) != 1:
        found = f"{len(names)} names ({', '.join(names)})" if names else "nothing"
        raise RecipeError("command line", found=found, expected=f"one {what}", hint=f"For example: {example}")
    return names[0]
