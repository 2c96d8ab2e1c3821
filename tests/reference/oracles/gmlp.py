"""gMLP-Ti against timm's, at our patch and at the official one."""

import re

import timm
import torch
from timm.layers import GatedMlp
from timm.models.mlp_mixer import MlpMixer, SpatialGatingBlock
from torch import nn

from bakeoff.models.gmlp import gmlp
from tests.reference.parity import Oracle


def theirs() -> nn.Module:
    with torch.device("meta"):  # its own first weights are not needed
        network = MlpMixer(
            num_classes=10,
            img_size=32,
            patch_size=4,
            num_blocks=30,
            embed_dim=128,
            mlp_ratio=6,
            block_layer=SpatialGatingBlock,
            mlp_layer=GatedMlp,
        )
    return network.to_empty(device="cpu")


def official() -> nn.Module:
    with torch.device("meta"):
        network = timm.create_model("gmlp_ti16_224", num_classes=10, img_size=64)
    return network.to_empty(device="cpu")


def key(ours: str) -> str:
    return re.sub(r"^(blocks\.\d+\.)(fc|gate)", r"\1mlp_channels.\2", ours.replace("stem.", "stem.proj."))


ORACLES = [
    Oracle(
        model="gmlp_tiny",
        by=f"timm {timm.__version__} MlpMixer of gMLP's blocks, patch 4",
        ours=lambda: gmlp(num_classes=10, in_channels=3, image_size=32),
        theirs=theirs,
        key=key,
    ),
    Oracle(
        model="gmlp_tiny",
        by=f"timm {timm.__version__} gmlp_ti16_224 at 64 px",
        ours=lambda: gmlp(num_classes=10, in_channels=3, image_size=64, patch_size=16),
        theirs=official,
        key=key,
        image_size=64,
    ),
]
