"""Split-attention networks: a residual network whose 3x3 convolutions come in parts that compete for each channel.

Paper:   Zhang et al., "ResNeSt: Split-Attention Networks", 2020. https://arxiv.org/abs/2004.08955
Follows: section 3 and the official code's `resnest50`: radix 2, cardinality 1, three 3x3 convolutions for a stem
         (32, 32, 64), 3x3 mean pooling for stride in the block and mean pooling in the shortcut; 25,639,140
         parameters at 100 classes. Depths 14 and 26 are timm's, with one and two blocks a stage.
Differs: below 128 pixels the first convolution has stride 1 and no pooling follows, with the same weights, so that
         32-pixel images reach the last stage at 4x4 (`stem="imagenet"` is the paper's); drop-path takes the place
         of DropBlock, and acts on the branch (timm's also drops the shortcut); the last layer starts small, and
         filters in groups with the variance of their group (official: of the whole; a norm follows either way).
Checked: parameters, logits, gradients and statistics against timm 1.0.31 `resnest50d` and `resnest14d` with both
         beginnings, and against the official `resnest50` (recorded).

While training every batch needs two pictures or more: the attention normalises vectors over the batch alone.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.frames import ResidualNet
from bakeoff.models.layers import DropPath, choose_stem, conv, drop_path_rates
from bakeoff.models.norms import BatchNorm2d

FROM_TIMM: Final = ()

STEM_WIDTH = 32
DEPTHS = {14: (1, 1, 1, 1), 26: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
RADICES = (1, 2, 4)


class SplitAttention(nn.Module):
    """A 3x3 convolution into `radix` parts, summed with weights for each channel (figure 2, equations 1 and 2).

    The weights are a softmax over the parts, made from the mean over the picture of the parts' sum; a single
    part is weighed by a sigmoid.
    """

    def __init__(self, width: int, *, radix: int) -> None:
        super().__init__()
        self.radix = radix
        inner_width = max(width * radix // 4, 32)
        self.conv = conv(width, width * radix, kernel_size=3, groups=radix)
        self.bn0 = BatchNorm2d(width * radix)
        self.fc1 = nn.Conv2d(width, inner_width, 1)
        self.bn1 = BatchNorm2d(inner_width)
        self.fc2 = nn.Conv2d(inner_width, width * radix, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        x = F.relu(self.bn0(self.conv(x)), inplace=True)  # [b radix*c h w]
        # The mean first: the sum over parts is then one of vectors, not of maps.
        pooled = torch.stack(x.mean((2, 3), keepdim=True).chunk(self.radix, dim=1)).sum(0)
        attention: Tensor = self.fc2(F.relu(self.bn1(self.fc1(pooled)), inplace=True))
        if self.radix == 1:
            return x * attention.sigmoid()
        weights = torch.stack(attention.chunk(self.radix, dim=1)).softmax(0).to(x.dtype)
        # Part by part, as slices of channels, which keeps the memory's layout; a sum over a fifth axis would not.
        parts = x.chunk(self.radix, dim=1)
        out: Tensor = parts[0] * weights[0]
        for i in range(1, self.radix):
            out = out.addcmul(parts[i], weights[i])
        return out


class Bottleneck(nn.Module):
    """1x1 down, split attention, mean pooling where the picture is halved, 1x1 up to four times the width."""

    expansion = 4

    def __init__(self, in_width: int, width: int, *, stride: int, radix: int, drop_path: float) -> None:
        super().__init__()
        out_width = width * self.expansion
        self.conv1 = conv(in_width, width, kernel_size=1)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = SplitAttention(width, radix=radix)
        self.pool = nn.AvgPool2d(3, stride, padding=1) if stride > 1 else nn.Identity()
        self.conv3 = conv(width, out_width, kernel_size=1)
        self.bn3 = BatchNorm2d(out_width)
        self.drop_path = DropPath(drop_path)
        self.downsample: nn.Module | None = None
        if stride > 1 or in_width != out_width:
            self.downsample = nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity(),
                conv(in_width, out_width, kernel_size=1),
                BatchNorm2d(out_width),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in h w] to [b out h/stride w/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.bn3(self.conv3(self.pool(self.conv2(x))))
        return F.relu(self.drop_path(x) + shortcut, inplace=True)


def resnest(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    depth: int = 50,
    radix: int = 2,
    drop_path: float = 0.0,
    stem: str = "auto",
) -> ResidualNet:
    """Build a ResNeSt of four stages, 64 to 512 wide before the blocks' expansion.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: pixels; decides the stem where that is "auto".
        depth: layers, as the paper counts them: 14, 26 or 50.
        radix: parts of each 3x3 convolution.
        drop_path: chance of the last block to be left out while training; linear from 0 at the first.
        stem: "small" has stride 1; "imagenet" has stride 2, then pooling at stride 2.

    Raises:
        RecipeError: an unknown depth, radix or stem, a chance outside [0, 1).
    """
    if depth not in DEPTHS:
        raise RecipeError("model.depth", found=f"{depth}", expected=f"one of {', '.join(map(str, DEPTHS))}")
    if radix not in RADICES:
        raise RecipeError("model.radix", found=f"{radix}", expected=f"one of {', '.join(map(str, RADICES))}")
    drop_path_rates(drop_path, 1)  # refuses what is no chance
    stem = choose_stem(stem, image_size)

    def make_block(in_width: int, width: int, *, stride: int, progress: float) -> nn.Module:
        return Bottleneck(in_width, width, stride=stride, radix=radix, drop_path=drop_path * progress)

    return ResidualNet(
        num_classes=num_classes,
        in_channels=in_channels,
        make_block=make_block,
        widths=(2 * STEM_WIDTH, 128, 256, 512),
        depths=DEPTHS[depth],
        expansion=Bottleneck.expansion,
        stem=stem,
        conv1=deep_stem(in_channels, stride=2 if stem == "imagenet" else 1),
    )


def deep_stem(in_channels: int, *, stride: int) -> nn.Sequential:
    """Make the three convolutions that take the place of a single 7x7 one; a norm follows."""
    return nn.Sequential(
        conv(in_channels, STEM_WIDTH, kernel_size=3, stride=stride),
        BatchNorm2d(STEM_WIDTH),
        nn.ReLU(inplace=True),
        conv(STEM_WIDTH, STEM_WIDTH, kernel_size=3),
        BatchNorm2d(STEM_WIDTH),
        nn.ReLU(inplace=True),
        conv(STEM_WIDTH, 2 * STEM_WIDTH, kernel_size=3),
    )
