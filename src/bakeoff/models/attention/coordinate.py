"""Coordinate attention: a gate per channel and row times a gate per channel and column.

Paper:   Hou et al., "Coordinate Attention for Efficient Mobile Network Design", 2021. https://arxiv.org/abs/2103.02907
Follows: section 3.2 and the official code: reduction 32, 8 channels at least, hard swish.
Differs: no bias before the batch norm, which would take it out again.
Checked: logits and gradients in ResNet-20 against the official class (houqb/CoordAttention), recorded; and
         a second implementation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.models.norms import BatchNorm2d

NARROWEST = 8


class CoordinateAttention(nn.Module):
    """Gate rows and columns, each from the means along the other axis.

    Args:
        width: channels.
        reduction: how many times narrower the layer in between is.
    """

    def __init__(self, width: int, *, reduction: int = 32) -> None:
        super().__init__()
        narrow = max(NARROWEST, width // reduction)
        self.conv1 = nn.Conv2d(width, narrow, 1, bias=False)
        self.bn1 = BatchNorm2d(narrow)
        self.conv_h = nn.Conv2d(narrow, width, 1)
        self.conv_w = nn.Conv2d(narrow, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        height = x.shape[2]
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)
        # One norm over both, so that rows and columns are on one scale.
        y = F.hardswish(self.bn1(self.conv1(torch.cat([rows, columns], 2))))
        to_rows = self.conv_h(y[:, :, :height]).sigmoid()
        to_columns = self.conv_w(y[:, :, height:].transpose(2, 3)).sigmoid()
        out: Tensor = x * to_rows * to_columns
        return out
