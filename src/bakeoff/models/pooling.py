"""The largest of each 2x2 square: torch's numbers, with a quarter of what torch remembers for the way back, or less."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from bakeoff.models import native


def halve(x: Tensor) -> Tensor:
    """Map [b c h w] to [b c h/2 w/2], rounded down: the largest of each square of four."""
    if not native.suits(x) or min(x.shape[2:]) < 2:
        return F.max_pool2d(x, 2)
    out: Tensor = _Halve.apply(x)
    return out


class _Halve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        b, c, h, w = x.shape
        y = torch.empty(b, c, h // 2, w // 2, dtype=x.dtype, memory_format=torch.channels_last)
        which = torch.empty_like(y, dtype=torch.uint8)
        native.call("pool", x, y, which, b, h, w, c)
        ctx.save_for_backward(which)
        ctx.shape = x.shape
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        (which,) = ctx.saved_tensors
        b, c, h, w = ctx.shape
        of_x = torch.empty(ctx.shape, dtype=gradient.dtype, memory_format=torch.channels_last)
        native.call("unpool", gradient.contiguous(memory_format=torch.channels_last), which, of_x, b, h, w, c)
        return of_x
