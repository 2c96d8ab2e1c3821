"""HorNet against the official code's recorded answers, with the paper's stem and with ours in its place."""

from typing import Any

import torch
from torch import nn

from bakeoff.models.hornet import hornet
from tests.reference.parity import Recorded

MICRO: dict[str, Any] = {"widths": (32, 64, 128, 256), "depths": (3, 3, 9, 3)}


def ours(*, stem: str, **options: Any) -> nn.Module:
    with torch.device("meta"):  # the first weights are not needed
        network = hornet(num_classes=10, in_channels=3, image_size=32, stem=stem, **options)
    return network.to_empty(device="cpu")


ORACLES = [
    Recorded(
        model="hornet_tiny",
        by="raoyongming/HorNet hornet_tiny_7x7, small stem",
        ours=lambda: ours(stem="small"),
        file="hornet_tiny",
    ),
    Recorded(
        model="hornet_tiny",
        by="raoyongming/HorNet hornet_tiny_7x7, imagenet stem",
        ours=lambda: ours(stem="imagenet"),
        file="hornet_tiny_imagenet",
        image_size=64,
    ),
    Recorded(
        model="hornet_micro",
        by="raoyongming/HorNet HorNet of that size, small stem",
        ours=lambda: ours(stem="small", **MICRO),
        file="hornet_micro",
    ),
]
