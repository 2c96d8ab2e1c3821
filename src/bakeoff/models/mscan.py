"""MSCAN, the convolutional backbone of SegNeXt, with a classifier on it.

Paper:   Guo et al., "SegNeXt: Rethinking Convolutional Attention Design for Semantic Segmentation", 2022.
         https://arxiv.org/abs/2209.08575
Follows: section 3.1 with equations 1 and 2, MSCAN-T (3,929,284 parameters at 100 classes). What the paper leaves
         open is as its official code computes it: a residual around the two 1x1 convolutions of the attention,
         layer scales of 0.01, at the end of every stage a LayerNorm (eps 1e-5) through which the next stage reads,
         biases in all convolutions, also before BatchNorm; filters drawn with variance 2 / (filter size * outputs
         / groups), matrices with standard deviation 0.02.
Differs: a classifier in place of the decoder: the last LayerNorm normalises each pixel, as it does for the
         decoder, then the mean over the picture and one matrix. Below 128 pixels both convolutions of the stem
         have stride 1, so that 32-pixel images run at 32, 16, 8, 4 (`stem="imagenet"` is the paper's: 2 and 2); no
         parameter depends on it. `segnext_mscan_tiny` of the catalogue is ours: three stages, 32, 64, 160 wide,
         1, 1, 2 blocks deep (865,988 parameters).
Checked: logits and gradients, evaluating and training, against answers recorded from the official class: both
         names of the catalogue with the small stem, MSCAN-T also with the official one.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.depthwise import Depthwise
from bakeoff.models.layers import DropPath, LayerNorm2d, choose_stem, drop_path_rates, initialise

STRIPS = (7, 11, 21)  # equation 1: two strips of length k stand for a k x k filter


class MultiScaleGate(nn.Module):
    """Multi-scale convolutional attention: a 5x5 filter, strips of three lengths on it, their sum times the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.local = Depthwise(width, 5)
        self.strips = nn.ModuleList(nn.Sequential(Depthwise(width, (1, k)), Depthwise(width, (k, 1))) for k in STRIPS)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        local = self.local(x)
        scales = local
        for strip in self.strips:
            scales = scales + strip(local)
        out: Tensor = self.mix(scales) * x
        return out


class GatedAttention(nn.Module):
    """1x1 convolution, GELU, the gate, 1x1 convolution; and the input added."""

    def __init__(self, width: int, *, gate: nn.Module) -> None:
        super().__init__()
        self.proj_1 = nn.Conv2d(width, width, 1)
        self.gate = gate
        self.proj_2 = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        out: Tensor = self.proj_2(self.gate(F.gelu(self.proj_1(x)))) + x
        return out


