"""ConvNeXt against timm's and torchvision's, with the paper's stem and with ours in its place."""

import re
from collections.abc import Callable
from typing import Any

import timm
import torch
import torchvision
from torch import nn

from bakeoff.models.convnext import FROM_TIMM, FROM_TORCHVISION, convnext
from bakeoff.models.frames import PATCHES
from tests.reference.parity import Oracle

OPTIONS: dict[str, dict[str, Any]] = {
    "convnext_tiny": {},
    "convnext_nano": {"depths": (2, 2, 8, 2), "widths": (80, 160, 320, 640)},
    "convnext_atto": {"depths": (2, 2, 6, 2), "widths": (40, 80, 160, 320)},
}
RULES = {"timm": FROM_TIMM, "torchvision": FROM_TORCHVISION}
VERSIONS = {"timm": timm.__version__, "torchvision": torchvision.__version__.partition("+")[0]}


def ours(name: str, *, stem: str) -> nn.Module:
    with torch.device("meta"):  # the first weights are not needed
        network = convnext(num_classes=10, in_channels=3, image_size=32, stem=stem, **OPTIONS[name])
    return network.to_empty(device="cpu")


def theirs(name: str, *, library: str, stem: str) -> nn.Module:
    with torch.device("meta"):
        if library == "timm":
            network = timm.create_model(name, num_classes=10)
            start = network.stem
        else:  # drops blocks unless told otherwise
            network = torchvision.models.get_model(name, num_classes=10, stochastic_depth_prob=0.0)
            start = network.features[0]
        size, stride, padding = PATCHES[stem]
        start[0] = nn.Conv2d(3, start[0].out_channels, size, stride=stride, padding=padding)
    return network.to_empty(device="cpu")


def key_of(name: str, *, library: str) -> Callable[[str], str]:
    """Turn their names into ours by the rules that load their weights, and look them up the other way round."""
    renamed: dict[str, str] = {}

    def key(mine: str) -> str:
        if not renamed:  # made when first asked for: importing this file builds nothing
            for given in theirs(name, library=library, stem="small").state_dict():
                new = given
                for pattern, replacement in RULES[library]:
                    new = re.sub(pattern, replacement, new)
                renamed[new] = given
        return renamed[mine]

    return key


CASES = [
    ("convnext_tiny", "timm", "small", 32),
    ("convnext_tiny", "torchvision", "small", 32),
    ("convnext_tiny", "torchvision", "imagenet", 64),
    ("convnext_nano", "timm", "small", 32),
    ("convnext_atto", "timm", "small", 32),
    ("convnext_atto", "timm", "3x3", 16),
]

ORACLES = [
    Oracle(
        model=name,
        by=f"{library} {VERSIONS[library]} {name}, {stem} stem",
        ours=lambda name=name, stem=stem: ours(name, stem=stem),
        theirs=lambda name=name, library=library, stem=stem: theirs(name, library=library, stem=stem),
        key=key_of(name, library=library),
        image_size=size,
    )
    for name, library, stem, size in CASES
]
