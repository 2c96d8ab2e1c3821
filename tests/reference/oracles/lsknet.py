"""LSKNet-T with both stems, against its official class."""

from torch import nn

from bakeoff.models.lsknet import lsknet
from tests.reference.oracles.mscan import settled
from tests.reference.parity import Recorded


def recorded(file: str, *, image_size: int, stem: str) -> Recorded:
    def ours() -> nn.Module:
        network = lsknet(num_classes=10, in_channels=3, image_size=image_size, stem=stem)
        return settled(network, image_size=image_size)

    return Recorded(model="lsknet_tiny", by=f"LSKNet, {stem} stem", ours=ours, file=file, image_size=image_size)


ORACLES = [
    recorded("lsknet_tiny", image_size=16, stem="small"),
    recorded("lsknet_tiny_imagenet", image_size=64, stem="imagenet"),
]
