"""CCT-7 against answers recorded from the official class: both tokenizers, and positions of sine."""

from bakeoff.models.cct import cct
from tests.reference.parity import Recorded

BY = "SHI-Labs/Compact-Transformers"

ORACLES = [
    Recorded(
        model="cct_7_3x1",
        by=f"{BY} cct_7_3x1_32",
        ours=lambda: cct(num_classes=10, in_channels=3, image_size=32),
        file="cct_7_3x1",
    ),
    Recorded(
        model="cct_7_3x1",
        by=f"{BY} CCT-7/3x1 with sine positions at 16 px",
        ours=lambda: cct(num_classes=10, in_channels=3, image_size=16, positions="sine"),
        file="cct_7_3x1_sine",
        image_size=16,
    ),
    Recorded(
        model="cct_7_3x1",
        by=f"{BY} cct_7_7x2_224 at 64 px",
        ours=lambda: cct(num_classes=10, in_channels=3, image_size=64, stem="imagenet"),
        file="cct_7_7x2",
        image_size=64,
    ),
]
