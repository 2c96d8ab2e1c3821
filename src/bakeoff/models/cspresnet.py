"""Cross-stage partial residual networks: half of a stage's channels go through its blocks, half around them.

Paper:   Wang et al., "CSPNet: A New Backbone that can Enhance Learning Capability of CNN", 2019.
         https://arxiv.org/abs/1911.11929
Follows: section 3.2 (cross stage partial, transition after both parts), as timm 1.0.31 `cspresnet50` sets it out:
         20,693,668 parameters at 100 classes.
Differs: below 128 pixels conv1 has stride 1 and no pooling follows, with the same weights, so that 32-pixel images
         reach the last stage at 4x4 (`stem="imagenet"` is timm's). From the paper's own csresnet50.cfg (20,685,348):
         one 1x1 convolution, cut in two, where the cfg has two, and the negative slope 0.01 where Darknet has 0.1.
         From timm: no norm starts at zero, and drop-path grows block by block, not stage by stage.
Checked: parameters, logits, gradients and statistics against timm 1.0.31 `cspresnet50` with both beginnings.
"""

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.layers import DropPath, choose_stem, conv, drop_path_rates, initialise
from bakeoff.models.norms import BatchNorm2d

# Their stages are a list that counts from zero.
FROM_TIMM: Final = (*((rf"^stages\.{i}\.", f"layer{i + 1}.") for i in range(4)), (r"^head\.fc\.", "fc."))


class ConvNorm(nn.Module):
    """Convolution, batch norm, leaky ReLU (or none, where the result is to stay linear)."""

    def __init__(
        self, in_width: int, width: int, *, kernel_size: int = 1, stride: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = conv(in_width, width, kernel_size=kernel_size, stride=stride)
        self.bn = BatchNorm2d(width)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in h w] to [b out h/stride w/stride]."""
        x = self.bn(self.conv(x))
        return x if self.linear else F.leaky_relu(x, inplace=True)


class Bottleneck(nn.Module):
    """1x1 down to half the width, 3x3, 1x1 up, added to the input."""

    def __init__(self, width: int, *, drop_path: float) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, width // 2)
        self.conv2 = ConvNorm(width // 2, width // 2, kernel_size=3)
        self.conv3 = ConvNorm(width // 2, width, linear=True)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        return F.leaky_relu(self.drop_path(self.conv3(self.conv2(self.conv1(x)))) + x, inplace=True)


class CrossStage(nn.Module):
    """Widen to twice `width`; one half through the blocks, one around them; join both (figure 2 b)."""

    def __init__(self, in_width: int, width: int, *, stride: int, rates: Sequence[float]) -> None:
        super().__init__()
        down = stride > 1
        self.conv_down = ConvNorm(in_width, in_width, kernel_size=3, stride=stride) if down else nn.Identity()
        self.conv_exp = ConvNorm(in_width, 2 * width, linear=True)
        self.blocks = nn.Sequential(*(Bottleneck(width, drop_path=rate) for rate in rates))
        self.conv_transition_b = ConvNorm(width, width)
        self.conv_transition = ConvNorm(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in h w] to [b width h/stride w/stride]."""
        around, through = self.conv_exp(self.conv_down(x)).chunk(2, dim=1)
        through = self.conv_transition_b(self.blocks(through))
        out: Tensor = self.conv_transition(torch.cat([around, through], dim=1))
        return out


class CspResNet(nn.Module):
    """Stem, cross stages, mean over the picture, one matrix."""

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        depths: Sequence[int],
        widths: Sequence[int],
        drop_path: float,
        stem: str,
    ) -> None:
        super().__init__()
        width, large = widths[0] // 2, stem == "imagenet"
        self.stem = nn.Sequential()
        self.stem.add_module("conv1", ConvNorm(in_channels, width, kernel_size=7, stride=2 if large else 1))
        if large:
            self.stem.add_module("pool", nn.MaxPool2d(3, stride=2, padding=1))
        rates = iter(drop_path_rates(drop_path, sum(depths)))
        self.stages = [f"layer{i}" for i in range(1, len(depths) + 1)]
        for stage, stage_width, depth in zip(self.stages, widths, depths, strict=True):
            stride = 1 if stage == "layer1" else 2
            self.add_module(
                stage, CrossStage(width, stage_width, stride=stride, rates=[next(rates) for _ in range(depth)])
            )
            width = stage_width
        self.fc = nn.Linear(width, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures [b c h w] to logits [b classes]."""
        x = self.stem(x)
        for stage in self.stages:
            x = getattr(self, stage)(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def cspresnet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    depths: Sequence[int] = (3, 3, 5, 2),
    widths: Sequence[int] = (128, 256, 512, 1024),
    drop_path: float = 0.0,
    stem: str = "auto",
) -> CspResNet:
    """Build a CSPResNet; the defaults are CSPResNet-50.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: pixels; decides the stem where that is "auto".
        depths: blocks of each stage; each stage but the first halves the picture.
        widths: channels of each stage; the stem has half the first.
        drop_path: chance of the last block to be left out while training; linear from 0 at the first.
        stem: "small" is 7x7 at stride 1; "imagenet" is 7x7 at stride 2, then pooling at stride 2.

    Raises:
        RecipeError: depths and widths that make no network, a chance outside [0, 1), an unknown stem.
    """
    if not depths or min(depths) < 1:
        raise RecipeError("model.depths", found=f"{list(depths)}", expected="one block or more in each stage")
    if len(widths) != len(depths) or min(widths) < 2 or any(width % 2 for width in widths):
        expected = f"{len(depths)} even widths, one a stage, as many as depths"
        raise RecipeError("model.widths", found=f"{list(widths)}", expected=expected)
    return CspResNet(
        num_classes=num_classes,
        in_channels=in_channels,
        depths=depths,
        widths=widths,
        drop_path=drop_path,
        stem=choose_stem(stem, image_size),
    )
