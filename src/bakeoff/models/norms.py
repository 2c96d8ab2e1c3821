"""Batch norm and what follows it, an addition, an activation: on a processor in bfloat16 one pass instead of three.

Around the convolutions of a residual network a step does little arithmetic and much reading and writing. Torch reads
and writes the map anew for each of norm, addition and ReLU; a kernel of our own does it once.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bakeoff.models import native

Activation = Literal["none", "relu", "gelu"]


def norm(layer: nn.Module, x: Tensor, *, add: Tensor | None = None, activation: Activation = "none") -> Tensor:
    """Return activation(layer(x) + add).

    Args:
        layer: batch norm, or whatever stands in its place; only for batch norm is there a kernel.
        x: [b c h w]; it may be written over.
        add: of the same shape.
        activation: "gelu" is the form with tanh.
    """
    if type(layer) in (nn.BatchNorm2d, BatchNorm2d) and _is_for_kernels(layer, x, add, activation):
        return _by_kernel(layer, x, add, activation)
    x = layer(x)
    if add is not None:
        x = x.add_(add) if x.dtype == add.dtype else x + add
    if activation == "gelu":
        return F.gelu(x, approximate="tanh")
    return F.relu(x, inplace=True) if activation == "relu" else x


class BatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d's numbers, sooner; `norm` does what follows in the same pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        if _is_for_kernels(self, x, None, "none"):
            return _by_kernel(self, x, None, "none")
        return super().forward(x)


def _is_for_kernels(layer: nn.Module, x: Tensor, add: Tensor | None, activation: str) -> bool:
    assert isinstance(layer, nn.BatchNorm2d)
    return (
        native.suits(x)
        and (layer.training or not torch.is_grad_enabled())
        and layer.affine
        and layer.track_running_stats
        and layer.momentum is not None
        and x.numel() > x.shape[1]  # one number a channel has no variance: torch says so
        and layer.weight.dtype == torch.float32
        and (add is None or native.suits(add))
    )


def _by_kernel(layer: nn.Module, x: Tensor, add: Tensor | None, activation: str) -> Tensor:
    assert isinstance(layer, nn.BatchNorm2d)
    if layer.training:
        assert layer.num_batches_tracked is not None
        layer.num_batches_tracked.add_(1)
        out: Tensor = _Normalise.apply(x, add, layer.weight, layer.bias, layer, activation)
        return out
    assert layer.running_mean is not None
    assert layer.running_var is not None
    scale = layer.weight * (layer.running_var + layer.eps).rsqrt()
    shift = layer.bias - layer.running_mean * scale
    y = torch.empty_like(x)
    b, c, h, w = x.shape
    native.call("apply", x, add, scale, shift, y, b * h * w, c, native.ACTIVATIONS[activation])
    return y


class _Normalise(torch.autograd.Function):
    """Batch norm over the batch, addition, activation."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        x: Tensor,
        add: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        layer: nn.BatchNorm2d,
        activation: str,
    ) -> Tensor:
        b, c, h, w = x.shape
        mean, inverse, scale, shift = torch.empty(4, c)
        y, kind = torch.empty_like(x), native.ACTIVATIONS[activation]
        running = layer.running_mean, layer.running_var
        native.call(
            "normalise", x, add, weight, bias, *running, float(layer.eps), float(layer.momentum or 0), mean, inverse,
            scale, shift, y, b * h * w, c, kind,
        )  # fmt: skip
        ctx.kind, ctx.added = kind, add is not None
        # Of a ReLU over a sum the result is enough: where it is zero nothing passes.
        beside = {"none": None, "relu": y, "gelu": add}[activation] if add is not None else None
        ctx.save_for_backward(x, beside, mean, inverse, scale, shift)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's own
        x, beside, mean, inverse, scale, shift = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        b, c, h, w = x.shape
        # Without an activation what was added has the gradient of the result itself.
        kept = torch.empty_like(x) if beside is not None or ctx.kind == native.ACTIVATIONS["gelu"] else None
        of_x, (of_weight, of_bias) = torch.empty_like(x), torch.empty(2, c)
        native.call(
            "normalise_back", gradient, x, beside, mean, inverse, scale, shift, kept, of_x,
            of_weight, of_bias, b * h * w, c, ctx.kind,
        )  # fmt: skip
        of_add = (gradient if beside is None else kept) if ctx.added else None
        return of_x, of_add, of_weight, of_bias, None, None
