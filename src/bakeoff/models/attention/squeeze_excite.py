"""Squeeze and excitation: a gate per channel from the means of all.

Paper:   Hu et al., "Squeeze-and-Excitation Networks", 2018. https://arxiv.org/abs/1709.01507
Follows: section 3, reduction 16. Names as in timm and torchvision.
Differs: nothing; the narrow layer has one channel at least. (timm rounds its width up to a multiple of 8.)
Checked: logits and gradients against torchvision 0.29 SqueezeExcitation in ResNet-20, timm 1.0.31 SEModule in
         ResNet-50, and a second implementation.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Gate each channel by two matrices over the channels' means.

    Args:
        width: channels.
        reduction: how many times narrower the layer between the matrices is.
    """

    def __init__(self, width: int, *, reduction: int = 16) -> None:
        super().__init__()
        narrow = max(1, width // reduction)
        self.fc1 = nn.Conv2d(width, narrow, 1)
        self.fc2 = nn.Conv2d(narrow, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        out: Tensor = x * self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)), inplace=True)).sigmoid()
        return out
