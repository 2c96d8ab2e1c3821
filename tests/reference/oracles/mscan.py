"""MSCAN-T and its micro form, with the small stem, and MSCAN-T with the official one, against SegNeXt's own class."""

import torch
from torch import nn

from bakeoff.models.mscan import mscan
from tests.formula import numbers
from tests.reference.parity import Recorded

MICRO = {"widths": (32, 64, 160), "depths": (1, 1, 2), "mlp_ratios": (8, 8, 4)}


def settled(network: nn.Module, *, image_size: int) -> nn.Module:
    """Let the batch norms, when the network is told to evaluate, first take the statistics of two other pictures.

    Gates multiply a map by a function of itself. With statistics out of a formula the map is squared block by
    block, until one channel outweighs all others by so much that the logits hardly depend on the picture.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]

    def train(mode: bool = True) -> nn.Module:
        if not mode:
            for norm in norms:
                norm.momentum = 1.0
            with torch.no_grad():
                type(network).train(network)(numbers((2, 3, image_size, image_size), salt=5))
        return type(network).train(network, mode)

    network.train = train  # type: ignore[method-assign]
    return network


def recorded(model: str, file: str, *, image_size: int, stem: str, **options: tuple[int, ...]) -> Recorded:
    def ours() -> nn.Module:
        network = mscan(num_classes=10, in_channels=3, image_size=image_size, stem=stem, **options)  # type: ignore[arg-type]
        return settled(network, image_size=image_size)

    return Recorded(model=model, by=f"SegNeXt MSCAN, {stem} stem", ours=ours, file=file, image_size=image_size)


ORACLES = [
    recorded("mscan_tiny", "mscan_tiny", image_size=16, stem="small"),
    recorded("mscan_tiny", "mscan_tiny_imagenet", image_size=64, stem="imagenet"),
    recorded("segnext_mscan_tiny", "segnext_mscan_tiny", image_size=16, stem="small", **MICRO),
]
