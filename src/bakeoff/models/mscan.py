"""MSCAN, the convolutional backbone of SegNeXt, with a classifier on it.

Paper:   Guo et al., "SegNeXt: Rethinking Convolutional Attention Design for Semantic Segmentation", 2022.
         https://arxiv.org/abs/2209.08575
Follows: section 3.1 with equations 1 and 2, MSCAN-T (3,929,284 parameters at 100 classes). What the paper leaves
         open is as its official code computes it: a residual around the two 1x1 convolutions of the attention,
         layer scales of 0.01, at the end of every stage a LayerNorm (eps 1e-5) through which the next stage reads,
         biases in all convolutions, also before BatchNorm; filters drawn with variance 2 / (filter size * outputs
         / groups), matrices with standard deviation 0.02.
Differs: a classifier in place of the decoder: the last LayerNorm normalises each pixel, as it does for the
         decoder, then the mean over the picture and one matrix. Below 128 pixels both convolutions of the stem
         have stride 1, so that 32-pixel images run at 32, 16, 8, 4 (`stem="imagenet"` is the paper's: 2 and 2); no
         parameter depends on it. `segnext_mscan_tiny` of the catalogue is ours: three stages, 32, 64, 160 wide,
         1, 1, 2 blocks deep (865,988 parameters).
Checked: logits and gradients, evaluating and training, against answers recorded from the official class: both
         names of the catalogue with the small stem, MSCAN-T also with the official one.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from bakeoff.models.depthwise import Depthwise
from bakeoff.models.gated import GatedNet, check_gated, embed
from bakeoff.models.layers import choose_stem

STRIPS = (7, 11, 21)  # equation 1: two strips of length k stand for a k x k filter


class MultiScaleGate(nn.Module):
    """Multi-scale convolutional attention: a 5x5 filter, strips of three lengths on it, their sum times the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.local = Depthwise(width, 5)
        self.strips = nn.ModuleList(nn.Sequential(Depthwise(width, (1, k)), Depthwise(width, (k, 1))) for k in STRIPS)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        local = self.local(x)
        scales = local
        for strip in self.strips:
            scales = scales + strip(local)
        out: Tensor = self.mix(scales) * x
        return out


def mscan(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    widths: Sequence[int] = (32, 64, 160, 256),
    depths: Sequence[int] = (3, 3, 5, 2),
    mlp_ratios: Sequence[float] = (8, 8, 4, 4),
    drop_path: float = 0.0,
    layer_scale: float = 1e-2,
    stem: str = "auto",
) -> GatedNet:
    """Build MSCAN; the defaults are MSCAN-T. Every stage but the first halves the picture, rounding up.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: pixels; decides the stem if that is "auto".
        widths: channels of each stage; as many as there are stages.
        depths: blocks of each stage.
        mlp_ratios: of each stage the hidden width of its MLPs over its width.
        drop_path: chance of the last block's branches to be dropped; the first block's is 0.
        layer_scale: what the layer scales start at.
        stem: "small" keeps the size of the picture, "imagenet" divides it by four.

    Raises:
        RecipeError: lists of different lengths, an unknown stem, a number out of range.
    """
    check_gated(widths, depths, mlp_ratios, layer_scale=layer_scale)
    stride = 1 if choose_stem(stem, image_size) == "small" else 2
    half = widths[0] // 2
    first = [*embed(in_channels, half, stride=stride), nn.GELU(), *embed(half, widths[0], stride=stride)]
    return GatedNet(
        num_classes=num_classes,
        stem=nn.Sequential(*first),
        make_gate=MultiScaleGate,
        widths=widths,
        depths=depths,
        mlp_ratios=mlp_ratios,
        drop_path=drop_path,
        layer_scale=layer_scale,
        norm_eps=1e-5,
    )
