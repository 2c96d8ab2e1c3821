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
    return out, *torch.autograd.grad(out, inputs, randn(*out.shape, seed=9))


@pytest.mark.parametrize("size", [(1, 7), (7, 1), (5, 5), (7, 7), (1, 21), (9, 3)])
@pytest.mark.parametrize("picture", [(16, 16), (8, 8), (7, 9), (4, 4), (2, 2), (1, 1), (3, 8), (9, 2)])
def test_gradients_are_torchs(size: tuple[int, int], picture: tuple[int, int]) -> None:
    x, weight, bias = randn(2, 5, *picture, seed=1), randn(5, 1, *size, seed=2), randn(5, seed=3)
    padding = (size[0] // 2, size[1] // 2)
    ours = gradients(depthwise.depthwise, x, weight, bias)
    theirs = gradients(lambda x, w, b: F.conv2d(x, w, b, padding=padding, groups=5), x, weight, bias)
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


@pytest.mark.parametrize(
    ("size", "picture", "num"),
    [(7, 8, 3), (5, 8, 2), ((1, 21), 16, 7), (7, 2, 1), (3, 8, 0), ((21, 1), 8, 0)],
)
def test_wide_filters_are_cut_into_strips(size: int | tuple[int, int], picture: int, num: int) -> None:
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


def test_the_layer_has_the_weights_of_torchs() -> None:
    torch.manual_seed(0)
    ours = Depthwise(8, (5, 7))
    torch.manual_seed(0)
    theirs = nn.Conv2d(8, 8, (5, 7), padding=(2, 3), groups=8)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    x = torch.randn(1, 8, 6, 6)
    torch.testing.assert_close(ours(x), theirs(x))


def test_a_training_graph_is_one_graph_and_an_exported_one_is_plain() -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    layer, x = Depthwise(4, 7), torch.randn(2, 4, 8, 8)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    ours, theirs = (torch.autograd.grad(f(x).square().sum(), list(layer.parameters())) for f in (compiled, layer))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    program = torch.export.export(layer, (x,))
    assert [str(node.target) for node in program.graph.nodes if node.op == "call_function"] == ["aten.conv2d.default"]
