"""Options of a builder, as a person typed them: known, and of the kind that its signature says."""

import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

from bakeoff.errors import RecipeError, refuse_unknown

LARGEST = 10_000  # no depth or width is more, and some lists are as long as a network is deep
PLAIN = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "nothing",
}


def check(builder: Callable[..., object], options: Mapping[str, object]) -> None:
    """Refuse what the builder does not know or cannot be given.

    Raises:
        RecipeError: an unknown option, with the nearest; a value of the wrong kind.
    """
    refuse_unknown("model", options, inspect.getfullargspec(builder).kwonlydefaults or ())
    hints = get_type_hints(builder)
    for key, value in options.items():
        if not _fits(value, hints[key]):
            most = f", at most {LARGEST:,}" if isinstance(value, int) and abs(value) > LARGEST else ""
            raise RecipeError(f"model.{key}", found=f"{value!r}", expected=_words(hints[key]) + most)


def _fits(value: object, hint: Any) -> bool:  # noqa: ANN401 - type hints have no type
    """Tell whether a value out of YAML is what the type hint says; a whole number is a number as well."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, kind) for kind in inner)
    if origin in (Sequence, tuple, list):
        return isinstance(value, list | tuple) and all(_fits(item, inner[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, Mapping)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
    return hint in (Any, object) or isinstance(value, hint)


def _words(hint: Any) -> str:  # noqa: ANN401 - as above
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(kind) for kind in inner)
    if origin in (Sequence, tuple, list):
        return f"a list, each {_words(inner[0])}"
    if origin is Mapping:
        return "a section with a name"
    return PLAIN.get(hint, str(hint))
