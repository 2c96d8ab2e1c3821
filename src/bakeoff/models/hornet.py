"""HorNet: gated convolutions multiplied with one another, so that neighbours interact in high orders.

Paper:   Rao et al., "HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions", 2022.
         https://arxiv.org/abs/2207.14284
Follows: section 3: the recursive gated convolution, of order 2, 3, 4, 5 in the four stages, depthwise 7x7, in
         blocks like Swin's and a frame like ConvNeXt's. The default is HorNet-T 7x7 as in the official code: all
         depthwise features times 1/3 (its `s`), layer scale from 1e-6, matrices and filters from N(0, 0.02), the
         last norm after the mean over the picture.
Differs: below 128 pixels the stem's 4x4 convolution has stride 2 and padding 1, so that the stages see 32-pixel
         pictures at 16, 8, 4, 2 with weights of the same shape (`stem="imagenet"` is the paper's: 8, 4, 2, 1;
         `stem="3x3"` has stride 1: 32, 16, 8, 4). The factor 1/3 multiplies the filters, not the picture, and layer
         scale and addition are one operation: the same numbers with less memory moved. The variant with global
         filters (GF) is not here: its filters are cut for pictures of 224 pixels. `hornet_micro` (widths 32 to
         256, depths 3, 3, 9, 3) is ours.
Checked: logits and gradients of `hornet_tiny` with both stems and of `hornet_micro`, against the official code's
         recorded answers. Tiny at 100 classes: 21,947,812 parameters, micro: 4,632,132.

The table of the first course project (GH2050/Deep-Learning-2025-Spring) prints a "hornet_tiny" that never was one: its
code fell back to timm's convnext_nano. Its report prints 4.63 M parameters for it, which is what `hornet_micro` has.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.depthwise import Depthwise, depthwise
from bakeoff.models.frames import TrunkNet, check_trunk
from bakeoff.models.layers import DropPath, Mlp, refuse_even


class ScaledDepthwise(Depthwise):
    """A depthwise convolution times a constant, which multiplies the few filters instead of the whole picture."""

    def __init__(self, width: int, *, kernel_size: int, scale: float) -> None:
        super().__init__(width, kernel_size)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        assert self.bias is not None
        return depthwise(x, self.weight * self.scale, self.bias * self.scale)


class RecursiveGatedConv(nn.Module):
    """Gate with depthwise features again and again, the width doubling each time (section 3.1).

    Args:
        width: channels in and out, divisible by 2^(order - 1).
        order: how many gates; the first is width / 2^(order - 1) wide, the last `width`.
        kernel_size: of the depthwise convolution.
        scale: what the depthwise features are multiplied with.
    """

    def __init__(self, width: int, *, order: int, kernel_size: int, scale: float) -> None:
        super().__init__()
        self.widths = [width // 2**i for i in reversed(range(order))]
        self.proj_in = nn.Linear(width, 2 * width)  # the first gate's partner, and what all gates are made of
        self.dwconv = ScaledDepthwise(sum(self.widths), kernel_size=kernel_size, scale=scale)
        self.pws = nn.ModuleList(nn.Linear(narrow, wide) for narrow, wide in pairwise(self.widths))
        self.proj_out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b h w c] to the same shape."""
        x, features = self.proj_in(x).split((self.widths[0], sum(self.widths)), dim=-1)
        gates = self.dwconv(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).split(self.widths, dim=-1)
        x = x * gates[0]
        for widen, gate in zip(self.pws, gates[1:], strict=True):
            x = widen(x) * gate
        out: Tensor = self.proj_out(x)
        return out


class Block(nn.Module):
    """Norm and recursive gated convolution, then norm and two matrices; each scaled and added."""

    def __init__(
        self, width: int, *, order: int, kernel_size: int, scale: float, layer_scale: float, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.gnconv = RecursiveGatedConv(width, order=order, kernel_size=kernel_size, scale=scale)
        self.layer_scale1 = nn.Parameter(torch.full((width,), float(layer_scale)))
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)
        self.layer_scale2 = nn.Parameter(torch.full((width,), float(layer_scale)))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape, in channels-last memory."""
        x = x.permute(0, 2, 3, 1)  # in channels-last memory this moves nothing
        x = torch.addcmul(x, self.drop_path(self.gnconv(self.norm1(x))), self.layer_scale1)
        x = torch.addcmul(x, self.drop_path(self.mlp(self.norm2(x))), self.layer_scale2)
        return x.permute(0, 3, 1, 2)


def hornet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    depths: Sequence[int] = (2, 3, 18, 2),
    widths: Sequence[int] = (64, 128, 256, 512),
    orders: Sequence[int] = (2, 3, 4, 5),
    kernel_size: int = 7,
    scale: float = 1 / 3,
    layer_scale: float = 1e-6,
    drop_path: float = 0.0,
    stem: str = "auto",
) -> TrunkNet:
    """Build a HorNet; the default is HorNet-T 7x7.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: pixels; at least 2 (small), 1 (3x3) or 4 (imagenet), doubled for each stage after the first.
        depths: blocks of each stage.
        widths: channels of each stage, divisible by 2^(order - 1).
        orders: gates in each convolution of a stage.
        kernel_size: of the depthwise convolutions, odd.
        scale: what the depthwise features are multiplied with.
        layer_scale: what each branch is multiplied with at first; learned.
        drop_path: the last block's chance to be dropped while training; 0 for the first, linear between.
        stem: "small" is 4x4 at stride 2, "3x3" is at stride 1, "imagenet" is 4x4 at stride 4; "auto" chooses.

    Raises:
        RecipeError: an option out of its range, or a picture that the strides divide to nothing.
    """
    check_trunk(widths, depths)
    _check_orders(orders, widths=widths)
    refuse_even(kernel_size)
    for key, factor in (("scale", scale), ("layer_scale", layer_scale)):
        if not 0 < factor < math.inf:
            raise RecipeError(f"model.{key}", found=f"{factor}", expected="a number above 0")

    def make_block(stage: int, rate: float) -> nn.Module:
        return Block(
            widths[stage],
            order=orders[stage],
            kernel_size=kernel_size,
            scale=scale,
            layer_scale=layer_scale,
            drop_path=rate,
        )

    return TrunkNet(
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        stem=stem,
        make_block=make_block,
        widths=widths,
        depths=depths,
        drop_path=drop_path,
    )


def _check_orders(orders: Sequence[int], *, widths: Sequence[int]) -> None:
    if len(orders) != len(widths) or min(orders) < 1:
        expected = f"{len(widths)} numbers of gates, as many as depths, each >= 1"
        raise RecipeError("model.orders", found=f"{list(orders)}", expected=expected)
    for width, order in zip(widths, orders, strict=True):
        if width % 2 ** (order - 1):
            expected = f"a number divisible by {2 ** (order - 1)}: {order} gates, each twice as wide as the one before"
            raise RecipeError("model.widths", found=f"{width}", expected=expected)
