"""The networks of PyTorch Image Models, by `timm:NAME`: an extra, and the only door to it.

Those that are trained here start from fresh weights, as every network here; only a teacher comes with its own.

Source: https://github.com/huggingface/pytorch-image-models
"""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from torch import nn

from bakeoff.catalogue import TIMM
from bakeoff.errors import DataError, RecipeError, nearest

# What would read files, or would not give logits.
REFUSED = ("cache_dir", "checkpoint_path", "features_only", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay")


def build(name: str, *, num_classes: int, in_channels: int, image_size: int, **options: Any) -> nn.Module:  # noqa: ANN401 - timm's own
    """Build timm's network of this name (without the prefix), for pictures of this size.

    Raises:
        RecipeError: timm is not installed, has no such network, or cannot use an option.
    """
    timm = require(name)
    for key in REFUSED:
        if key in options:
            expected = "an option of the network itself: it is built fresh, and gives logits"
            raise RecipeError(f"model.{key}", found=f"{options[key]!r}", expected=expected)
    try:
        cfg = timm.get_pretrained_cfg(name)
        if cfg is not None and cfg.fixed_input_size:  # position tables: it has to know the size when it is built
            options = {"img_size": image_size, **options}
        network = timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=in_channels, **options)
    except Exception as error:  # whatever its many builders raise, it is about what they were given
        found = f"'{TIMM}{name}' with {options} ({type(error).__name__}: {error})"
        raise RecipeError("model", found=found, expected="options that timm can use") from error
    assert isinstance(network, nn.Module)
    return network


def require(name: str) -> ModuleType:
    """Return timm, which has a network of this name (without the prefix).

    Raises:
        RecipeError: timm is not installed, or has no such network.
    """
    where = "model.name"
    timm = _timm(name, where=where)
    if not timm.is_model(name):
        hint = nearest(name, timm.list_models())
        raise RecipeError(where, found=f"'{TIMM}{name}'", expected="a network that timm has", hint=hint)
    return timm


def pretrained(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """Return timm's network of this name with its published weights, and what the weights are for.

    Args:
        name: as `timm.create_model` takes it: a network that has weights, `hf-hub:OWNER/NAME` or `local-dir:PATH`.

    Returns:
        The network, and its card: classes (their names, or their number where that is all that is known), image shape,
        normalisation.

    Raises:
        RecipeError: timm is not installed, or has no such network.
        DataError: it has no weights, or they cannot be had.
    """
    where = "teacher"
    timm = _timm(name, where=where)
    if ":" not in name and not timm.is_model(name):
        hint = nearest(name, timm.list_models(pretrained=True))
        raise RecipeError(where, found=f"'{TIMM}{name}'", expected="a network that timm has", hint=hint)
    try:
        network = timm.create_model(name, pretrained=True)
    except Exception as error:  # whatever its loaders raise: no network, no file, no weights of that name
        line = " ".join(str(error).split())[:200]
        found = f"no weights ({type(error).__name__}: {line})"
        raise DataError(f"{where} {TIMM}{name}", found=found, expected="published weights that can be read") from None
    assert isinstance(network, nn.Module)
    about: Mapping[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    return network, {
        "model": f"{TIMM}{name}",
        "classes": list(about.get("label_names") or ()) or int(network.num_classes),  # type: ignore[arg-type]
        "image_shape": list(about["input_size"]),
        "mean": list(about["mean"]),
        "std": list(about["std"]),
    }


def _timm(name: str, *, where: str) -> ModuleType:
    """Import timm.

    Raises:
        RecipeError: it is not installed.
    """
    try:
        return import_module("timm")
    except ImportError:
        expected, hint = "PyTorch Image Models installed", "pip install 'bakeoff[timm]'"
        raise RecipeError(where, found=f"'{TIMM}{name}' without timm", expected=expected, hint=hint) from None
