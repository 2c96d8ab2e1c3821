"""Large selective kernels: each pixel chooses how far it looks.

Paper:   Li et al., "Large Selective Kernel Network for Remote Sensing Object Detection", 2023.
         https://arxiv.org/abs/2303.09030
Follows: section 3.3 and figure 4, with the two kernels of LSKNet: 5x5, then 7x7 with dilation 3 over its result, which
         together see 23 pixels. Names as in the official code, whose weights therefore load.
Differs: the mean and the largest value over all channels are put together from those of the two halves; the numbers
         are the same and nothing is copied.
Checked: logits and gradients in ResNet-8 against the official class (zcablii/LSKNet), recorded; 21,510 parameters at 96
         channels, 70,470 at 192.
"""

import torch
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.depthwise import Depthwise


class LSK(nn.Module):
    """Multiply the picture by a mixture of a near and a far view of it, weighed pixel by pixel.

    Args:
        width: channels, 2 or more: each view is given half of them.

    Raises:
        RecipeError: fewer than 2 channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width < 2:
            raise RecipeError("model.attention", found=f"lsk on {width} channel", expected="2 channels or more")
        half = width // 2
        self.conv0 = Depthwise(width, 5)
        self.conv_spatial = Depthwise(width, 7, dilation=3)
        self.conv1 = nn.Conv2d(width, half, 1)
        self.conv2 = nn.Conv2d(width, half, 1)
        self.conv_squeeze = nn.Conv2d(2, 2, 7, padding=3)
        self.conv = nn.Conv2d(half, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        near = self.conv0(x)
        far = self.conv2(self.conv_spatial(near))
        near = self.conv1(near)
        mean = (near.mean(1, keepdim=True) + far.mean(1, keepdim=True)) / 2
        largest = torch.maximum(near.amax(1, keepdim=True), far.amax(1, keepdim=True))
        to_near, to_far = self.conv_squeeze(torch.cat([mean, largest], 1)).sigmoid().chunk(2, dim=1)
        out: Tensor = x * self.conv(near * to_near + far * to_far)
        return out
