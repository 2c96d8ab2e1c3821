"""A small CoAtNet with efficient channel attention in every block, made for 32-pixel images.

Paper:   none. It is the invention of GH2050/Deep-Learning-2025-Spring, the course project whose table bakeoff covers
         (`coatnet_cifar_opt`, commit 3cfabf9), after CoAtNet, https://arxiv.org/abs/2106.04803, and ECA-Net,
         https://arxiv.org/abs/1910.03151.
Follows: that network's layers: norm last in its convolution blocks, ReLU6, expansion 4 of what comes in; 2x2
         convolutions before its two stages of transformer blocks; 8 heads; ECA with kernel 3; no norm at the end.
Differs: three things are mended. The stem has stride 1 below 128 pixels, so that 32-pixel images run at 32, 16, 8, 4, 2
         (there: 16, 8, 4, 2, 1, whose last two blocks attend from one pixel to itself; `stem="imagenet"`). Attention
         knows how far apart two pixels are (there: nothing tells positions). ECA gates the branch of the MLP (there:
         the sum of branch and input, so that each block scales all before it by less than 1). No dropout (there: 0.1).
         LayerNorms have an epsilon of 1e-6 (there: 1e-5).
Checked: against a second implementation written with functions only; at 100 classes and 32 pixels 27,012,550
         parameters, with the large stem 27,014,598: without the 4,064 of the position bias 27,008,486 and 27,010,534,
         which are that network's counts.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.attention import build as build_attention
from bakeoff.models.attention.relative import RelativeAttention
from bakeoff.models.layers import DropPath, LayerNorm2d, Mlp, choose_stem, conv, drop_path_rates, initialise
from bakeoff.models.norms import BatchNorm2d

EXPANSION: Final = 4
ECA: Final[Mapping[str, object]] = {"name": "eca", "kernel_size": 3}


class MBConv(nn.Module):
    """1x1 up, depthwise 3x3, channel attention, 1x1 down; the input is added where the shapes agree."""

    def __init__(
        self, in_width: int, width: int, *, stride: int, drop_path: float, attention: str | Mapping[str, object]
    ) -> None:
        super().__init__()
        hidden = EXPANSION * in_width
        self.adds = stride == 1 and in_width == width
        self.conv1 = conv(in_width, hidden, kernel_size=1)
        self.norm1 = BatchNorm2d(hidden)
        self.conv2 = conv(hidden, hidden, kernel_size=3, stride=stride, groups=hidden)
        self.norm2 = BatchNorm2d(hidden)
        self.attention = build_attention(attention, width=hidden)
        self.conv3 = conv(hidden, width, kernel_size=1)
        self.norm3 = BatchNorm2d(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in h w] to [b width h/stride w/stride]."""
        branch = F.relu6(self.norm1(self.conv1(x)), inplace=True)
        branch = F.relu6(self.norm2(self.conv2(branch)), inplace=True)
        out: Tensor = self.norm3(self.conv3(self.attention(branch)))
        # Only a branch beside a shortcut can be dropped.
        return x + self.drop_path(out) if self.adds else out


