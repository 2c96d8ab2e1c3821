"""ResNeSt-50 and -14 against timm's, with both beginnings, other radices; -50 against the official code's answers."""

from collections.abc import Callable

import timm
import torch
from torch import nn

from bakeoff.models.resnest import resnest
from tests.reference.parity import Oracle, Recorded


def theirs(depth: int, *, stem: str, **options: object) -> nn.Module:
    network: nn.Module = timm.create_model(f"resnest{depth}d", num_classes=10, **options)
    if stem == "small":
        network.conv1[0].stride = (1, 1)
        network.maxpool = nn.Identity()
    return network


def steady(make: Callable[[], nn.Module]) -> nn.Module:
    """Make a network whose answers do not hang on the last digit.

    The attention normalises over the batch: of two pictures it sees little but which is larger, and sixteen blocks
    magnify a difference of 1e-15 in the pictures to 2e-6 in the gradients, in their network as in ours. So every
    picture also comes shifted, three times, and the residual branches count a quarter.
    """
    network = make()
    network.register_forward_pre_hook(lambda _, args: torch.cat([args[0].roll(3 * i, -1) for i in range(4)]))
    for name, module in network.named_modules():
        if name.endswith("bn3"):
            module.register_forward_hook(lambda _, args, out: out / 4)
    return network


def our_50(stem: str) -> nn.Module:
    return steady(lambda: resnest(num_classes=10, in_channels=3, image_size=32, stem=stem))


ORACLES: list[Oracle | Recorded] = [
    *(
        Oracle(
            model="resnest50d",
            by=f"timm {timm.__version__} resnest50d, {stem} stem",
            ours=lambda stem=stem: our_50(stem),
            theirs=lambda stem=stem: steady(lambda: theirs(50, stem=stem)),
            image_size=size,
        )
        for stem, size in (("small", 16), ("imagenet", 64))
    ),
    *(
        Oracle(
            model="resnest14d",
            by=f"timm {timm.__version__} resnest14d, {stem} stem",
            ours=lambda stem=stem: resnest(num_classes=10, in_channels=3, image_size=32, depth=14, stem=stem),
            theirs=lambda stem=stem: theirs(14, stem=stem),
            image_size=size,
        )
        for stem, size in (("small", 16), ("imagenet", 64))
    ),
    *(
        Oracle(
            model="resnest14d",
            by=f"timm {timm.__version__} resnest14d, radix {radix}",
            ours=lambda radix=radix: resnest(num_classes=10, in_channels=3, image_size=32, depth=14, radix=radix),
            theirs=lambda radix=radix: theirs(14, stem="small", block_args={"radix": radix, "avd": True}),
            image_size=16,
        )
        for radix in (1, 4)
    ),
    Recorded(
        model="resnest50d",
        by="zhanghang1989/ResNeSt at 1dfb3e8",
        ours=lambda: our_50("imagenet"),
        file="resnest50d",
        image_size=64,
    ),
]
