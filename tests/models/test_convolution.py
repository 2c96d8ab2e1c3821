"""Convolution with kernels of our own must be torch's in float32, but for the rounding of bfloat16."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from bakeoff.models import convolution, native
from bakeoff.models.convolution import Convolution
from tests.models.made_maps import apart, half, needs_products

HALF = 2.0**-8  # half of bfloat16's last place


def layers(num_in: int, num_out: int, **options: int) -> tuple[Convolution, torch.nn.Conv2d]:
    ours = Convolution(num_in, num_out, bias=False, **options).to(memory_format=torch.channels_last)
    theirs = torch.nn.Conv2d(num_in, num_out, bias=False, **options)
    with torch.no_grad():
        ours.weight.copy_(ours.weight.bfloat16())  # so that both see the same filters
        theirs.weight.copy_(ours.weight)
    return ours, theirs


@needs_products
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(2, 2), (3, 5), (7, 7), (8, 4), (11, 9), (16, 16)])
@pytest.mark.parametrize("num", [1, 37])
def test_result_and_gradients_are_torchs(kernel_size: int, stride: int, size: tuple[int, int], num: int) -> None:
    if min(size) + 2 * (kernel_size // 2) < kernel_size:
        pytest.skip("the filter does not fit")
    ours, theirs = layers(32, 64, kernel_size=kernel_size, stride=stride, padding=kernel_size // 2)
    x = half(num, 32, *size).requires_grad_()
    wide = x.detach().float().requires_grad_()
    with (
        mock.patch.object(convolution, "MOST_PX_BY_VECTORS", 100),
        torch.autocast("cpu", torch.bfloat16),
        mock.patch.object(native, "call", wraps=native.call) as called,
    ):
        found = ours(x)
        gradient = half(*found.shape, seed=1)
        found.backward(gradient)
    assert called.called  # or this would compare torch with itself
    expected = theirs(wide)
    expected.backward(gradient.float())
    assert x.grad is not None
    assert wide.grad is not None
    assert apart(found, expected) < HALF
    assert apart(x.grad, wide.grad) < HALF
    assert apart(ours.weight.grad, theirs.weight.grad) < 1e-5  # type: ignore[arg-type]  # sums are in float32
    assert ours.weight.grad.dtype == torch.float32  # type: ignore[union-attr]


@needs_products
@pytest.mark.parametrize(("num_in", "num_out"), [(32, 32), (96, 32), (64, 160), (160, 96)])
@pytest.mark.parametrize("limit", [0, 8, 100])
@pytest.mark.parametrize("cache_bytes", [1, 2**17, 2**30])
def test_each_route_gives_the_same(num_in: int, num_out: int, limit: int, cache_bytes: int) -> None:
    x, gradient = half(70, num_in, 6, 6), half(70, num_out, 6, 6, seed=1)
    filters = half(num_out, num_in, 3, 3, seed=2)
    ours, _ = layers(num_in, num_out, kernel_size=3, padding=1)
    with torch.no_grad():
        ours.weight.copy_(filters)
    with (
        mock.patch.object(convolution, "MOST_PX", limit),
        mock.patch.object(convolution, "CACHE_BYTES", cache_bytes),
        torch.autocast("cpu", torch.bfloat16),
    ):
        given = x.clone().requires_grad_()
        found = ours(given)
        found.backward(gradient)
    wide, weight = x.float().requires_grad_(), filters.float().requires_grad_()
    expected = F.conv2d(wide, weight, padding=1)
    expected.backward(gradient.float())
    assert apart(found, expected) < HALF
    assert apart(given.grad, wide.grad) < HALF  # type: ignore[arg-type]
    assert apart(ours.weight.grad, weight.grad) < 1e-5  # type: ignore[arg-type]


@needs_products
def test_the_same_bits_come_out_each_time_on_one_and_on_two_threads() -> None:
    def gradients(threads: int) -> list[torch.Tensor]:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        layer, _ = layers(64, 64, kernel_size=3, padding=1)
        x = half(100, 64, 7, 7).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(x)
            found.backward(half(*found.shape, seed=1))
        return [found, x.grad, layer.weight.grad]  # type: ignore[list-item]

    try:
        first, again, other = gradients(1), gradients(1), gradients(2)
    finally:
        torch.set_num_threads(1)
    for one, two, three in zip(first, again, other, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)  # no sum is shared by threads here


@needs_products
@pytest.mark.parametrize("stride", [1, 2])
def test_small_maps_take_ours_without_a_gradient_of_the_filters_too(stride: int) -> None:
    ours, theirs = layers(32, 64, kernel_size=3, stride=stride, padding=1)
    ours.requires_grad_(False)
    x = half(40, 32, 6, 6)
    given, wide = x.clone().requires_grad_(), x.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), mock.patch.object(native, "call", wraps=native.call) as called:
        with torch.inference_mode():
            alone = ours(x)
        assert called.call_count == 1
        found = ours(given)
        gradient = half(*found.shape, seed=1)
        found.backward(gradient)
        few = ours(x[:2])
    assert [given.args[0] for given in called.call_args_list] == ["convolve"] * 3  # and of two pictures torch's
    expected = theirs(wide)
    expected.backward(gradient.float())
    assert torch.equal(alone, found)
    assert apart(found, expected) < HALF
    assert apart(few, expected[:2]) < HALF
    assert apart(given.grad, wide.grad) < HALF  # type: ignore[arg-type]
    assert ours.weight.grad is None


def test_what_the_kernels_do_not_take_is_torchs_to_the_bit() -> None:
    for dtype, options in [(torch.float32, {}), (torch.float64, {"dilation": 2}), (torch.bfloat16, {"groups": 2})]:
        layer = Convolution(32, 32, 3, **options).to(dtype)  # type: ignore[arg-type]
        x = half(2, 32, 8, 8).to(dtype)
        expected = F.conv2d(x, layer.weight, layer.bias, dilation=layer.dilation, groups=layer.groups)
        assert torch.equal(layer(x), expected)


@needs_products
def test_a_nan_is_passed_on() -> None:
    layer, _ = layers(32, 32, kernel_size=3, padding=1)
    x = half(4, 32, 4, 4).requires_grad_()
    with torch.no_grad():
        x[0, 0, 0, 0] = float("nan")
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    found.sum().backward()
    assert found[0].isnan().any()
    assert not found[1:].isnan().any()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isnan().any()
