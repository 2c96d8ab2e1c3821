"""Dense convolution in bfloat16, fast on a processor also where maps are small.

oneDNN, torch's library on x86 processors, works along the rows of a map: on maps of a few pixels most of a vector, or
of the matrix unit (AMX), is idle, and the gradient of the filters takes up to twenty times as long as it need. Where
the processor multiplies bfloat16, kernels of our own take their place (`native`): for maps up to 8 pixels wide place
by place, over all pictures of the batch at once; for the filters' gradient of larger maps on a grid of all their
pixels, where that is faster. All else is torch's.
"""

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bakeoff.models import native

CHANNELS: Final = 32  # ours take multiples of it, which are what the matrix unit multiplies at a time
MOST_PX: Final = 8  # width of maps up to which ours are faster, but for the filters' gradient
MOST_PX_BY_VECTORS: Final = 12  # up to which the filters' gradient is, on a processor without a matrix unit
FEWEST: Final = 32  # pictures from which it pays to prepare the filters where nothing is trained
CACHE_BYTES: Final = 2**20  # of what is worked on at a time: half of a core's second cache


class Convolution(nn.Conv2d):
    """nn.Conv2d's numbers, sooner."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self._is_faster_by_ours(x, trains=torch.is_grad_enabled() and weight.requires_grad):
            kept: Tensor = super()._conv_forward(x, weight, bias)
            return kept
        out: Tensor = _Convolve.apply(x.to(torch.bfloat16), weight, self.stride[0], self.padding)
        return out

    def _is_faster_by_ours(self, x: Tensor, *, trains: bool) -> bool:
        by_autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        return (
            (by_autocast or x.dtype == torch.bfloat16)
            and self.in_channels % CHANNELS == self.out_channels % CHANNELS == 0
            and self.bias is None
            and self.groups == 1
            and self.dilation == (1, 1)
            and self.stride[0] == self.stride[1]
            and not isinstance(self.padding, str)
            and self.padding_mode == "zeros"
            and native.reaches(x)
            and native.multiplies()
            and (native.has_tiles() or x.shape[3] <= MOST_PX_BY_VECTORS)
            and (trains or (x.shape[3] <= MOST_PX and len(x) >= FEWEST))
        )


class _Convolve(torch.autograd.Function):
    """A convolution in bfloat16; what is particular is the gradient of its filters, which comes in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int]) -> Tensor:  # noqa: ANN401
        half = weight.to(torch.bfloat16, memory_format=torch.channels_last)
        ctx.save_for_backward(x, half)
        ctx.stride, ctx.padding, ctx.dtype = stride, padding, weight.dtype
        with torch.autocast("cpu", enabled=False):
            if x.shape[3] > MOST_PX:
                return F.conv2d(x, half, stride=stride, padding=padding)
        return _place_by_place(x, half, stride=stride, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's own
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_x, geometry = None, {"stride": ctx.stride, "padding": ctx.padding}
        if ctx.needs_input_grad[0] and gradient.shape[3] <= MOST_PX:
            of_x = _place_by_place(gradient, weight, back_to=x, **geometry)
        elif ctx.needs_input_grad[0]:
            strides, padding = [ctx.stride] * 2, list(ctx.padding)
            of_x = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, strides, padding, [1, 1], False, [0, 0], 1, [True, False, False]
            )[0]
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = filter_gradient(x, gradient, weight.shape, **geometry).to(ctx.dtype)
        return of_x, of_weight, None, None


def filter_gradient(x: Tensor, gradient: Tensor, shape: torch.Size, *, stride: int, padding: tuple[int, int]) -> Tensor:
    """Return the gradient of a convolution's filters, float32 of `shape` [out in rows columns], channels-last.

    Args:
        x: bfloat16 [b in h w], channels-last.
        gradient: of the result, bfloat16 [b out h' w'], channels-last.
        shape: of the filters.
        stride: of the convolution, both ways.
        padding: zeros above and below, left and right.
    """
    num_out, num_in, rows, columns = shape
    found = torch.zeros(num_out, rows, columns, num_in)
    is_small = 2 * CHANNELS * x[0].numel() <= CACHE_BYTES
    geometry = _geometry(x, gradient, shape, stride=stride, padding=padding)
    native.call("filters_small" if is_small else "filters", x, gradient, found, geometry, CACHE_BYTES)
    return found.permute(0, 3, 1, 2)


def _place_by_place(
    source: Tensor, weight: Tensor, *, stride: int, padding: tuple[int, int], back_to: Tensor | None = None
) -> Tensor:
    """Return the convolution of `source`; or, where it is a gradient, the gradient of what was convolved."""
    if back_to is not None:
        result = torch.empty_like(back_to)
        geometry = _geometry(result, source, weight.shape, stride=stride, padding=padding)
    else:
        height, width = (
            (side + 2 * beside - reach) // stride + 1
            for side, beside, reach in zip(source.shape[2:], padding, weight.shape[2:], strict=True)
        )
        size = (len(source), len(weight), height, width)
        result = torch.empty(size, dtype=source.dtype, memory_format=torch.channels_last)
        geometry = _geometry(source, result, weight.shape, stride=stride, padding=padding)
    native.call("convolve", source, weight, result, geometry, int(back_to is not None))
    return result


def _geometry(x: Tensor, y: Tensor, filters: torch.Size, *, stride: int, padding: tuple[int, int]) -> native.Shape:
    num_out, num_in, rows, columns = filters
    return native.Shape(len(x), *x.shape[2:], num_in, num_out, *y.shape[2:], rows, columns, stride, *padding)
