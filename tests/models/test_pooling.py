"""Halving by the largest of four must be torch's, to the bit: numbers are chosen, none is computed."""

import pytest
import torch
import torch.nn.functional as F

from bakeoff.models.pooling import halve
from tests.models.made_maps import half, needs_kernels


@needs_kernels
@pytest.mark.parametrize("size", [(2, 2), (7, 9), (8, 6), (5, 2), (31, 31)])
@pytest.mark.parametrize("channels", [16, 80])
def test_result_and_gradient_are_torchs(size: tuple[int, int], channels: int) -> None:
    x = half(3, channels, *size).mul(2).round().div(2)  # many are equal: which of them counts is part of it
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = halve(ours), F.max_pool2d(theirs, 2)
    gradient = half(*found.shape, seed=1)
    found.backward(gradient)
    expected.backward(gradient)
    assert "Halve" in type(found.grad_fn).__name__
    assert torch.equal(found, expected)
    assert torch.equal(ours.grad, theirs.grad)  # type: ignore[arg-type]


@needs_kernels
def test_a_nan_is_the_largest() -> None:
    x = half(1, 16, 4, 4)
    x[0, 0, 1, 0] = x[0, 1, 2, 3] = float("nan")
    assert torch.equal(halve(x).isnan(), F.max_pool2d(x, 2).isnan())


def test_elsewhere_it_is_torchs() -> None:
    x = torch.randn(2, 3, 5, 7)
    assert torch.equal(halve(x), F.max_pool2d(x, 2))
