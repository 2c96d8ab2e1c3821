"""Maps as the kernels for a processor take them: bfloat16, channels-last."""

import pytest
import torch
from torch import Tensor

from bakeoff.models import native

needs_kernels = pytest.mark.skipif(native.library() is None, reason="no compiler, or no bfloat16 in hardware")
needs_products = pytest.mark.skipif(not native.multiplies(), reason="no kernels for products")


def half(*shape: int, seed: int = 0) -> Tensor:
    """Draw numbers in bfloat16, channels-last."""
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return drawn.bfloat16().to(memory_format=torch.channels_last)


def apart(ours: Tensor, theirs: Tensor) -> float:
    """Return the distance, relative to the length of theirs."""
    difference = ours.detach().double() - theirs.detach().double()
    return float(difference.norm() / theirs.detach().double().norm())
