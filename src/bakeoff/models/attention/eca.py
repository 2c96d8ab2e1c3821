"""Efficient channel attention: a gate per channel from its nearest neighbours, for a handful of parameters.

Paper:   Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", 2020.
         https://arxiv.org/abs/1910.03151
Follows: section 3.2; the rule for the kernel is equation 12 with gamma = 2 and b = 1, rounded as in the official code.
Differs: nothing. (The official networks do not use the rule: their kernels are given stage by stage.)
Checked: logits and gradients in ResNet-20 and 32 against the official block (BangguWu/ECANet), recorded; in ResNet-18
         against timm 1.0.31 EcaModule; at the other kernels and places against a second implementation.
"""

import math

from torch import Tensor, nn

from bakeoff.errors import RecipeError


def adaptive_kernel_size(width: int) -> int:
    """Return the kernel that equation 12 gives `width` channels: 3 from 8 to 127, 5 from 128 to 2047.

    The absolute value of (log2(width) + 1) / 2 without its fraction, and one more where that is even.
    """
    size = int(abs((math.log2(width) + 1) / 2))
    return size if size % 2 else size + 1


class ECA(nn.Module):
    """Gate each channel by a convolution along the channels' means.

    Args:
        width: channels.
        kernel_size: channels that decide about one, an odd number; "adaptive" follows the width.

    Raises:
        RecipeError: a kernel that is neither odd and positive nor "adaptive".
    """

    def __init__(self, width: int, *, kernel_size: int | str = "adaptive") -> None:
        super().__init__()
        if kernel_size == "adaptive":
            kernel_size = adaptive_kernel_size(width)
        if not isinstance(kernel_size, int) or isinstance(kernel_size, bool) or kernel_size < 1 or kernel_size % 2 == 0:
            found, expected = repr(kernel_size), "an odd number, such as 3, or adaptive"
            raise RecipeError("model.attention.kernel_size", found=found, expected=expected)
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        gate = self.conv(x.mean((2, 3)).unsqueeze(1)).sigmoid()
        out: Tensor = x * gate.transpose(1, 2).unsqueeze(3)
        return out