class TransformerBlock(nn.Module):
    """Attention, then an MLP whose channels are gated: each behind a LayerNorm, and added."""

    def __init__(
        self,
        width: int,
        *,
        num_heads: int,
        side: int,
        drop_path: float,
        attention: str | Mapping[str, object],
        position_bias: bool,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(width)
        self.attn = RelativeAttention(
            width, width, num_heads=num_heads, side=side, qkv_bias=False, position_bias=position_bias
        )
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, EXPANSION * width)
        self.attention = build_attention(attention, width=width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape, in channels-last memory, where the permutations move nothing."""
        x = self.drop_path(self.attn(self.norm1(x))) + x  # a sum has the memory of its first term
        branch = self.mlp(self.norm2(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        out: Tensor = self.drop_path(self.attention(branch)) + x
        return out


def make_stem(in_channels: int, width: int, *, stride: int, kernel_size: int) -> nn.Sequential:
    """Make a 3x3 convolution; or 3x3 to half the width, then depthwise 5x5 and 1x1."""
    if kernel_size == 3:
        first = conv(in_channels, width, kernel_size=3, stride=stride)
        return nn.Sequential(first, BatchNorm2d(width), nn.ReLU(inplace=True))
    half = width // 2
    return nn.Sequential(
        conv(in_channels, half, kernel_size=3),
        BatchNorm2d(half),
        nn.ReLU(inplace=True),
        conv(half, half, kernel_size=5, stride=stride, groups=half),
        conv(half, width, kernel_size=1),
        BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


class CoAtNetCifar(nn.Module):
    """Stem, three stages of convolution blocks, two of transformer blocks, mean over the picture, one matrix.

    Args:
        num_classes: the width of the logits.
        side: height and width of the map that the stem puts out, a multiple of 16.
        stem: maps pictures to that map, as wide as the first stage.
        widths: channels of each stage.
        depths: blocks of each stage.
        num_heads: heads of each attention.
        drop_path: chance of the last block's branches to be dropped.
        attention: the channel attention of every block.
        position_bias: whether attention sees how far apart two pixels are.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        side: int,
        stem: nn.Module,
        widths: Sequence[int],
        depths: Sequence[int],
        num_heads: int,
        drop_path: float,
        attention: str | Mapping[str, object],
        position_bias: bool,
    ) -> None:
        super().__init__()
        self.stages = ["s0", "s1", "s2", "s3", "s4"]
        self.stem = stem
        rates = iter(drop_path_rates(drop_path, sum(depths)))
        in_width = widths[0]
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            stride = 1 if i == 0 else 2
            side //= stride
            stage = nn.Sequential()
            if i < 3:
                for wide, step in [(in_width, stride)] + [(width, 1)] * (depth - 1):
                    stage.append(MBConv(wide, width, stride=step, drop_path=next(rates), attention=attention))
            else:
                stage.append(nn.Conv2d(in_width, width, 2, stride=stride))
                for _ in range(depth):
                    block = TransformerBlock(
                        width,
                        num_heads=num_heads,
                        side=side,
                        drop_path=next(rates),
                        attention=attention,
                        position_bias=position_bias,
                    )
                    stage.append(block)
            self.add_module(self.stages[i], stage)
            in_width = width
        self.fc = nn.Linear(in_width, num_classes)
        initialise(self, matrices=nn.init.xavier_uniform_)
        # No norm comes before it, and what does come has a standard deviation of about 3.
        nn.init.normal_(self.fc.weight, std=0.003)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures [b c h w] to logits [b classes]."""
        x = self.stem(x)
        for stage in self.stages:
            x = getattr(self, stage)(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def coatnet_cifar(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    depths: Sequence[int] = (2, 2, 6, 10, 2),
    widths: Sequence[int] = (64, 96, 192, 384, 512),
    num_heads: int = 8,
    stem_kernel_size: int = 3,
    drop_path: float = 0.0,
    attention: str | Mapping[str, object] = ECA,
    position_bias: bool = True,
    stem: str = "auto",
) -> CoAtNetCifar:
    """Build the network; the default is `coatnet_cifar_opt`.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: pixels, a multiple of 16 (small form) or 32; the tables of the bias follow it.
        depths: blocks of the three convolution stages and the two attention stages.
        widths: their channels; the stem has those of the first stage.
        num_heads: heads of each attention.
        stem_kernel_size: 3, or 5 for a stem of 3x3, depthwise 5x5 and 1x1 (`coatnet_cifar_opt_large_stem`).
        drop_path: the last block's chance to be dropped while training; 0 for the first, linear between.
        attention: the channel attention of every block, see `bakeoff.models.attention.build`.
        position_bias: whether attention sees how far apart two pixels are.
        stem: "small" keeps the picture's size, "imagenet" halves it.

    Raises:
        RecipeError: lists that are not of five, a size that the strides do not divide, a number out of range.
    """
    for key, values in (("depths", depths), ("widths", widths)):
        if len(values) != 5 or min(values) < 1:
            raise RecipeError(f"model.{key}", found=f"{list(values)}", expected="five numbers, each 1 or more")
    if num_heads < 1 or any(width % num_heads for width in widths[3:]):
        expected = f"a divisor of the attention stages' widths, {widths[3]} and {widths[4]}"
        raise RecipeError("model.num_heads", found=f"{num_heads}", expected=expected)
    if stem_kernel_size not in (3, 5):
        raise RecipeError("model.stem_kernel_size", found=f"{stem_kernel_size}", expected="3 or 5")
    if stem_kernel_size == 5 and widths[0] < 2:
        raise RecipeError("model.widths", found=f"{list(widths)}", expected="a first stage of 2 or more")
    stride = 1 if choose_stem(stem, image_size) == "small" else 2
    if image_size % (16 * stride):
        raise RecipeError(
            "model",
            found=f"pictures of {image_size} px",
            expected=f"a multiple of {16 * stride} px, which the strides of this network divide without a rest",
        )
    return CoAtNetCifar(
        num_classes=num_classes,
        side=image_size // stride,
        stem=make_stem(in_channels, widths[0], stride=stride, kernel_size=stem_kernel_size),
        widths=widths,
        depths=depths,
        num_heads=num_heads,
        drop_path=drop_path,
        attention=attention,
        position_bias=position_bias,
    )
