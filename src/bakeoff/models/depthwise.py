"""Depthwise convolution with wide filters, trained fast on processors as well.

oneDNN, which computes torch's convolutions on x86 processors, has a kernel for the gradient of depthwise filters, but
only for filters at most three wide, on pictures at least as high as the filter. All others go to its kernel for dense
convolutions, which takes up to a hundred times as long as the forward pass and most of the time of a training step
(96 channels of 16x16, 7x7, bf16, 64 pictures, one core: 2 ms forwards, 69 ms for the gradient of the filters).
Here a filter's gradient is put together from strips three columns wide, each by the fast kernel: 9 ms.

For filters with gaps (dilation) oneDNN has no fast kernel in either direction. But a filter with gaps of d - 1 pixels
sees only every d-th row and column: each of the d x d pictures that these make up is filtered by itself, without gaps
(160 channels of 8x8, 7x7, dilation 3, bf16, 64 pictures, one core: a training step of 12 ms instead of 150 ms).

With a stride, and in bf16 only, the gradient of the picture is slow as well: then both are computed in float32
(672 channels of 8x8, 5x5, stride 2, 64 pictures, one core: 520 ms become 25 ms).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# The widest depthwise filter whose gradient oneDNN computes fast.
FAST_COLUMNS = 3


class Depthwise(nn.Conv2d):
    """Filter each channel by itself, keeping the size at stride 1: nn.Conv2d's numbers, sooner.

    Args:
        width: channels.
        kernel_size: height and width of the filters, odd; one number for square ones.
        bias: whether a number is added to each channel.
        stride: the result has every stride-th row and column only.
        dilation: how many pixels lie from one that the filter sees to the next; 1 where there is a stride.
    """

    def __init__(
        self,
        width: int,
        kernel_size: int | tuple[int, int],
        *,
        bias: bool = True,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        assert 1 in (stride, dilation)
        sides = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        padding = (sides[0] // 2 * dilation, sides[1] // 2 * dilation)
        super().__init__(
            width, width, sides, stride=stride, padding=padding, dilation=dilation, groups=width, bias=bias
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to [b c h/stride w/stride], rounded up."""
        return depthwise(x, self.weight, self.bias, stride=self.stride[0], dilation=self.dilation[0])


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int = 1, dilation: int = 1) -> Tensor:
    """Filter each channel of x [b c h w] by its own filter of weight [c 1 odd odd], padded with zeros; add bias [c]."""
    kind = x.device.type
    if kind != "cpu" or torch.compiler.is_exporting():
        return _convolve(x, weight, bias, stride, dilation)
    if dilation > 1:
        return _join(depthwise(_part(x, dilation), weight, bias), dilation)[..., : x.shape[2], : x.shape[3]]
    fast = stride == 1 and weight.shape[3] <= FAST_COLUMNS and weight.shape[2] <= x.shape[2]
    if fast or not torch.is_grad_enabled():
        return _convolve(x, weight, bias, stride)
    if torch.is_autocast_enabled(kind):  # what autocast does to a convolution, whose inside it would not see below
        dtype = torch.get_autocast_dtype(kind)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if stride > 1 and x.dtype.itemsize >= 4:
        return _convolve(x, weight, bias, stride)
    out: Tensor = _InStrips.apply(x, weight, bias) if stride == 1 else _InFloat32.apply(x, weight, bias, stride)
    return out


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, dilation: int = 1) -> Tensor:
    padding = [side * dilation for side in _reach(weight)]
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups=len(weight))


def _part(x: Tensor, step: int) -> Tensor:
    """Make of x [b c h w] the pictures of its every step-th row and column, [step*step*b c h/step w/step] rounded up.

    Pixels that lack are zero. The memory is channels-last: there a pixel moves as one, and the filters are fastest.
    """
    x = F.pad(x, (0, -x.shape[3] % step, 0, -x.shape[2] % step)).permute(0, 2, 3, 1)
    b, h, w, c = x.shape
    parts = x.reshape(b, h // step, step, w // step, step, c).permute(2, 4, 0, 1, 3, 5)
    return parts.reshape(b * step**2, h // step, w // step, c).permute(0, 3, 1, 2)


def _join(parts: Tensor, step: int) -> Tensor:
    """Undo `_part`; the pixels that lacked are still there."""
    b, c, h, w = parts.shape
    x = parts.permute(0, 2, 3, 1).reshape(step, step, b // step**2, h, w, c).permute(2, 3, 0, 4, 1, 5)
    return x.reshape(b // step**2, h * step, w * step, c).permute(0, 3, 1, 2)


def _reach(weight: Tensor) -> list[int]:
    return [side // 2 for side in weight.shape[2:]]


class _InFloat32(torch.autograd.Function):
    """A depthwise convolution with a stride, in bf16; what is particular is that its gradients are not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _convolve(x, weight, bias, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        num, strides, wanted = len(weight), [ctx.stride] * 2, ctx.needs_input_grad[:3]
        found = torch.ops.aten.convolution_backward(
            gradient.float(),
            x.float(),
            weight.float(),
            [num],
            strides,
            _reach(weight),
            [1, 1],
            False,
            [0, 0],
            num,
            wanted,
        )
        return *(g.to(gradient.dtype) if w else None for g, w in zip(found, wanted, strict=True)), None


class _InStrips(torch.autograd.Function):
    """A depthwise convolution; what is particular is the gradient of its filters."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN401 - torch's own
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _backward(gradient, x, weight, _reach(weight), of_x=True) if of_x else None,
            _filters(gradient, x, weight) if of_weight else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
        )


def _backward(gradient: Tensor, x: Tensor, weight: Tensor, padding: list[int], *, of_x: bool) -> Tensor:
    """Return the gradient of x, or that of the filters."""
    ones, mask = [1, 1], [of_x, not of_x, False]
    both = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, ones, padding, ones, False, [0, 0], len(weight), mask
    )
    out: Tensor = both[0 if of_x else 1]
    return out


def _filters(gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the filters, strip by strip."""
    height, length = x.shape[2:]
    # Of a filter larger than the picture only the middle ever meets a pixel; the gradient of the rest is zero.
    (tall, wide), (up, left) = _reach(weight), (min(r, n - 1) for r, n in zip(_reach(weight), x.shape[2:], strict=True))
    rows, columns = 2 * up + 1, 2 * left + 1
    above = up if height < rows else 0
    x = F.pad(x, (left, left, above, above))
    strips = []
    for first in range(0, columns, FAST_COLUMNS):
        num = min(FAST_COLUMNS, columns - first)
        shifted = x[..., first : first + length + num - 1]
        strip = weight.new_empty(len(weight), 1, rows, num)  # only its shape is looked at
        strips.append(_backward(gradient, shifted, strip, [up - above, 0], of_x=False))
    return F.pad(torch.cat(strips, dim=3), (wide - left, wide - left, tall - up, tall - up))
