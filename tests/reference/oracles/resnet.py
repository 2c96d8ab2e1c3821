"""ResNet-18, 34 and 50 against torchvision's, with both stems."""

import torch
import torchvision
from torch import nn

from bakeoff import models
from tests.reference.parity import Oracle


def theirs(depth: int, *, stem: str) -> nn.Module:
    with torch.device("meta"):  # its own first weights are not needed
        network: nn.Module = getattr(torchvision.models, f"resnet{depth}")(num_classes=10)
        if stem == "small":
            network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            network.maxpool = nn.Identity()
    return network.to_empty(device="cpu")


CASES = [(18, "small", 16), (34, "small", 16), (50, "small", 16), (18, "imagenet", 64), (50, "imagenet", 64)]

ORACLES = [
    Oracle(
        model=f"resnet{depth}",
        by=f"torchvision {torchvision.__version__.partition('+')[0]} resnet{depth}, {stem} stem",
        ours=lambda depth=depth, stem=stem: models.build(f"resnet{depth}", num_classes=10, stem=stem),
        theirs=lambda depth=depth, stem=stem: theirs(depth, stem=stem),
        image_size=size,
    )
    for depth, stem, size in CASES
]