class ConvMlp(nn.Module):
    """1x1 convolution up, depthwise 3x3, GELU, 1x1 down."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, hidden_width, 1)
        self.dwconv = Depthwise(hidden_width, 3)
        self.fc2 = nn.Conv2d(hidden_width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        out: Tensor = self.fc2(F.gelu(self.dwconv(self.fc1(x))))
        return out


class Block(nn.Module):
    """Attention, then the MLP: each behind a BatchNorm, scaled per channel, and added (figure 2)."""

    def __init__(self, width: int, *, gate: nn.Module, mlp_ratio: float, drop_path: float, layer_scale: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width)
        self.attn = GatedAttention(width, gate=gate)
        self.layer_scale_1 = nn.Parameter(torch.full((width,), float(layer_scale)))
        self.norm2 = nn.BatchNorm2d(width)
        self.mlp = ConvMlp(width, int(width * mlp_ratio))
        self.layer_scale_2 = nn.Parameter(torch.full((width,), float(layer_scale)))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        x = x + self.drop_path(self.layer_scale_1[:, None, None] * self.attn(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.layer_scale_2[:, None, None] * self.mlp(self.norm2(x)))
        return out


class StagedNet(nn.Module):
    """Stages of an embedding, gated blocks and a LayerNorm; mean over the picture, one matrix.

    Args:
        num_classes: the width of the logits.
        embeds: of each stage what brings the picture, or the map before, to its size and width.
        make_gate: makes the gate of one block for maps of a width.
        widths: channels of each stage.
        depths: blocks of each stage.
        mlp_ratios: of each stage the hidden width of its MLPs over its width.
        drop_path: chance of the last block's branches to be dropped.
        layer_scale: what the layer scales start at.
        norm_eps: of the LayerNorms.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        embeds: Sequence[nn.Module],
        make_gate: Callable[[int], nn.Module],
        widths: Sequence[int],
        depths: Sequence[int],
        mlp_ratios: Sequence[float],
        drop_path: float,
        layer_scale: float,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.stages = [f"stage{i}" for i in range(1, len(widths) + 1)]
        rates = iter(drop_path_rates(drop_path, sum(depths)))
        for stage, embed, width, depth, ratio in zip(self.stages, embeds, widths, depths, mlp_ratios, strict=True):
            blocks = nn.Sequential()
            for _ in range(depth):
                gate, rate = make_gate(width), next(rates)
                blocks.append(Block(width, gate=gate, mlp_ratio=ratio, drop_path=rate, layer_scale=layer_scale))
            parts = OrderedDict(embed=embed, blocks=blocks, norm=LayerNorm2d(width, eps=norm_eps))
            self.add_module(stage, nn.Sequential(parts))
        self.head = nn.Linear(widths[-1], num_classes)
        initialise(self)
        nn.init.trunc_normal_(self.head.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures [b c h w] to logits [b classes]."""
        for stage in self.stages:
            x = getattr(self, stage)(x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def embed(in_width: int, width: int, *, kernel_size: int = 3, stride: int = 2) -> nn.Sequential:
    """Make a convolution with bias, and BatchNorm."""
    conv = nn.Conv2d(in_width, width, kernel_size, stride=stride, padding=kernel_size // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(width))


def check_stages(
    widths: Sequence[int], depths: Sequence[int], mlp_ratios: Sequence[float], *, layer_scale: float
) -> None:
    """Refuse numbers that do not describe stages.

    Raises:
        RecipeError: naming the list, or the layer scale, that is wrong.
    """
    # Half of a width, and that of an MLP of half the width, must still be a channel.
    for key, values, least in (("widths", widths, 2), ("depths", depths, 1), ("mlp_ratios", mlp_ratios, 0.5)):
        if not values or len(values) != len(widths):
            expected = f"{len(widths)}, one a stage as in widths" if widths else "one a stage"
            raise RecipeError(f"model.{key}", found=f"{len(values)} numbers", expected=expected)
        if not all(least <= value < math.inf for value in values):
            raise RecipeError(f"model.{key}", found=f"{list(values)}", expected=f"numbers of {least} or more")
    if not 0 < layer_scale < math.inf:
        raise RecipeError("model.layer_scale", found=f"{layer_scale}", expected="a number above 0")


def mscan(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    widths: Sequence[int] = (32, 64, 160, 256),
    depths: Sequence[int] = (3, 3, 5, 2),
    mlp_ratios: Sequence[float] = (8, 8, 4, 4),
    drop_path: float = 0.0,
    layer_scale: float = 1e-2,
    stem: str = "auto",
) -> StagedNet:
    """Build MSCAN; the defaults are MSCAN-T. Every stage but the first halves the picture, rounding up.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: pixels; decides the stem if that is "auto".
        widths: channels of each stage; as many as there are stages.
        depths: blocks of each stage.
        mlp_ratios: of each stage the hidden width of its MLPs over its width.
        drop_path: chance of the last block's branches to be dropped; the first block's is 0.
        layer_scale: what the layer scales start at.
        stem: "small" keeps the size of the picture, "imagenet" divides it by four.

    Raises:
        RecipeError: lists of different lengths, an unknown stem, a number out of range.
    """
    check_stages(widths, depths, mlp_ratios, layer_scale=layer_scale)
    stride = 1 if choose_stem(stem, image_size) == "small" else 2
    half = widths[0] // 2
    first = [*embed(in_channels, half, stride=stride), nn.GELU(), *embed(half, widths[0], stride=stride)]
    return StagedNet(
        num_classes=num_classes,
        embeds=[nn.Sequential(*first), *(embed(a, b) for a, b in pairwise(widths))],
        make_gate=MultiScaleGate,
        widths=widths,
        depths=depths,
        mlp_ratios=mlp_ratios,
        drop_path=drop_path,
        layer_scale=layer_scale,
        norm_eps=1e-5,
    )
