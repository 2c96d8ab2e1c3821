"""GhostNet, and small residual networks out of ghost modules: half of the channels from cheap operations.

Paper:   Han et al., "GhostNet: More Features from Cheap Operations", 2019. https://arxiv.org/abs/1911.11907
Follows: `ghostnet`: table 1, its kernel sizes, and torch's own first weights, as in the authors' code;
         `ghost_resnet`: section 4.1, Ghost-ResNet-56 on CIFAR, s = 2 and d = 3 as there.
Differs: below 128 pixels `ghostnet` leaves out the strides of the stem and of the first block that has one (its
         depthwise convolution stays), so that 32-pixel images are seen at 32, 16, 8 and 4; the authors' drop-out
         of 0.2 before the classifier is an option, off. The paper does not say how Ghost-ResNet changes width, and
         its authors published no code for it: here by a projection, as our small_resnet, with its first weights.
Checked: parameters, logits and gradients of `ghostnet` against timm 1.0.31 in both forms and the authors' code; of
         `ghost_resnet` (20, 32, 56 layers, ratios 2, 3, 4) against the authors' GhostModule in a CIFAR trunk; of
         the copying module against a second implementation; ratio 1 is resnet_20, 32, 56 by fingerprint.
         Ghost-ResNet-56 has 0.441 M parameters with 10 classes, 0.43 M in the paper.

In the first course project's networks of these names the second module of a block ended in a ReLU, and a second
norm followed each module's own: 149,060 parameters at 20 layers and 100 classes, 249,636 at 32. Without either, as
here, 147,716 and 247,396. The 4,029,608 that it prints for ghostnet_100 are timm's, and ours.
"""

from collections import OrderedDict
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.frames import ResidualNet, small_depths
from bakeoff.models.layers import choose_stem, conv
from bakeoff.models.norms import BatchNorm2d

# timm's names are ours.
FROM_TIMM: Final = ()


