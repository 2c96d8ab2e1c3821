"""ResNet-10, 18, 34 and 50 against torchvision's, with both stems."""

import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from bakeoff import models
from tests.reference.parity import Oracle


def theirs(depth: int, *, stem: str) -> nn.Module:
    with torch.device("meta"):  # its own first weights are not needed
        if depth == 10:  # it has the parts, not the name
            network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)
        else:
            network = getattr(torchvision.models, f"resnet{depth}")(num_classes=10)
        if stem == "small":
            network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            network.maxpool = nn.Identity()
    return network.to_empty(device="cpu")


VERSION = torchvision.__version__.partition("+")[0]
CALLED = {10: "ResNet of one BasicBlock a stage"}
CASES = [
    *((depth, "small", 16) for depth in (10, 18, 34, 50)),
    *((depth, "imagenet", 64) for depth in (10, 18, 50)),
]

ORACLES = [
    Oracle(
        model=f"resnet{depth}",
        by=f"torchvision {VERSION} {CALLED.get(depth, f'resnet{depth}')}, {stem} stem",
        ours=lambda depth=depth, stem=stem: models.build(f"resnet{depth}", num_classes=10, stem=stem),
        theirs=lambda depth=depth, stem=stem: theirs(depth, stem=stem),
        image_size=size,
    )
    for depth, stem, size in CASES
]
