"""The four networks of the improved ResNet against a second implementation, written with functions only."""

from functools import partial

import torch
from torch import Tensor, nn

from bakeoff.models.improved_resnet import improved_resnet
from tests.reference.by_hand import ByHand
from tests.reference.parity import Oracle


class Functions(ByHand):
    """Nine blocks; which layers one has, and how large, is read off the names and shapes of its tensors."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x, "conv1"), "bn1").clamp(min=0)
        for i in range(9):
            x = self.block(x, f"layer{1 + i // 3}.{i % 3}", stride=2 if i in (3, 6) else 1)
        return torch.einsum("bchw,kc->bk", x, self.tensor("fc.weight")) / x[0, 0].numel() + self.tensor("fc.bias")

    def block(self, x: Tensor, name: str, *, stride: int) -> Tensor:
        inverted = hasattr(self, self.key(f"{name}.residual.7.weight"))
        middle, last = (3, 6) if inverted else (0, 3)
        y = x
        if inverted:
            y = self.norm(self.conv(y, f"{name}.residual.0"), f"{name}.residual.1").clamp(min=0)
        y = self.norm(self.conv(y, f"{name}.residual.{middle}", stride=stride), f"{name}.residual.{middle + 1}")
        y = self.norm(self.conv(y.clamp(min=0), f"{name}.residual.{last}"), f"{name}.residual.{last + 1}")
        if stride == 2:
            x = self.norm(self.conv(x, f"{name}.downsample.0", stride=2), f"{name}.downsample.1")
        return (x + y).clamp(min=0)


def ours(**options: int) -> nn.Module:
    return improved_resnet(num_classes=10, in_channels=3, image_size=32, **options)  # type: ignore[arg-type]


# With drop-path the network is another one while it trains: here it has none, as when it evaluates.
ORACLES = [
    Oracle(
        model=f"improved_resnet20_convnext{ablation}",
        by="a second implementation",
        ours=partial(ours, **options),
        theirs=lambda options=options: Functions(ours(**options)),
        key=ByHand.key,
        image_size=16,
    )
    for ablation, options in {
        "": {},
        "_no_droppath": {"drop_path": 0},
        "_std_conv": {"kernel_size": 3, "depthwise": False},
        "_no_inverted": {"inverted": False},
    }.items()
]
