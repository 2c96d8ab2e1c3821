"""A depthwise convolution must compute what torch's does, whichever way its gradient is put together."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.models import depthwise
from bakeoff.models.depthwise import Depthwise


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients(convolve: object, x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    inputs = tuple(t.clone().requires_grad_() for t in (x, *others))
    out = convolve(*inputs)  # type: ignore[operator]
    return out, *torch.autograd.grad(out, inputs, randn(*out.shape, seed=9).to(out.dtype))


@pytest.mark.parametrize("size", [(1, 7), (7, 1), (5, 5), (7, 7), (1, 21), (9, 3)])
@pytest.mark.parametrize("picture", [(16, 16), (8, 8), (7, 9), (4, 4), (2, 2), (1, 1), (3, 8), (9, 2)])
def test_gradients_are_torchs(size: tuple[int, int], picture: tuple[int, int]) -> None:
    x, weight, bias = randn(2, 5, *picture, seed=1), randn(5, 1, *size, seed=2), randn(5, seed=3)
    padding = (size[0] // 2, size[1] // 2)
    ours = gradients(depthwise.depthwise, x, weight, bias)
    theirs = gradients(lambda x, w, b: F.conv2d(x, w, b, padding=padding, groups=5), x, weight, bias)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(7, 7), (3, 5)])
@pytest.mark.parametrize("dilation", [2, 3])
@pytest.mark.parametrize("picture", [(12, 12), (8, 7), (4, 4), (1, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_filters_with_gaps_are_torchs(
    size: tuple[int, int], dilation: int, picture: tuple[int, int], layout: torch.memory_format
) -> None:
    x, weight, bias = randn(2, 5, *picture, seed=1).to(memory_format=layout), randn(5, 1, *size, seed=2), randn(5)
    padding = (size[0] // 2 * dilation, size[1] // 2 * dilation)
    ours = gradients(lambda x, w, b: depthwise.depthwise(x, w, b, dilation=dilation), x, weight, bias)
    theirs = gradients(lambda x, w, b: F.conv2d(x, w, b, padding=padding, dilation=dilation, groups=5), x, weight, bias)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def test_only_what_is_wanted_gets_a_gradient() -> None:
    layer = Depthwise(4, 7, bias=False).double()
    layer(randn(1, 4, 8, 8)).sum().backward()  # a picture that nobody asks a gradient of
    assert layer.weight.grad is not None
    layer = Depthwise(4, 7).double().requires_grad_(False)
    x = randn(1, 4, 8, 8).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None


def strips(layer: nn.Module, x: Tensor) -> int:
    with mock.patch.object(depthwise, "_backward", wraps=depthwise._backward) as spy:
        layer(x).sum().backward()
    return sum(not call.kwargs["of_x"] for call in spy.call_args_list)


def test_a_filter_with_gaps_runs_as_many_without() -> None:
    with mock.patch.object(depthwise, "_convolve", wraps=depthwise._convolve) as spy, torch.no_grad():
        Depthwise(4, 7, dilation=3)(torch.randn(2, 4, 8, 8))
    assert [(tuple(call.args[0].shape), call.args[3:]) for call in spy.call_args_list] == [((18, 4, 3, 3), (1,))]


@pytest.mark.parametrize(
    ("size", "picture", "num"),
    [(7, 8, 3), (5, 8, 2), ((1, 21), 16, 7), (7, 2, 1), (3, 8, 0), (3, 2, 1), ((21, 1), 21, 0), ((21, 1), 20, 1)],
)
def test_wide_filters_and_those_above_the_pictures_height_are_cut_into_strips(
    size: int | tuple[int, int], picture: int, num: int
) -> None:
    layer = Depthwise(16, size).to(memory_format=torch.channels_last)
    assert strips(layer, torch.randn(2, 16, picture, picture)) == num


def test_bf16_gradients_are_near_and_stay_float32_outside_autocast() -> None:
    torch.manual_seed(0)
    layer, x = Depthwise(16, 7), torch.randn(4, 16, 8, 8)
    x = x.to(memory_format=torch.channels_last)
    exact = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    near = torch.autograd.grad(out.float().square().sum(), list(layer.parameters()))
    for a, b in zip(exact, near, strict=True):
        assert b.dtype == torch.float32
        assert (a - b).abs().max() < 0.03 * a.abs().max()


@pytest.mark.parametrize("picture", [(8, 8), (7, 5), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_stride_is_torchs(picture: tuple[int, int], dtype: torch.dtype) -> None:
    """The gradients of bf16 are computed in float32 and rounded at the end: no nearer numbers can be had."""
    tensors = [t.to(dtype) for t in (randn(2, 5, *picture, seed=1), randn(5, 1, 5, 3, seed=2), randn(5, seed=3))]
    ours = gradients(lambda x, w, b: depthwise.depthwise(x, w, b, stride=2), *tensors)
    exact = [t.double() for t in tensors]
    theirs = gradients(lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=(2, 1), groups=5), *exact)
    tolerance = 1e-10 if dtype == torch.float64 else 2**-7
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == dtype
        assert mine.shape == other.shape
        assert (mine - other).abs().max() <= tolerance * other.abs().max()


def test_the_layer_has_the_weights_of_torchs() -> None:
    torch.manual_seed(0)
    ours = Depthwise(8, (5, 7))
    torch.manual_seed(0)
    theirs = nn.Conv2d(8, 8, (5, 7), padding=(2, 3), groups=8)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    x = torch.randn(1, 8, 6, 6)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("dilation", [1, 3])
def test_a_training_graph_is_one_graph_and_an_exported_one_is_plain(dilation: int) -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    layer, x = Depthwise(4, 7, dilation=dilation), torch.randn(2, 4, 8, 8)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    ours, theirs = (torch.autograd.grad(f(x).square().sum(), list(layer.parameters())) for f in (compiled, layer))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    program = torch.export.export(layer, (x,))
    assert [str(node.target) for node in program.graph.nodes if node.op == "call_function"] == ["aten.conv2d.default"]
