"""Residual networks, for small images and of the ImageNet shape.

Paper:   He et al., "Deep Residual Learning for Image Recognition", 2015. https://arxiv.org/abs/1512.03385
Follows: section 4.2 for `small_resnet` (20, 32, 44, 56, 110 layers); table 1 for `resnet` (18, 34, 50), and
         ten layers, one block a stage, as the paper does not have it.
Differs: below 128 pixels `resnet` starts with a 3x3 convolution of stride 1 and no pooling, so that 32-pixel
         images reach the last stage at 4x4 (`stem="imagenet"` is the paper's); the bottleneck has its stride in the 3x3
         convolution, as torchvision; `small_resnet` changes width by a projection (the paper's option B)
         where the paper's own CIFAR nets pad with zeros (`shortcut="A"`); the last layer starts small;
         `attention` plugs one module of models/attention into each block.
Checked: parameters, logits and gradients against torchvision 0.29 resnet18, 34, 50 (18, 50 with both stems), and timm
         1.0.31 resnet18 with ECA, resnet50 with SE; `small_resnet` against a second implementation written with
         functions only, and published counts; with attention also against the official blocks, see models/attention.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError, refuse_unknown
from bakeoff.models import attention as plugins
from bakeoff.models.frames import MakeBlock, ResidualNet, small_depths
from bakeoff.models.layers import choose_stem, conv
from bakeoff.models.norms import BatchNorm2d, norm

# Their names give ours; the weights of a plug-in load where its options are the same.
FROM_TIMM: Final = ((r"\.se\.", ".attention."),)
FROM_TORCHVISION: Final = ()

# Where a block's attention stands, each time on numbers that are normalised or added, and before the ReLU that follows.
POSITIONS: Final = ("after_first", "before_add", "after_add")
DEFAULT_POSITION: Final = "before_add"


class PadShortcut(nn.Module):
    """Take every `stride`-th pixel and append channels of zeros: a shortcut without parameters."""

    def __init__(self, num_new_channels: int, *, stride: int) -> None:
        super().__init__()
        self.num_new_channels, self.stride = num_new_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to [b c+new h/stride w/stride]."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.num_new_channels))


class Block(nn.Module):
    """What both blocks share: a residual branch, added to a shortcut, then ReLU; and attention at one of three places.

    Args:
        in_width: channels that come in.
        width: channels of the first convolution.
        stride: of the block.
        shortcut: "A" or "B", see `make_shortcut`.
        attention: a plug-in, see `plugins.build`.
        attention_position: "after_first" is after the norm of the first convolution, "before_add" at the end of
            the branch (as the papers have it), "after_add" after the sum.
    """

    expansion: ClassVar[int]
    conv1: nn.Module
    bn1: nn.Module

    def __init__(
        self,
        in_width: int,
        width: int,
        *,
        stride: int,
        shortcut: str,
        attention: str | Mapping[str, object],
        attention_position: str,
    ) -> None:
        super().__init__()
        out_width = width * self.expansion
        self.make_branch(in_width, width, stride=stride)
        self.downsample = make_shortcut(in_width, out_width, stride=stride, kind=shortcut)
        plugin = plugins.build(attention, width=width if attention_position == "after_first" else out_width)
        self.attention = None if isinstance(plugin, nn.Identity) else plugin
        self.attention_position = attention_position

    def make_branch(self, in_width: int, width: int, *, stride: int) -> None:
        """Make the layers of the residual branch."""
        raise NotImplementedError

    @property
    def last_norm(self) -> nn.Module:
        """The norm that ends the branch."""
        raise NotImplementedError

    def convolve(self, x: Tensor) -> Tensor:
        """Compute the branch that is added to the shortcut, up to its last norm."""
        raise NotImplementedError

    def begin(self, x: Tensor) -> Tensor:
        """Compute the first convolution, its norm and ReLU."""
        x = self.conv1(x)
        if self.attention is None or self.attention_position != "after_first":
            return norm(self.bn1, x, activation="relu")
        return F.relu(self.attend(norm(self.bn1, x), "after_first"), inplace=True)

    def attend(self, x: Tensor, position: str) -> Tensor:
        """Apply the attention if this is its position."""
        if self.attention is None or self.attention_position != position:
            return x
        out: Tensor = self.attention(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in h w] to [b out h/stride w/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        branch = self.convolve(x)
        if self.attention is None or self.attention_position == "after_first":
            return norm(self.last_norm, branch, add=shortcut, activation="relu")
        branch = self.attend(norm(self.last_norm, branch), "before_add")
        branch += shortcut  # in place: the largest maps are not held twice
        return F.relu(self.attend(branch, "after_add"), inplace=True)


class BasicBlock(Block):
    """Two 3x3 convolutions (figure 5, left)."""

    expansion = 1

    def make_branch(self, in_width: int, width: int, *, stride: int) -> None:
        """Make two convolutions, each with its norm."""
        self.conv1 = conv(in_width, width, kernel_size=3, stride=stride)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = conv(width, width, kernel_size=3)
        self.bn2 = BatchNorm2d(width)

    @property
    def last_norm(self) -> nn.Module:
        """The second norm."""
        return self.bn2

    def convolve(self, x: Tensor) -> Tensor:
        """Compute conv, norm, ReLU, conv."""
        out: Tensor = self.conv2(self.begin(x))
        return out


class Bottleneck(Block):
    """1x1 down, 3x3, 1x1 up to four times the width (figure 5, right)."""

    expansion = 4

    def make_branch(self, in_width: int, width: int, *, stride: int) -> None:
        """Make three convolutions, each with its norm; the stride is in the second."""
        self.conv1 = conv(in_width, width, kernel_size=1)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = conv(width, width, kernel_size=3, stride=stride)
        self.bn2 = BatchNorm2d(width)
        self.conv3 = conv(width, width * self.expansion, kernel_size=1)
        self.bn3 = BatchNorm2d(width * self.expansion)

    @property
    def last_norm(self) -> nn.Module:
        """The third norm."""
        return self.bn3

    def convolve(self, x: Tensor) -> Tensor:
        """Compute the three convolutions, with norm and ReLU between them."""
        out: Tensor = self.conv3(norm(self.bn2, self.conv2(self.begin(x)), activation="relu"))
        return out


def make_shortcut(in_width: int, out_width: int, *, stride: int, kind: str) -> nn.Module | None:
    """Make what a block adds its residual to; None is the input itself, where the shapes agree."""
    if stride == 1 and in_width == out_width:
        return None
    if kind == "A":
        return PadShortcut(out_width - in_width, stride=stride)
    return nn.Sequential(conv(in_width, out_width, kernel_size=1, stride=stride), BatchNorm2d(out_width))


def small_resnet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    depth: int = 20,
    shortcut: str = "B",
    attention: str | Mapping[str, object] = "none",
    attention_position: str = DEFAULT_POSITION,
) -> ResidualNet:
    """Build the net of section 4.2: three stages of (depth - 2) / 6 basic blocks, 16, 32, 64 wide.

    Raises:
        RecipeError: a depth that is not 6n + 2, an unknown shortcut, or an attention that cannot be.
    """
    depths = small_depths(depth)
    if shortcut not in ("A", "B"):
        raise RecipeError("model.shortcut", found=f"{shortcut!r}", expected="A (zeros) or B (projection)")
    return ResidualNet(
        num_classes=num_classes,
        in_channels=in_channels,
        make_block=_maker(BasicBlock, shortcut=shortcut, attention=attention, attention_position=attention_position),
        widths=(16, 32, 64),
        depths=depths,
    )


# Table 1 of the paper; ten layers are one block a stage.
TABLE_1: dict[int, tuple[type[Block], tuple[int, ...]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


def resnet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    depth: int = 18,
    stem: str = "auto",
    attention: str | Mapping[str, object] = "none",
    attention_position: str = DEFAULT_POSITION,
) -> ResidualNet:
    """Build the net of table 1: four stages, 64 to 512 wide.

    Raises:
        RecipeError: a depth that the table does not have, an unknown stem, or an attention that cannot be.
    """
    if depth not in TABLE_1:
        raise RecipeError("model.depth", found=f"{depth}", expected=f"one of {', '.join(map(str, TABLE_1))}")
    block, depths = TABLE_1[depth]
    return ResidualNet(
        num_classes=num_classes,
        in_channels=in_channels,
        make_block=_maker(block, shortcut="B", attention=attention, attention_position=attention_position),
        widths=(64, 128, 256, 512),
        depths=depths,
        expansion=block.expansion,
        stem=choose_stem(stem, image_size),
    )


def _maker(block: type[Block], *, attention_position: str, **options: Any) -> MakeBlock:  # noqa: ANN401 - the block's
    refuse_unknown("model.attention_position", [attention_position], POSITIONS)
    if options["attention"] == "none" and attention_position != DEFAULT_POSITION:
        expected = f"{DEFAULT_POSITION}, or an attention to be placed: model.attention=eca"
        raise RecipeError(
            "model.attention_position", found=f"'{attention_position}' without attention", expected=expected
        )

    def make(in_width: int, width: int, *, stride: int, progress: float) -> nn.Module:
        return block(in_width, width, stride=stride, attention_position=attention_position, **options)

    return make
