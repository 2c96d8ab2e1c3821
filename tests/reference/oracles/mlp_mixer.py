"""MLP-Mixer against timm's, at our patches and at the official ones."""

import timm
import torch
from timm.models.mlp_mixer import MlpMixer
from torch import nn

from bakeoff.models.mlp_mixer import mlp_mixer
from tests.reference.parity import Oracle


def ours(*, image_size: int, **options: int) -> nn.Module:
    return mlp_mixer(num_classes=10, in_channels=3, image_size=image_size, **options)  # type: ignore[arg-type]


def theirs(width: int, depth: int) -> nn.Module:
    with torch.device("meta"):  # its own first weights are not needed
        network = MlpMixer(num_classes=10, img_size=32, patch_size=4, num_blocks=depth, embed_dim=width)
    return network.to_empty(device="cpu")


def official() -> nn.Module:
    with torch.device("meta"):
        network = timm.create_model("mixer_b16_224", num_classes=10, img_size=64)
        network.blocks = network.blocks[:2]  # sixty million numbers in float64 are ten seconds
    return network.to_empty(device="cpu")


def key(ours: str) -> str:
    return ours.replace("stem.", "stem.proj.")


ORACLES = [
    Oracle(
        model="mlp_mixer_tiny",
        by=f"timm {timm.__version__} MlpMixer, patch 4",
        ours=lambda: ours(image_size=32),
        theirs=lambda: theirs(192, 12),
        key=key,
    ),
    Oracle(
        model="mlp_mixer_b16",
        by=f"timm {timm.__version__} MlpMixer, patch 4, two blocks",
        ours=lambda: ours(image_size=32, width=768, depth=2),
        theirs=lambda: theirs(768, 2),
        key=key,
    ),
    Oracle(
        model="mlp_mixer_b16",
        by=f"timm {timm.__version__} mixer_b16_224 at 64 px, two blocks",
        ours=lambda: ours(image_size=64, width=768, depth=2, patch_size=16),
        theirs=official,
        key=key,
        image_size=64,
    ),
]
