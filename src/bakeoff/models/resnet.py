"""Residual networks, for small images and of the ImageNet shape.

Paper:   He et al., "Deep Residual Learning for Image Recognition", 2015. https://arxiv.org/abs/1512.03385
Follows: section 4.2 for `small_resnet` (20, 32, 44, 56, 110 layers); table 1 for `resnet` (18, 34, 50), and
         ten layers, one block a stage, as the paper does not have it.
Differs: below 128 pixels `resnet` starts with a 3x3 convolution of stride 1 and no pooling, so that 32-pixel
         images reach the last stage at 4x4 (`stem="imagenet"` is the paper's); the bottleneck has its stride in the 3x3
         convolution, as torchvision; `small_resnet` changes width by a projection (the paper's option B)
         where the paper's own CIFAR nets pad with zeros (`shortcut="A"`); the last layer starts small.
Checked: parameters, logits and gradients against torchvision 0.29 resnet18, 34, 50 (18, 50 with both stems);
         `small_resnet` against a second implementation written with functions only, and published counts.
"""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.layers import MakeBlock, ResidualNet, choose_stem, conv


class PadShortcut(nn.Module):
    """Take every `stride`-th pixel and append channels of zeros: a shortcut without parameters."""

    def __init__(self, num_new_channels: int, *, stride: int) -> None:
        super().__init__()
        self.num_new_channels, self.stride = num_new_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to [b c+new h/stride w/stride]."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.num_new_channels))


class Block(nn.Module):
    """What both blocks share: a residual branch, added to a shortcut, then ReLU."""

    expansion: ClassVar[int]
    downsample: nn.Module | None

    def residual(self, x: Tensor) -> Tensor:
        """Compute the branch that is added to the shortcut."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in h w] to [b out h/stride w/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.residual(x) + shortcut, inplace=True)


class BasicBlock(Block):
    """Two 3x3 convolutions (figure 5, left)."""

    expansion = 1

    def __init__(self, in_width: int, width: int, *, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = conv(in_width, width, kernel_size=3, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, kernel_size=3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = make_shortcut(in_width, width, stride=stride, kind=shortcut)

    def residual(self, x: Tensor) -> Tensor:
        """Compute conv, norm, ReLU, conv, norm."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out: Tensor = self.bn2(self.conv2(x))
        return out


class Bottleneck(Block):
    """1x1 down, 3x3, 1x1 up to four times the width (figure 5, right)."""

    expansion = 4

    def __init__(self, in_width: int, width: int, *, stride: int, shortcut: str) -> None:
        super().__init__()
        out_width = width * self.expansion
        self.conv1 = conv(in_width, width, kernel_size=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, kernel_size=3, stride=stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, out_width, kernel_size=1)
        self.bn3 = nn.BatchNorm2d(out_width)
        self.downsample = make_shortcut(in_width, out_width, stride=stride, kind=shortcut)

    def residual(self, x: Tensor) -> Tensor:
        """Compute the three convolutions, each with its norm, ReLU between them."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        out: Tensor = self.bn3(self.conv3(x))
        return out


def make_shortcut(in_width: int, out_width: int, *, stride: int, kind: str) -> nn.Module | None:
    """Make what a block adds its residual to; None is the input itself, where the shapes agree."""
    if stride == 1 and in_width == out_width:
        return None
    if kind == "A":
        return PadShortcut(out_width - in_width, stride=stride)
    return nn.Sequential(conv(in_width, out_width, kernel_size=1, stride=stride), nn.BatchNorm2d(out_width))


def small_resnet(
    *, num_classes: int, in_channels: int, image_size: int, depth: int = 20, shortcut: str = "B"
) -> ResidualNet:
    """Build the net of section 4.2: three stages of (depth - 2) / 6 basic blocks, 16, 32, 64 wide.

    Raises:
        RecipeError: a depth that is not 6n + 2, or an unknown shortcut.
    """
    num_blocks, rest = divmod(depth - 2, 6)
    if rest or num_blocks < 1:
        raise RecipeError("model.depth", found=f"{depth}", expected="6n + 2, such as 20, 32, 44, 56 or 110")
    if shortcut not in ("A", "B"):
        raise RecipeError("model.shortcut", found=f"{shortcut!r}", expected="A (zeros) or B (projection)")
    return ResidualNet(
        num_classes=num_classes,
        in_channels=in_channels,
        make_block=_maker(BasicBlock, shortcut=shortcut),
        widths=(16, 32, 64),
        depths=(num_blocks,) * 3,
    )


# Table 1 of the paper; ten layers are one block a stage.
TABLE_1: dict[int, tuple[type[Block], tuple[int, ...]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


def resnet(*, num_classes: int, in_channels: int, image_size: int, depth: int = 18, stem: str = "auto") -> ResidualNet:
    """Build the net of table 1: four stages, 64 to 512 wide.

    Raises:
        RecipeError: a depth that the table does not have, or an unknown stem.
    """
    if depth not in TABLE_1:
        raise RecipeError("model.depth", found=f"{depth}", expected=f"one of {', '.join(map(str, TABLE_1))}")
    block, depths = TABLE_1[depth]
    return ResidualNet(
        num_classes=num_classes,
        in_channels=in_channels,
        make_block=_maker(block, shortcut="B"),
        widths=(64, 128, 256, 512),
        depths=depths,
        expansion=block.expansion,
        stem=choose_stem(stem, image_size),
    )


def _maker(block: type[Block], **options: Any) -> MakeBlock:  # noqa: ANN401 - what the block takes
    def make(in_width: int, width: int, *, stride: int, progress: float) -> nn.Module:
        return block(in_width, width, stride=stride, **options)

    return make
