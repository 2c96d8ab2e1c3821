"""CoAtNet-0 against timm's, with its own strides and with those of small pictures; with LSK put into timm's blocks."""

import re
from collections.abc import Callable
from functools import cache

import timm
import torch
from torch import Tensor, nn

from bakeoff.models.coatnet import FROM_TIMM, coatnet
from tests.reference.parity import Oracle


class LSK(nn.Module):
    """The block of LSKNet a second time, its two views side by side in one tensor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(width, width, 5, padding="same", groups=width)
        self.conv_spatial = nn.Conv2d(width, width, 7, padding="same", groups=width, dilation=3)
        self.conv1 = nn.Conv2d(width, width // 2, 1)
        self.conv2 = nn.Conv2d(width, width // 2, 1)
        self.conv_squeeze = nn.Conv2d(2, 2, 7, padding="same")
        self.conv = nn.Conv2d(width // 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        near = self.conv0(x)
        views = torch.stack([self.conv1(near), self.conv2(self.conv_spatial(near))], dim=1)  # [b 2 c/2 h w]
        flat = views.flatten(1, 2)
        weights = self.conv_squeeze(torch.stack([flat.mean(1), flat.max(1).values], dim=1)).sigmoid()
        out: Tensor = x * self.conv(torch.einsum("bnchw,bnhw->bchw", views, weights))
        return out


def theirs(*, image_size: int, small: bool, lsk: bool) -> nn.Module:
    # The tables of the position bias follow what timm believes is the size of the picture.
    network: nn.Module = timm.create_model("coatnet_0_224", num_classes=10, img_size=image_size * (4 if small else 1))
    if small:
        network.get_submodule("stem.conv1").stride = (1, 1)
        first = network.get_submodule("stages.0.blocks.0")
        first.get_submodule("conv2_kxk").stride = (1, 1)
        first.get_submodule("shortcut").pool = nn.Identity()
    if lsk:
        for name, projection in list(network.named_modules()):
            if name.endswith("conv3_1x1") and isinstance(projection, nn.Conv2d):
                both = nn.Sequential(projection, LSK(projection.out_channels))
                network.get_submodule(name.rpartition(".")[0]).conv3_1x1 = both
    return network


@cache
def names(*, lsk: bool) -> dict[str, str]:
    """Return for our names theirs."""
    with torch.device("meta"):
        network = theirs(image_size=32, small=True, lsk=lsk)
    rules = ((r"conv3_1x1\.0\.", "conv3_1x1."), (r"conv3_1x1\.1\.", "attention."), *FROM_TIMM)
    ours = {}
    for name in network.state_dict():
        renamed = name
        for pattern, replacement in rules:
            renamed = re.sub(pattern, replacement, renamed)
        ours[renamed] = name
    return ours


def key(*, lsk: bool) -> Callable[[str], str]:
    return lambda name: names(lsk=lsk)[name]


CASES = [
    ("coatnet_0", 32, "small", False),
    ("coatnet_0", 64, "imagenet", False),
    ("coatnet_0_custom_enhanced", 16, "small", True),
]

ORACLES = [
    Oracle(
        model=model,
        by=f"timm {timm.__version__} coatnet_0_224, {stem} strides{', with LSK' if lsk else ''}",
        ours=lambda size=size, stem=stem, lsk=lsk: coatnet(
            num_classes=10, in_channels=3, image_size=size, stem=stem, attention="lsk" if lsk else "none"
        ),
        theirs=lambda size=size, stem=stem, lsk=lsk: theirs(image_size=size, small=stem == "small", lsk=lsk),
        key=key(lsk=lsk),
        image_size=size,
    )
    for model, size, stem, lsk in CASES
]
