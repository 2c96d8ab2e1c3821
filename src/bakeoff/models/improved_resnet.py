"""ResNet-20 with inverted bottlenecks around a wide depthwise convolution; and the ablations of the two.

Paper:   none; an invention of the first course project. Its parts are from Sandler et al., "MobileNetV2: Inverted
         Residuals and Linear Bottlenecks", 2018, https://arxiv.org/abs/1801.04381 (the inverted bottleneck; ReLU, batch
         norm) and Liu et al., "A ConvNet for the 2020s", 2022, https://arxiv.org/abs/2201.03545 (7x7 depthwise).
Follows: that project's network: ResNet-20's stem, widths and depths, nine blocks, each 1x1 to four times the width of
         its input, 7x7 depthwise, 1x1, added to ResNet's shortcut, then ReLU.
Differs: from MobileNetV2 by the ReLU after the sum; from ConvNeXt in nearly everything but the 7x7. From the
         project: one block with options instead of four copies; the weights start as ResNet's. The counts are its own.
Checked: parameters, logits and gradients of the four names against a second implementation written with functions
         only; parameters against a count by hand and the project's logs.

`depthwise=False, kernel_size=3` is the project's "standard convolution": it changes the kernel and the grouping at
once, and has eleven times the parameters (1,887,892 at 100 classes, against 174,868); without the inverted
bottleneck there are 38,644. These two ablations compare networks of different size.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.models.frames import ResidualNet
from bakeoff.models.layers import DropPath, conv, drop_path_rates, refuse_even
from bakeoff.models.norms import BatchNorm2d

EXPANSION = 4  # hidden width of the inverted bottleneck, over the width of the input
DEPTHS = (3, 3, 3)


class InvertedBlock(nn.Module):
    """Widen by a 1x1 convolution, convolve within the channels, narrow; added to a shortcut, then ReLU.

    Args:
        in_width: channels that come in; the hidden width is four times that, or that itself without `inverted`.
        width: channels that go out.
        stride: of the convolution in the middle.
        drop_path: chance of the branch to be dropped while training.
        kernel_size: of the convolution in the middle.
        depthwise: whether that keeps the channels apart.
        inverted: whether the block widens first.
    """

    def __init__(
        self,
        in_width: int,
        width: int,
        *,
        stride: int,
        drop_path: float,
        kernel_size: int,
        depthwise: bool,
        inverted: bool,
    ) -> None:
        super().__init__()
        hidden = EXPANSION * in_width if inverted else in_width
        groups = hidden if depthwise else 1
        self.residual = nn.Sequential()
        if inverted:
            self.residual.extend([conv(in_width, hidden, kernel_size=1), BatchNorm2d(hidden), nn.ReLU(inplace=True)])
        self.residual.extend(
            [
                conv(hidden, hidden, kernel_size=kernel_size, stride=stride, groups=groups),
                BatchNorm2d(hidden),
                nn.ReLU(inplace=True),
                conv(hidden, width, kernel_size=1),
                BatchNorm2d(width),
            ]
        )
        self.drop_path = DropPath(drop_path)
        self.downsample: nn.Module | None = None
        if stride > 1 or in_width != width:
            self.downsample = nn.Sequential(conv(in_width, width, kernel_size=1, stride=stride), BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in h w] to [b width h/stride w/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.drop_path(self.residual(x)) + shortcut, inplace=True)


def improved_resnet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    drop_path: float = 0.0,
    kernel_size: int = 7,
    depthwise: bool = True,
    inverted: bool = True,
) -> ResidualNet:
    """Build three stages of three blocks, 16, 32 and 64 wide.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: pixels; any.
        drop_path: chance of the last block to be dropped while training, linear from 0 at the first.
        kernel_size: of the convolution in the middle of a block.
        depthwise: whether that keeps the channels apart.
        inverted: whether a block widens four times before it.

    Raises:
        RecipeError: a chance outside [0, 1), a kernel size that is not odd.
    """
    refuse_even(kernel_size)
    drop_path_rates(drop_path, 1)  # refuses what is no chance

    def make_block(in_width: int, width: int, *, stride: int, progress: float) -> nn.Module:
        return InvertedBlock(
            in_width,
            width,
            stride=stride,
            drop_path=drop_path * progress,
            kernel_size=kernel_size,
            depthwise=depthwise,
            inverted=inverted,
        )

    return ResidualNet(
        num_classes=num_classes, in_channels=in_channels, make_block=make_block, widths=(16, 32, 64), depths=DEPTHS
    )
