"""ConvNeXt: a residual network modernised step by step until it is shaped like a transformer.

Paper:   Liu et al., "A ConvNet for the 2020s", 2022. https://arxiv.org/abs/2201.03545
Follows: section 2: patches, depthwise 7x7, inverted bottleneck, one norm and one GELU a block, norm before each
         halving; from the appendix and the official code layer scale from 1e-6, weights from N(0, 0.02), and the
         last norm after the mean over the picture. The default is ConvNeXt-T; the smaller nano and atto are timm's.
Differs: below 128 pixels the stem's 4x4 convolution has stride 2 and padding 1, so that the stages see 32-pixel
         pictures at 16, 8, 4, 2 with weights of the same shape (`stem="imagenet"` is the paper's: 8, 4, 2, 1;
         `stem="3x3"` has stride 1: 32, 16, 8, 4). Layer scale and addition are one operation.
Checked: logits and gradients: tiny against torchvision 0.29 with the small stem and the paper's, and against timm
         1.0.31 with the small stem; nano and atto against timm's. Tiny at 100 classes: 27,897,028 parameters
         (3x3 stem: 27,895,012), nano 15,016,660, atto 3,406,620.
"""

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.depthwise import Depthwise
from bakeoff.models.frames import TrunkNet, check_trunk
from bakeoff.models.layers import DropPath, Mlp, refuse_even

FROM_TIMM: Final = ((r"^stages\.", "trunk."), (r"^head\.", ""), (r"\.gamma$", ".layer_scale"))
# torchvision counts what lies between the stages as well: 1, 3, 5, 7 are blocks, 2, 4, 6 are halvings.
FROM_TORCHVISION: Final = (
    (r"^features\.0\.", "stem."),
    *((rf"^features\.{2 * i + 1}\.(\d+)\.(block\.)?", rf"trunk.{i}.blocks.\1.") for i in range(4)),
    *((rf"^features\.{2 * i}\.", f"trunk.{i}.downsample.") for i in range(1, 4)),
    *((rf"(\.blocks\.\d+)\.{i}\.", rf"\1.{ours}.") for i, ours in ((0, "conv_dw"), (2, "norm"))),
    *((rf"(\.blocks\.\d+)\.{i}\.", rf"\1.mlp.{ours}.") for i, ours in ((3, "fc1"), (5, "fc2"))),
    (r"^classifier\.0\.", "norm."),
    (r"^classifier\.2\.", "fc."),
)


class Block(nn.Module):
    """Depthwise convolution, norm, two matrices, scaled and added (figure 4, right)."""

    def __init__(self, width: int, *, kernel_size: int, layer_scale: float, drop_path: float) -> None:
        super().__init__()
        self.conv_dw = Depthwise(width, kernel_size)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)
        self.layer_scale = nn.Parameter(torch.full((width,), float(layer_scale)))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape, in channels-last memory."""
        branch = self.conv_dw(x).permute(0, 2, 3, 1)
        branch = self.drop_path(self.mlp(self.norm(branch)))
        # x + branch * layer_scale in one pass over memory; in channels-last memory the permutations move nothing.
        return torch.addcmul(x.permute(0, 2, 3, 1), branch, self.layer_scale).permute(0, 3, 1, 2)


def convnext(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    depths: Sequence[int] = (3, 3, 9, 3),
    widths: Sequence[int] = (96, 192, 384, 768),
    kernel_size: int = 7,
    layer_scale: float = 1e-6,
    drop_path: float = 0.0,
    stem: str = "auto",
) -> TrunkNet:
    """Build a ConvNeXt; the default is ConvNeXt-T.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: pixels; at least 2 (small), 1 (3x3) or 4 (imagenet), doubled for each stage after the first.
        depths: blocks of each stage.
        widths: channels of each stage.
        kernel_size: of the depthwise convolutions, odd.
        layer_scale: what each branch is multiplied with at first; learned.
        drop_path: the last block's chance to be dropped while training; 0 for the first, linear between.
        stem: "small" is 4x4 at stride 2, "3x3" is at stride 1, "imagenet" is 4x4 at stride 4; "auto" chooses.

    Raises:
        RecipeError: an option out of its range, or a picture that the strides divide to nothing.
    """
    check_trunk(widths, depths)
    refuse_even(kernel_size)
    if not 0 < layer_scale < math.inf:
        raise RecipeError("model.layer_scale", found=f"{layer_scale}", expected="a number above 0, such as 1e-6")

    def make_block(stage: int, rate: float) -> nn.Module:
        return Block(widths[stage], kernel_size=kernel_size, layer_scale=layer_scale, drop_path=rate)

    return TrunkNet(
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        stem=stem,
        make_block=make_block,
        widths=widths,
        depths=depths,
        drop_path=drop_path,
    )
