"""Batch norm with what follows it: one pass of ours must be torch's three, in float32, but for bfloat16's rounding."""

import copy
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.models import native
from bakeoff.models.norms import Activation, norm
from tests.models.made_maps import apart, half, needs_kernels

HALF = 2.0**-8
CASES = [("none", False), ("none", True), ("relu", False), ("relu", True), ("gelu", False), ("gelu", True)]


def by_torch(layer: nn.Module, x: Tensor, add: Tensor | None, activation: str) -> Tensor:
    z: Tensor = layer(x) if add is None else layer(x) + add
    return {"none": lambda: z, "relu": lambda: F.relu(z), "gelu": lambda: F.gelu(z, approximate="tanh")}[activation]()


def layer_of(channels: int) -> nn.BatchNorm2d:
    torch.manual_seed(channels)
    layer = nn.BatchNorm2d(channels, momentum=0.3)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


@needs_kernels
@pytest.mark.parametrize(("activation", "adds"), CASES)
@pytest.mark.parametrize("channels", [16, 48, 256])
@pytest.mark.parametrize("size", [(1, 2), (7, 9), (20, 20)])
@pytest.mark.parametrize("threads", [1, 2])
def test_training_is_torchs(
    activation: Activation, adds: bool, channels: int, size: tuple[int, int], threads: int
) -> None:
    ours = layer_of(channels)
    theirs = copy.deepcopy(ours)
    x, add = (half(5, channels, *size, seed=seed).requires_grad_() for seed in (1, 2))
    wide, wide_add = (t.detach().float().requires_grad_() for t in (x, add))
    gradient = half(5, channels, *size, seed=3)
    torch.set_num_threads(threads)
    try:
        with mock.patch.object(native, "call", wraps=native.call) as called:
            found = norm(ours, x * 2 + 1, add=add if adds else None, activation=activation)
            found.backward(gradient)
        assert called.call_count == 2
    finally:
        torch.set_num_threads(1)
    expected = by_torch(theirs, (wide.bfloat16() * 2 + 1).float(), wide_add if adds else None, activation)
    expected.backward(gradient.float())
    assert apart(found, expected) < HALF
    assert apart(x.grad, wide.grad) < 2 * HALF  # type: ignore[arg-type]
    if adds:
        assert apart(add.grad, wide_add.grad) < 2 * HALF  # type: ignore[arg-type]
    for name in ("weight", "bias"):
        assert apart(getattr(ours, name).grad, getattr(theirs, name).grad) < 1e-4
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-5)


@needs_kernels
@pytest.mark.parametrize(("activation", "adds"), CASES)
def test_evaluation_is_torchs(activation: Activation, adds: bool) -> None:
    layer = layer_of(32)
    layer(torch.randn(8, 32, 5, 5))
    layer.eval()
    x, add = half(3, 32, 6, 6), half(3, 32, 6, 6, seed=1)
    with torch.no_grad():
        found = norm(layer, x.clone(), add=add if adds else None, activation=activation)
        expected = by_torch(layer, x.float(), add.float() if adds else None, activation)
    assert apart(found, expected) < HALF


@pytest.mark.parametrize(("activation", "adds"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_elsewhere_it_is_torch_to_the_bit(activation: Activation, adds: bool, dtype: torch.dtype) -> None:
    layer = layer_of(8).to(dtype)
    x, add = half(3, 8, 4, 4).to(dtype), half(3, 8, 4, 4, seed=1).to(dtype)
    found = norm(copy.deepcopy(layer), x, add=add if adds else None, activation=activation)
    assert torch.equal(found, by_torch(layer, x, add if adds else None, activation))


def test_what_stands_in_the_place_of_a_norm_is_called() -> None:
    x = half(2, 16, 3, 3)
    assert torch.equal(norm(nn.Identity(), x.clone(), activation="relu"), F.relu(x))


@needs_kernels
@pytest.mark.parametrize(("activation", "adds"), CASES)
def test_a_nan_is_passed_on(activation: Activation, adds: bool) -> None:
    x = half(2, 16, 3, 3)
    x[0, 3, 1, 1] = float("nan")
    found = norm(layer_of(16), x, add=half(2, 16, 3, 3) if adds else None, activation=activation)
    assert found[:, 3].isnan().all()
    assert not found[:, :3].isnan().any()


@needs_kernels
def test_large_numbers_do_not_overflow_in_the_activation() -> None:
    layer = nn.BatchNorm2d(16)
    nn.init.constant_(layer.weight, 1e4)
    x = half(4, 16, 4, 4)
    found = norm(layer, x, activation="gelu")
    expected = by_torch(copy.deepcopy(layer), x.float(), None, "gelu")
    assert found.isfinite().all()
    assert apart(found, expected) < HALF
