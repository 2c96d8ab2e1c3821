"""Depthwise convolution with wide filters, trained fast on processors as well.

oneDNN, which computes torch's convolutions on x86 processors, has a kernel for the gradient of depthwise filters, but
only for filters at most three wide, on pictures at least as high as the filter. All others go to its kernel for dense
convolutions, which takes up to a hundred times as long as the forward pass and most of the time of a training step
(96 channels of 16x16, 7x7, bf16, 64 pictures, one core: 2 ms forwards, 69 ms for the gradient of the filters).
Here a filter's gradient is put together from strips three columns wide, each by the fast kernel: 9 ms.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The widest depthwise filter whose gradient oneDNN computes fast.
FAST_COLUMNS = 3


class Depthwise(nn.Conv2d):
    """Filter each channel by itself at stride 1, keeping the size: nn.Conv2d's numbers, sooner.

    Args:
        width: channels.
        kernel_size: height and width of the filters, odd; one number for square ones.
        bias: whether a number is added to each channel.
    """

    def __init__(self, width: int, kernel_size: int | tuple[int, int], *, bias: bool = True) -> None:
        height, length = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        padding = (height // 2, length // 2)
        super().__init__(width, width, (height, length), padding=padding, groups=width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        return depthwise(x, self.weight, self.bias)


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Filter each channel of x [b c h w] by its own filter of weight [c 1 odd odd], padded with zeros; add bias [c]."""
    kind = x.device.type
    fast = weight.shape[3] <= FAST_COLUMNS and weight.shape[2] <= x.shape[2]
    if kind != "cpu" or fast or not torch.is_grad_enabled() or torch.compiler.is_exporting():
        return _convolve(x, weight, bias)
    if torch.is_autocast_enabled(kind):  # what autocast does to a convolution, whose inside it would not see below
        dtype = torch.get_autocast_dtype(kind)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    out: Tensor = _InStrips.apply(x, weight, bias)
    return out


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(x, weight, bias, padding=_reach(weight), groups=len(weight))


def _reach(weight: Tensor) -> list[int]:
    return [side // 2 for side in weight.shape[2:]]


class _InStrips(torch.autograd.Function):
    """A depthwise convolution; what is particular is the gradient of its filters."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN401 - torch's own
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
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
