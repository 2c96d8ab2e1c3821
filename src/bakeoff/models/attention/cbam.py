"""Convolutional block attention: a gate per channel, then a gate per pixel.

Paper:   Woo et al., "CBAM: Convolutional Block Attention Module", 2018. https://arxiv.org/abs/1807.06521
Follows: section 3, reduction 16, kernel 7; with biases in the matrices and a batch norm after the convolution, as the
         official code has them and the paper does not say.
Differs: that norm starts with scale 1 (official 0, which gives its convolution no gradient at the first step) and
         keeps torch's momentum 0.1 (official 0.01).
Checked: logits and gradients in ResNet-20 against the official class (Jongchan/attention-module), recorded; and
         a second implementation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError


class ChannelGate(nn.Module):
    """Gate each channel by one pair of matrices over the channels' means and over their largest values."""

    def __init__(self, width: int, *, reduction: int) -> None:
        super().__init__()
        narrow = max(1, width // reduction)
        self.fc1 = nn.Conv2d(width, narrow, 1)
        self.fc2 = nn.Conv2d(narrow, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        mean, largest = (
            self.fc2(F.relu(self.fc1(pooled), inplace=True))
            for pooled in (x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True))
        )
        out: Tensor = x * (mean + largest).sigmoid()
        return out


class SpatialGate(nn.Module):
    """Gate each pixel by a convolution over the largest value and the mean of its channels."""

    def __init__(self, *, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        out: Tensor = x * self.bn(self.conv(pooled)).sigmoid()
        return out


class CBAM(nn.Module):
    """Gate channels, then pixels.

    Args:
        width: channels.
        reduction: how many times narrower the layer between the channel gate's matrices is.
        kernel_size: of the spatial gate, an odd number.

    Raises:
        RecipeError: an even kernel.
    """

    def __init__(self, width: int, *, reduction: int = 16, kernel_size: int = 7) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise RecipeError(
                "model.attention.kernel_size", found=f"{kernel_size}", expected="an odd number, such as 7"
            )
        self.channel = ChannelGate(width, reduction=reduction)
        self.spatial = SpatialGate(kernel_size=kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        out: Tensor = self.spatial(self.channel(x))
        return out
