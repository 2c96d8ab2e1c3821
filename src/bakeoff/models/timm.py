"""The networks of PyTorch Image Models, by `timm:NAME`: an extra, and the only door to it.

Nothing is downloaded: they are built with fresh weights, as every network here.

Source: https://github.com/huggingface/pytorch-image-models
"""

from typing import Any

from torch import nn

from bakeoff.catalogue import TIMM
from bakeoff.errors import RecipeError, nearest

# What would read files, or would not give logits.
REFUSED = ("cache_dir", "checkpoint_path", "features_only", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay")


def build(name: str, *, num_classes: int, in_channels: int, image_size: int, **options: Any) -> nn.Module:  # noqa: ANN401 - timm's own
    """Build timm's network of this name (without the prefix), for pictures of this size.

    Raises:
        RecipeError: timm is not installed, has no such network, or cannot use an option.
    """
    where = "model.name"
    try:
        import timm
    except ImportError:
        expected, hint = "PyTorch Image Models installed", "pip install 'bakeoff[timm]'"
        raise RecipeError(where, found=f"'{TIMM}{name}' without timm", expected=expected, hint=hint) from None
    if not timm.is_model(name):
        hint = nearest(name, timm.list_models())
        raise RecipeError(where, found=f"'{TIMM}{name}'", expected="a network that timm has", hint=hint)
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