def conv_norm(
    in_width: int, width: int, *, kernel_size: int, stride: int = 1, groups: int = 1, relu: bool = False
) -> nn.Sequential:
    """Make a convolution, its norm and, if asked for, a ReLU: [b in h w] to [b width h/stride w/stride]."""
    layers = [
        conv(in_width, width, kernel_size=kernel_size, stride=stride, groups=groups),
        BatchNorm2d(width),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class GhostModule(nn.Module):
    """Compute 1/ratio of the channels by a convolution, the others from these by a depthwise one (figure 2).

    Where the ratio does not divide the width, a few channels too many are computed and dropped, as by the authors.

    Args:
        in_width: channels that come in.
        width: channels that go out.
        kernel_size: of the convolution.
        stride: of the convolution.
        ratio: s of the paper; 1 is the plain convolution; "copy" is 2, the channels repeated instead of transformed.
        relu: whether both parts end in a ReLU.
    """

    def __init__(
        self, in_width: int, width: int, *, kernel_size: int, stride: int = 1, ratio: int | str = 2, relu: bool = True
    ) -> None:
        super().__init__()
        num_parts = 2 if ratio == "copy" else int(ratio)
        primary = -(-width // num_parts)
        self.num_cheap = width - primary
        self.primary_conv = conv_norm(in_width, primary, kernel_size=kernel_size, stride=stride, relu=relu)
        self.cheap_operation: nn.Module | None = None
        if ratio == "copy":
            self.cheap_operation = nn.Identity()
        elif num_parts > 1:
            num_made = primary * (num_parts - 1)
            self.cheap_operation = conv_norm(primary, num_made, kernel_size=3, groups=primary, relu=relu)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in h w] to [b width h/stride w/stride]."""
        primary: Tensor = self.primary_conv(x)
        if self.cheap_operation is None:
            return primary
        return torch.cat([primary, self.cheap_operation(primary)[:, : self.num_cheap]], dim=1)


class SqueezeExcite(nn.Module):
    """Weigh the channels by what a small network makes of their means: Hu et al. 2017, the gate piecewise linear."""

    def __init__(self, width: int) -> None:
        super().__init__()
        squeezed = round_to_4(width / 4)
        self.conv_reduce = nn.Conv2d(width, squeezed, 1)
        self.conv_expand = nn.Conv2d(squeezed, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        gate = self.conv_expand(F.relu(self.conv_reduce(x.mean((2, 3), keepdim=True)), inplace=True))
        # Not F.hardsigmoid: torch 2.15 differentiates it with a sixth in single precision, whatever the precision.
        return x * (F.relu6(gate + 3) / 6)


class GhostBottleneck(nn.Module):
    """A ghost module that widens, one that narrows without ReLU, added to a shortcut (figure 3).

    Args:
        in_width: channels that come in.
        hidden_width: channels between the modules.
        width: channels that go out.
        kernel_size: of the depthwise convolutions between the modules and in the shortcut.
        halves: whether the block is one of those with a depthwise convolution between the modules.
        stride: of that convolution.
        squeeze: whether squeeze-and-excitation stands before the second module.
    """

    def __init__(
        self,
        in_width: int,
        hidden_width: int,
        width: int,
        *,
        kernel_size: int,
        halves: bool,
        stride: int,
        squeeze: bool,
    ) -> None:
        super().__init__()
        self.ghost1 = GhostModule(in_width, hidden_width, kernel_size=1)
        self.conv_dw: nn.Module | None = None
        if halves:
            self.conv_dw = conv(hidden_width, hidden_width, kernel_size=kernel_size, stride=stride, groups=hidden_width)
            self.bn_dw = BatchNorm2d(hidden_width)
        self.se = SqueezeExcite(hidden_width) if squeeze else nn.Identity()
        self.ghost2 = GhostModule(hidden_width, width, kernel_size=1, relu=False)
        self.shortcut = nn.Sequential()
        if halves or in_width != width:
            self.shortcut.extend(
                [
                    *conv_norm(in_width, in_width, kernel_size=kernel_size, stride=stride, groups=in_width),
                    *conv_norm(in_width, width, kernel_size=1),
                ]
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in h w] to [b width h/stride w/stride]."""
        hidden = self.ghost1(x)
        if self.conv_dw is not None:
            hidden = self.bn_dw(self.conv_dw(hidden))
        out: Tensor = self.ghost2(self.se(hidden))
        return out.add_(self.shortcut(x))


# Table 1 of the paper. Of each block: kernel size, hidden width, width, squeeze-and-excitation.
# The first block of every second group halves the picture.
Row = tuple[int, int, int, bool]
TABLE_1: tuple[tuple[Row, ...], ...] = (
    ((3, 16, 16, False),),
    ((3, 48, 24, False),),
    ((3, 72, 24, False),),
    ((5, 72, 40, True),),
    ((5, 120, 40, True),),
    ((3, 240, 80, False),),
    ((3, 200, 80, False), (3, 184, 80, False), (3, 184, 80, False), (3, 480, 112, True), (3, 672, 112, True)),
    ((5, 672, 160, True),),
    ((5, 960, 160, False), (5, 960, 160, True), (5, 960, 160, False), (5, 960, 160, True)),
)


def round_to_4(width: float) -> int:
    """Round a width to a multiple of 4, at least 4, and at least nine tenths of what was asked for."""
    rounded = max(4, int(width + 2) // 4 * 4)
    return rounded + 4 if rounded < 0.9 * width else rounded


class GhostNet(nn.Module):
    """The network of table 1. Names as in the authors' code and in timm.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        width: factor of all widths but the classifier's 1280.
        dropout: chance of each of these 1280 to be dropped while training.
        stem: "imagenet" divides the picture by 32; "small" by 8, the first two strides left out.
    """

    def __init__(self, *, num_classes: int, in_channels: int, width: float, dropout: float, stem: str) -> None:
        super().__init__()
        self.stages = ["blocks.2", "blocks.4", "blocks.6", "blocks.9"]
        small = stem == "small"
        made = round_to_4(16 * width)
        self.conv_stem = conv(in_channels, made, kernel_size=3, stride=1 if small else 2)
        self.bn1 = BatchNorm2d(made)
        self.blocks = nn.Sequential()
        for i, rows in enumerate(TABLE_1):
            halves = i % 2 == 1
            stride = 2 if halves and not (small and i == 1) else 1
            group = nn.Sequential()
            for kernel_size, hidden, out, squeeze in rows:
                widths = made, round_to_4(hidden * width), round_to_4(out * width)
                group.append(
                    GhostBottleneck(*widths, kernel_size=kernel_size, halves=halves, stride=stride, squeeze=squeeze)
                )
                _, last_hidden, made = widths
            self.blocks.append(group)
        last = OrderedDict(
            conv=conv(made, last_hidden, kernel_size=1), bn1=BatchNorm2d(last_hidden), act1=nn.ReLU(inplace=True)
        )
        self.blocks.append(nn.Sequential(nn.Sequential(last)))
        self.conv_head = nn.Conv2d(last_hidden, 1280, 1)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.classifier = nn.Linear(1280, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures [b c h w] to logits [b classes]."""
        x = F.relu(self.bn1(self.conv_stem(x)), inplace=True)
        x = self.blocks(x).mean((2, 3), keepdim=True)
        x = F.relu(self.conv_head(x), inplace=True).flatten(1)
        logits: Tensor = self.classifier(self.dropout(x))
        return logits


def ghostnet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float = 1.0,
    dropout: float = 0.0,
    stem: str = "auto",
) -> GhostNet:
    """Build GhostNet; `width` is the paper's multiplier (0.5, 1.0 and 1.3 there).

    Raises:
        RecipeError: a width outside [0.1, 10], a dropout outside [0, 1), an unknown stem.
    """
    if not 0.1 <= width <= 10:
        raise RecipeError("model.width", found=f"{width}", expected="a factor from 0.1 to 10, such as 0.5, 1.0 or 1.3")
    if not 0 <= dropout < 1:
        raise RecipeError("model.dropout", found=f"{dropout}", expected="a chance in [0, 1)")
    stem = choose_stem(stem, image_size)
    return GhostNet(num_classes=num_classes, in_channels=in_channels, width=width, dropout=dropout, stem=stem)


class GhostBlock(nn.Module):
    """ResNet's basic block with a ghost module for each convolution (section 4.1)."""

    def __init__(self, in_width: int, width: int, *, stride: int, ratio: int | str) -> None:
        super().__init__()
        self.ghost1 = GhostModule(in_width, width, kernel_size=3, stride=stride, ratio=ratio)
        self.ghost2 = GhostModule(width, width, kernel_size=3, ratio=ratio, relu=False)
        self.downsample: nn.Module | None = None
        if stride > 1 or in_width != width:
            self.downsample = conv_norm(in_width, width, kernel_size=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in h w] to [b width h/stride w/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.ghost2(self.ghost1(x))
        out += shortcut
        return F.relu(out, inplace=True)


def ghost_resnet(
    *, num_classes: int, in_channels: int, image_size: int, depth: int = 20, ratio: int | str = 2
) -> ResidualNet:
    """Build three stages of (depth - 2) / 6 ghost blocks, 16, 32, 64 wide, in the frame of small_resnet.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: pixels; any.
        depth: 6n + 2.
        ratio: channels over those that the convolution computes, 1 (dense: small_resnet itself) to 16; or "copy":
            half of them, the others being copies (the ablation that asks what the cheap operation is worth).

    Raises:
        RecipeError: a depth or ratio that is none of these.
    """
    depths = small_depths(depth)
    if ratio != "copy" and not (isinstance(ratio, int) and 1 <= ratio <= 16):
        raise RecipeError("model.ratio", found=f"{ratio!r}", expected="a whole number from 1 (dense) to 16, or 'copy'")

    def make_block(in_width: int, width: int, *, stride: int, progress: float) -> nn.Module:
        return GhostBlock(in_width, width, stride=stride, ratio=ratio)

    return ResidualNet(
        num_classes=num_classes,
        in_channels=in_channels,
        make_block=make_block,
        widths=(16, 32, 64),
        depths=depths,
    )
