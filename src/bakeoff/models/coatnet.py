"""CoAtNet: convolutions while the picture is large, then attention that knows how far apart two pixels are.

Paper:   Dai et al., "CoAtNet: Marrying Convolution and Attention for All Data Sizes", 2021.
         https://arxiv.org/abs/2106.04803
Follows: table 3, CoAtNet-0 (two stages of convolutions, two of attention, heads of 32), and appendix A.1 for the
         blocks (norm first, GELU), with the stride in the depthwise convolution as in table 9 (4,546M multiply-adds
         at 224 pixels; table: 4.6B). There is no official code; what the paper leaves open is as in timm's
         coatnet_0_224: expansion 4 and squeeze 1/4 count the block's output width, SiLU in the squeeze, a layer of
         tanh before the classifier, filters drawn by He's rule and matrices by Glorot's.
Differs: as in timm, a block that halves the picture averages its pixels (paper: takes the largest). Below 128 pixels
         the stem and the first stage keep the size, so that 32-pixel images run at 32, 32, 16, 8, 4 (`stem="imagenet"`
         is the paper's: 16, 8, 4, 2, 1); only the tables of the position bias depend on the size. The last matrix
         starts small. `attention="lsk"` puts a large selective kernel at the end of each convolution block, in the
         place of the first course project's "custom enhanced" network, whose kernels were other ones; no paper has it.
Checked: logits and gradients, evaluating and training, against timm 1.0.31 coatnet_0_224 with the strides of both
         forms, and with LSK put into its blocks. At 100 classes 24,308,720 parameters for 32 pixels, 24,344,720 for
         224; with LSK 24,563,150 for 32.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.attention import build as build_attention
from bakeoff.models.attention.relative import RelativeAttention
from bakeoff.models.layers import (
    DropPath,
    LayerNorm2d,
    Mlp,
    choose_stem,
    conv,
    drop_path_rates,
    initialise,
    refuse_below_one,
)
from bakeoff.models.norms import BatchNorm2d

EXPANSION: Final = 4  # hidden width of a convolution block, and of a transformer's MLP, over the block's width
SQUEEZE: Final = 4  # the block's width over that of the squeeze

FROM_TIMM: Final = (
    *((rf"^stages\.{i}\.blocks\.", f"s{i + 1}.") for i in range(4)),
    (r"\.(conv\d)_(?:1x1|kxk)\.", r".\1."),
    (r"\.norm1\.norm\.", ".norm1."),
    (r"\.rel_pos\.relative_position_bias_table$", ".position_bias"),
    (r"^head\.pre_logits\.fc\.", "head.hidden."),
)


class Shortcut(nn.Module):
    """Average `stride` x `stride` pixels, then change the width; what stays as it is passes through."""

    def __init__(self, in_width: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.expand = nn.Conv2d(in_width, width, 1) if in_width != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in h w] to [b width h/stride w/stride]."""
        out: Tensor = self.expand(shrink(x, self.stride))
        return out


def shrink(x: Tensor, stride: int) -> Tensor:
    """Average `stride` x `stride` pixels: [b c h w] to [b c h/stride w/stride]."""
    return F.avg_pool2d(x, stride) if stride > 1 else x


