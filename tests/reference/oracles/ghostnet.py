"""GhostNet against timm's in both forms and the authors'; Ghost-ResNet out of the authors' modules; copies by hand."""

from functools import partial

import timm
import torch
from torch import Tensor, nn

from bakeoff.models.ghostnet import ghost_resnet, ghostnet
from tests.reference.by_hand import ByHand
from tests.reference.parity import Oracle, Recorded

OFFICIAL = "huawei-noah/Efficient-AI-Backbones at f90e129"


class Gate(nn.Module):
    """The hard sigmoid in full precision; torch's, which timm calls, rounds the sixth of its gradient to single."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 3).clamp(0, 6) / 6


def theirs(*, stem: str) -> nn.Module:
    network = timm.create_model("ghostnet_100", num_classes=10, drop_rate=0.0)
    for module in network.modules():
        if hasattr(module, "gate"):
            module.gate = Gate()
    if stem == "small":
        first = network.blocks[1][0]
        for convolution in (network.conv_stem, first.conv_dw, first.shortcut[0]):
            convolution.stride = (1, 1)
    return network


class Copies(ByHand):
    """Ghost-ResNet-20 whose modules repeat what their convolution computes."""

    def module(self, x: Tensor, name: str, *, stride: int = 1) -> Tensor:
        half = self.norm(self.conv(x, f"{name}.primary_conv.0", stride=stride), f"{name}.primary_conv.1")
        return half.repeat(1, 2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x, "conv1"), "bn1").clamp(min=0)
        for stage in (1, 2, 3):
            for i in range(3):
                block, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
                y = self.module(x, f"{block}.ghost1", stride=stride).clamp(min=0)
                y = self.module(y, f"{block}.ghost2")
                if stride == 2:
                    x = self.norm(self.conv(x, f"{block}.downsample.0", stride=2), f"{block}.downsample.1")
                x = (x + y).clamp(min=0)
        return torch.einsum("bchw,kc->bk", x, self.tensor("fc.weight")) / x[0, 0].numel() + self.tensor("fc.bias")


def ours(**options: int | str) -> nn.Module:
    return ghost_resnet(num_classes=10, in_channels=3, image_size=32, **options)  # type: ignore[arg-type]


ORACLES: list[Oracle | Recorded] = [
    *(
        Oracle(
            model="ghostnet_100",
            by=f"timm {timm.__version__} ghostnet_100, {stem} stem",
            ours=partial(ghostnet, num_classes=10, in_channels=3, image_size=32, stem=stem),
            theirs=partial(theirs, stem=stem),
            image_size=size,
        )
        for stem, size in (("small", 32), ("imagenet", 64))
    ),
    Recorded(
        model="ghostnet_100",
        by=OFFICIAL,
        ours=partial(ghostnet, num_classes=10, in_channels=3, image_size=32, stem="imagenet"),
        file="ghostnet_100",
        image_size=64,
    ),
    *(
        Recorded(model=name, by=f"modules of {OFFICIAL}", ours=partial(ours, **options), file=name, image_size=16)
        for name, options in {
            "ghost_resnet_20": {"depth": 20},
            "ghost_resnet_32": {"depth": 32},
            "ghost_resnet_56": {"depth": 56},
            "ghost_resnet20_ratio3": {"depth": 20, "ratio": 3},
            "ghost_resnet20_ratio4": {"depth": 20, "ratio": 4},
        }.items()
    ),
    Oracle(
        model="ghostCopy_resnet_20",
        by="a second implementation",
        ours=partial(ours, ratio="copy"),
        theirs=lambda: Copies(ours(ratio="copy")),
        key=ByHand.key,
        image_size=16,
    ),
]
