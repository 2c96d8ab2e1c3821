"""CSPResNet-50 against timm's, with both beginnings."""

import timm
from torch import nn

from bakeoff.models.cspresnet import cspresnet
from tests.reference.parity import Oracle


def theirs(*, stem: str) -> nn.Module:
    network: nn.Module = timm.create_model("cspresnet50", num_classes=10)
    if stem == "small":
        network.stem.conv1.conv.stride = (1, 1)
        network.stem.pool = nn.Identity()
    return network


def key(ours: str) -> str:
    if ours.startswith("layer"):
        stage, rest = ours.removeprefix("layer").split(".", 1)
        return f"stages.{int(stage) - 1}.{rest}"
    return f"head.{ours}" if ours.startswith("fc.") else ours


ORACLES = [
    Oracle(
        model="cspresnet50",
        by=f"timm {timm.__version__} cspresnet50, {stem} stem",
        ours=lambda stem=stem: cspresnet(num_classes=10, in_channels=3, image_size=32, stem=stem),
        theirs=lambda stem=stem: theirs(stem=stem),
        key=key,
        image_size=size,
    )
    for stem, size in (("small", 16), ("imagenet", 64))
]