class SqueezeExcite(nn.Module):
    """Gate each channel by two matrices over the channels' means, with SiLU between them."""

    def __init__(self, width: int, narrow: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, narrow)
        self.fc2 = nn.Linear(narrow, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        gate: Tensor = self.fc2(F.silu(self.fc1(x.mean((2, 3))))).sigmoid()
        return x * gate[:, :, None, None]


class MBConv(nn.Module):
    """1x1 up, depthwise 3x3, gate, 1x1 down: a norm before each of the convolutions but the last.

    Args:
        in_width: channels that come in.
        width: channels that go out; the hidden width is four times as large.
        stride: of the depthwise convolution.
        drop_path: chance of the branch to be dropped while training.
        attention: what the branch goes through at its end, see `bakeoff.models.attention.build`.
    """

    def __init__(
        self, in_width: int, width: int, *, stride: int, drop_path: float, attention: str | Mapping[str, object]
    ) -> None:
        super().__init__()
        hidden = EXPANSION * width
        self.shortcut = Shortcut(in_width, width, stride=stride)
        self.pre_norm = BatchNorm2d(in_width)
        self.conv1 = conv(in_width, hidden, kernel_size=1)
        self.norm1 = BatchNorm2d(hidden)
        self.conv2 = conv(hidden, hidden, kernel_size=3, stride=stride, groups=hidden)
        self.norm2 = BatchNorm2d(hidden)
        self.se = SqueezeExcite(hidden, max(1, width // SQUEEZE))
        self.conv3 = nn.Conv2d(hidden, width, 1)
        self.attention = build_attention(attention, width=width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in h w] to [b width h/stride w/stride]."""
        branch = F.gelu(self.norm1(self.conv1(self.pre_norm(x))))
        branch = F.gelu(self.norm2(self.conv2(branch)))
        branch = self.attention(self.conv3(self.se(branch)))
        out: Tensor = self.drop_path(branch) + self.shortcut(x)
        return out


class TransformerBlock(nn.Module):
    """Attention, then two matrices pixel by pixel: each behind a LayerNorm, and added.

    Args:
        in_width: channels that come in.
        width: channels that go out.
        stride: pixels averaged into one before the attention, along each side.
        num_heads: heads of the attention.
        side: height and width of the map that attention sees.
        drop_path: chance of a branch to be dropped while training.
        position_bias: whether attention sees how far apart two pixels are.
    """

    def __init__(
        self,
        in_width: int,
        width: int,
        *,
        stride: int,
        num_heads: int,
        side: int,
        drop_path: float,
        position_bias: bool,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.shortcut = Shortcut(in_width, width, stride=stride)
        self.norm1 = LayerNorm2d(in_width)
        self.attn = RelativeAttention(in_width, width, num_heads=num_heads, side=side, position_bias=position_bias)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, EXPANSION * width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in h w] to [b width h/stride w/stride]."""
        # A sum has the memory of its first term: channels-last from here on, where permuting moves nothing.
        x = self.drop_path(self.attn(shrink(self.norm1(x), self.stride))) + self.shortcut(x)
        pixels: Tensor = x.permute(0, 2, 3, 1)
        pixels = pixels + self.drop_path(self.mlp(self.norm2(pixels)))
        return pixels.permute(0, 3, 1, 2)


class Head(nn.Module):
    """Mean over the picture, norm, a layer of tanh, one matrix."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.hidden = nn.Linear(width, width)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to logits [b classes]."""
        logits: Tensor = self.fc(self.hidden(self.norm(x.mean((2, 3)))).tanh())
        return logits


class CoAtNet(nn.Module):
    """Stem, two stages of convolution blocks, two of transformer blocks, head: S0 to S4 of the paper.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: its pixels along a side, a multiple of all strides together.
        stem_width: channels of the stem.
        widths: channels of each stage.
        depths: blocks of each stage.
        strides: of the stem and of each stage's first block.
        head_width: channels of an attention head.
        drop_path: chance of the last block's branches to be dropped.
        attention: at the end of each convolution block.
        position_bias: whether attention sees how far apart two pixels are.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        stem_width: int,
        widths: Sequence[int],
        depths: Sequence[int],
        strides: Sequence[int],
        head_width: int,
        drop_path: float,
        attention: str | Mapping[str, object],
        position_bias: bool,
    ) -> None:
        super().__init__()
        self.stages = ["stem", "s1", "s2", "s3", "s4"]
        conv1 = conv(in_channels, stem_width, kernel_size=3, stride=strides[0])
        conv2 = conv(stem_width, stem_width, kernel_size=3)
        parts = OrderedDict(conv1=conv1, norm1=BatchNorm2d(stem_width), act=nn.GELU(), conv2=conv2)
        self.stem = nn.Sequential(parts)
        rates = iter(drop_path_rates(drop_path, sum(depths)))
        in_width, side = stem_width, image_size // strides[0]
        for name, width, depth, first in zip(self.stages[1:], widths, depths, strides[1:], strict=True):
            side //= first
            stage = nn.Sequential()
            for stride in [first] + [1] * (depth - 1):
                if name in ("s1", "s2"):
                    block: nn.Module = MBConv(
                        in_width, width, stride=stride, drop_path=next(rates), attention=attention
                    )
                else:
                    block = TransformerBlock(
                        in_width,
                        width,
                        stride=stride,
                        num_heads=width // head_width,
                        side=side,
                        drop_path=next(rates),
                        position_bias=position_bias,
                    )
                stage.append(block)
                in_width = width
            self.add_module(name, stage)
        self.head = Head(in_width, num_classes)
        initialise(self, matrices=nn.init.xavier_uniform_)
        nn.init.normal_(self.head.fc.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures [b c h w] to logits [b classes]."""
        for stage in self.stages:
            x = getattr(self, stage)(x)
        logits: Tensor = self.head(x)
        return logits


def coatnet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    depths: Sequence[int] = (2, 3, 5, 2),
    widths: Sequence[int] = (96, 192, 384, 768),
    stem_width: int = 64,
    head_width: int = 32,
    drop_path: float = 0.0,
    attention: str | Mapping[str, object] = "none",
    position_bias: bool = True,
    stem: str = "auto",
) -> CoAtNet:
    """Build a CoAtNet; the default is CoAtNet-0.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: pixels, a multiple of 8 (small form) or 32; the tables of the bias follow it.
        depths: blocks of the two convolution stages and the two attention stages.
        widths: their channels.
        stem_width: channels of the stem.
        head_width: channels of an attention head.
        drop_path: the last block's chance to be dropped while training; 0 for the first, linear between (paper, on
            ImageNet: 0.2).
        attention: at the end of each convolution block, see `bakeoff.models.attention.build`.
        position_bias: whether attention sees how far apart two pixels are (the paper's ablation is without).
        stem: "small" keeps the picture's size in the stem and the first stage, "imagenet" halves it in both.

    Raises:
        RecipeError: lists that are not of four, a size that the strides do not divide, a number out of range.
    """
    for key, values in (("depths", depths), ("widths", widths)):
        if len(values) != 4 or min(values) < 1:
            raise RecipeError(f"model.{key}", found=f"{list(values)}", expected="four numbers, each 1 or more")
    refuse_below_one(stem_width=stem_width)
    if head_width < 1 or any(width % head_width for width in widths[2:]):
        expected = f"a divisor of the attention stages' widths, {widths[2]} and {widths[3]}"
        raise RecipeError("model.head_width", found=f"{head_width}", expected=expected)
    first = 1 if choose_stem(stem, image_size) == "small" else 2
    strides = (first, first, 2, 2, 2)
    if image_size % math.prod(strides):
        raise RecipeError(
            "model",
            found=f"pictures of {image_size} px",
            expected=f"a multiple of {math.prod(strides)} px, which the strides of this network divide without a rest",
        )
    return CoAtNet(
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        stem_width=stem_width,
        widths=widths,
        depths=depths,
        strides=strides,
        head_width=head_width,
        drop_path=drop_path,
        attention=attention,
        position_bias=position_bias,
    )
