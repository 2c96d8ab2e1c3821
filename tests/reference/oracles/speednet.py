"""SpeedNet against a second implementation, written with functions only."""

from functools import partial

import torch
from torch import Tensor, nn

from bakeoff.models.speednet import speednet
from tests.reference.by_hand import ByHand
from tests.reference.parity import Oracle


class Functions(ByHand):
    """Whitening, nine convolutions, one matrix; what is frozen in ours has no gradient here."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        for name, p in network.named_parameters():
            self.tensor(name).requires_grad_(p.requires_grad)

    def forward(self, x: Tensor) -> Tensor:
        x = gelu(torch.einsum("bcijuv,kcuv->bkij", x.unfold(2, 2, 1).unfold(3, 2, 1), self.tensor("whiten.weight")))
        for stage in ("stage1", "stage2", "stage3"):
            x = self.conv(x, f"{stage}.conv1")
            height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
            x = x[:, :, :height, :width].unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5))
            pooled = gelu(self.norm(x, f"{stage}.norm1", momentum=0.4, eps=1e-12))
            x = gelu(self.norm(self.conv(pooled, f"{stage}.conv2"), f"{stage}.norm2", momentum=0.4, eps=1e-12))
            if hasattr(self, self.key(f"{stage}.conv3.weight")):
                x = gelu(pooled + self.norm(self.conv(x, f"{stage}.conv3"), f"{stage}.norm3", momentum=0.4, eps=1e-12))
        return torch.einsum("bc,kc->bk", x.flatten(2).max(2).values, self.tensor("head.weight"))


def gelu(x: Tensor) -> Tensor:
    return x / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))


def ours(depth: int) -> nn.Module:
    return speednet(num_classes=10, in_channels=3, image_size=32, widths=(16, 24, 40), depth=depth)


ORACLES = [
    Oracle(
        model="speednet",
        by=f"a second implementation, {depth} convolutions a stage",
        ours=partial(ours, depth),
        theirs=lambda depth=depth: Functions(ours(depth)),
        key=ByHand.key,
        image_size=24,
    )
    for depth in (2, 3)
]
