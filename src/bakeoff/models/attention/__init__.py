"""Attention as a plug-in, one paper a file: modules that map [b c h w] to the same shape; their table, and `build`."""

import inspect
import math
from collections.abc import Callable, Mapping

from torch import nn

from bakeoff.errors import RecipeError, refuse_unknown
from bakeoff.models.attention.cbam import CBAM
from bakeoff.models.attention.coordinate import CoordinateAttention
from bakeoff.models.attention.eca import ECA
from bakeoff.models.attention.lsk import LSK
from bakeoff.models.attention.simam import SimAM
from bakeoff.models.attention.squeeze_excite import SqueezeExcite
from bakeoff.models.options import LARGEST

__all__ = ["ATTENTIONS", "build"]

ATTENTIONS: dict[str, Callable[..., nn.Module]] = {
    "eca": ECA,
    "se": SqueezeExcite,
    "cbam": CBAM,
    "simam": SimAM,
    "coordinate": CoordinateAttention,
    "lsk": LSK,
}


def build(spec: str | Mapping[str, object], *, width: int) -> nn.Module:
    """Build a plug-in for `width` channels; "none" is the identity.

    Args:
        spec: a name of the table, or a mapping of its name and options, such as
            {"name": "eca", "kernel_size": 5}.
        width: channels of the maps that it will get.

    Raises:
        RecipeError: an unknown name or option, a value that the plug-in cannot use.
    """
    name, options = _read(spec)
    if name == "none":
        refuse_unknown("model.attention", options, ())
        return nn.Identity()
    refuse_unknown("model.attention", [name], ["none", *ATTENTIONS])
    plugin = ATTENTIONS[name]
    defaults = inspect.getfullargspec(plugin).kwonlydefaults or {}
    refuse_unknown("model.attention", options, defaults)
    for key, value in options.items():
        _refuse_value(key, value, default=defaults[key])
    return plugin(width, **options)


def _read(spec: str | Mapping[str, object]) -> tuple[str, dict[str, object]]:
    options: dict[str, object] = {"name": spec} if isinstance(spec, str) else {}
    if isinstance(spec, Mapping):
        options = {str(key): value for key, value in spec.items()}
    name = options.pop("name", None)
    if not isinstance(name, str):
        expected = "a name, or a mapping with a name and options, such as {name: eca, kernel_size: 5}"
        raise RecipeError("model.attention", found=repr(spec), expected=expected)
    return name, options


def _refuse_value(key: str, value: object, *, default: object) -> None:
    """Refuse what is no number of the default's kind; a plug-in itself looks at what is more than that."""
    if isinstance(default, int):
        fits, expected = isinstance(value, int) and 1 <= value <= LARGEST, "a whole number, 1 or more"
    elif isinstance(default, float):
        fits, expected = isinstance(value, int | float) and 0 < value < math.inf, "a number above 0"
    else:
        return
    if not fits or isinstance(value, bool):
        raise RecipeError(f"model.attention.{key}", found=repr(value), expected=expected)
