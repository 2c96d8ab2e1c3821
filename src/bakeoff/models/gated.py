"""The frame of mscan and lsknet, and the blocks in it: attention that is a gate, made by convolutions.

SegNeXt's MSCAN (Guo et al. 2022, https://arxiv.org/abs/2209.08575) and LSKNet (Li et al. 2023,
https://arxiv.org/abs/2303.09030) differ in the gate, the stem and the eps of the norms; the rest is one.
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
from bakeoff.models.layers import DropPath, LayerNorm2d, drop_path_rates, initialise
from bakeoff.models.norms import BatchNorm2d


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


class GatedBlock(nn.Module):
    """Gated attention, then an MLP: each behind a BatchNorm, scaled per channel, and added."""

    def __init__(self, width: int, *, gate: nn.Module, mlp_ratio: float, drop_path: float, layer_scale: float) -> None:
        super().__init__()
        self.norm1 = BatchNorm2d(width)
        self.attn = GatedAttention(width, gate=gate)
        self.layer_scale_1 = nn.Parameter(torch.full((width,), float(layer_scale)))
        self.norm2 = BatchNorm2d(width)
        self.mlp = ConvMlp(width, int(width * mlp_ratio))
        self.layer_scale_2 = nn.Parameter(torch.full((width,), float(layer_scale)))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        x = x + self.drop_path(self.layer_scale_1[:, None, None] * self.attn(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.layer_scale_2[:, None, None] * self.mlp(self.norm2(x)))
        return out


class GatedNet(nn.Module):
    """Stages of an embedding, gated blocks and a LayerNorm; mean over the picture, one matrix.

    Args:
        num_classes: the width of the logits.
        stem: maps pictures to the first stage's size and width; each stage after it starts by halving the map.
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
        stem: nn.Module,
        make_gate: Callable[[int], nn.Module],
        widths: Sequence[int],
        depths: Sequence[int],
        mlp_ratios: Sequence[float],
        drop_path: float,
        layer_scale: float,
        norm_eps: float,
    ) -> None:
        super().__init__()
        embeds = [stem, *(embed(a, b) for a, b in pairwise(widths))]
        self.stages = [f"stage{i}" for i in range(1, len(widths) + 1)]
        rates = iter(drop_path_rates(drop_path, sum(depths)))
        for stage, first, width, depth, ratio in zip(self.stages, embeds, widths, depths, mlp_ratios, strict=True):
            blocks = nn.Sequential()
            for _ in range(depth):
                gate, rate = make_gate(width), next(rates)
                blocks.append(GatedBlock(width, gate=gate, mlp_ratio=ratio, drop_path=rate, layer_scale=layer_scale))
            parts = OrderedDict(embed=first, blocks=blocks, norm=LayerNorm2d(width, eps=norm_eps))
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
    return nn.Sequential(conv, BatchNorm2d(width))


def check_gated(
    widths: Sequence[int], depths: Sequence[int], mlp_ratios: Sequence[float], *, layer_scale: float
) -> None:
    """Refuse numbers that do not describe the stages of a GatedNet.

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
