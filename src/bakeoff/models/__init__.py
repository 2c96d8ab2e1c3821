"""Networks, one paper a file; here the table of their builders, and `build`."""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module

from torch import nn

from bakeoff import catalogue
from bakeoff.errors import RecipeError
from bakeoff.models import timm
from bakeoff.models.cct import cct
from bakeoff.models.coatnet import coatnet
from bakeoff.models.coatnet_cifar import coatnet_cifar
from bakeoff.models.convnext import convnext
from bakeoff.models.cspresnet import cspresnet
from bakeoff.models.ghostnet import ghost_resnet, ghostnet
from bakeoff.models.gmlp import gmlp
from bakeoff.models.hornet import hornet
from bakeoff.models.improved_resnet import improved_resnet
from bakeoff.models.layers import refuse_below_one
from bakeoff.models.lsknet import lsknet
from bakeoff.models.mlp_mixer import mlp_mixer
from bakeoff.models.mscan import mscan
from bakeoff.models.options import check
from bakeoff.models.resnest import resnest
from bakeoff.models.resnet import resnet, small_resnet
from bakeoff.models.speednet import speednet

__all__ = ["BUILDERS", "build"]

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "cct": cct,
    "coatnet": coatnet,
    "coatnet_cifar": coatnet_cifar,
    "convnext": convnext,
    "cspresnet": cspresnet,
    "ghost_resnet": ghost_resnet,
    "ghostnet": ghostnet,
    "gmlp": gmlp,
    "hornet": hornet,
    "improved_resnet": improved_resnet,
    "lsknet": lsknet,
    "mlp_mixer": mlp_mixer,
    "mscan": mscan,
    "resnest": resnest,
    "resnet": resnet,
    "small_resnet": small_resnet,
    "speednet": speednet,
}


def build(name: str, *, num_classes: int, in_channels: int = 3, image_size: int = 32, **options: object) -> nn.Module:
    """Build a network, its weights drawn from torch's global generator, which the caller seeds.

    Args:
        name: a model of the catalogue, a builder, `timm:NAME`, or the import path `package.module:function` of a
            function that takes `num_classes`, `in_channels`, the options, and `image_size` if it wants it.
            Importing runs that module's code: whether that is allowed is the caller's decision.
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: height and width of a picture in pixels: strides, and position tables, follow it.
        options: keyword arguments of the builder, over those of the catalogue.

    Raises:
        RecipeError: an unknown name or option, a value that the builder cannot use.
    """
    refuse_below_one(num_classes=num_classes, in_channels=in_channels, image_size=image_size)
    if name.startswith(catalogue.TIMM):
        name = name.removeprefix(catalogue.TIMM)
        return timm.build(name, num_classes=num_classes, in_channels=in_channels, image_size=image_size, **options)
    if ":" in name:
        return _build_plugin(name, num_classes=num_classes, in_channels=in_channels, image_size=image_size, **options)
    if name not in BUILDERS:
        model = catalogue.find(name)
        name, options = model.builder, _over(model.options, options)
    builder = BUILDERS[name]
    check(builder, options)
    return builder(num_classes=num_classes, in_channels=in_channels, image_size=image_size, **options)


def _over(named: Mapping[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """Lay options over those of a name; a section without a name changes the one that is there."""
    merged = {**named, **given}
    for key, value in given.items():
        below = named.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping) and "name" not in value:
            merged[key] = {**below, **value}
    return merged


def _build_plugin(path: str, *, image_size: int, **arguments: object) -> nn.Module:
    module_name, _, function_name = path.partition(":")
    try:
        function = getattr(import_module(module_name), function_name)
        signature = inspect.signature(function)
        if "image_size" in signature.parameters:
            arguments["image_size"] = image_size
        signature.bind(**arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        expected = f"package.module:function, a function that takes {', '.join(arguments)}"
        raise RecipeError("model.name", found=f"'{path}' ({error})", expected=expected) from error
    network = function(**arguments)
    if not isinstance(network, nn.Module):
        found = f"'{path}', which returned a {type(network).__name__}"
        raise RecipeError("model.name", found=found, expected="a function that returns a torch.nn.Module")
    return network
