"""LSKNet, a backbone whose pixels choose how far they look, with a classifier on it.

Paper:   Li et al., "Large Selective Kernel Network for Remote Sensing Object Detection", 2023.
         https://arxiv.org/abs/2303.09030
Follows: LSKNet-T (4,015,890 parameters at 100 classes): its selective kernels (attention/lsk.py) in blocks like
         those of SegNeXt's MSCAN (gated.py), behind a 7x7 convolution. What the paper leaves open is as its
         official code computes it: a residual around the two 1x1 convolutions of the attention, layer scales of
         0.01, at the end of every stage a LayerNorm (eps 1e-6) through which the next stage reads, biases in all
         convolutions, also before BatchNorm; filters drawn with variance 2 / (filter size * outputs / groups),
         matrices with standard deviation 0.02.
Differs: a classifier in place of the detector: the last LayerNorm normalises each pixel, as it does for the
         detector, then the mean over the picture and one matrix. Below 128 pixels the stem has stride 1, so that
         32-pixel images run at 32, 16, 8, 4 (`stem="imagenet"` is the paper's: 4); no parameter depends on it.
Checked: logits and gradients, evaluating and training, against answers recorded from the official class, with
         both stems. No line of that code is here: its licence is CC BY-NC.
"""

from collections.abc import Sequence

from bakeoff.models.attention.lsk import LSK
from bakeoff.models.gated import GatedNet, check_gated, embed
from bakeoff.models.layers import choose_stem


def lsknet(
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
    """Build LSKNet; the defaults are LSKNet-T. Every stage but the first halves the picture, rounding up.

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
    stride = 1 if choose_stem(stem, image_size) == "small" else 4
    return GatedNet(
        num_classes=num_classes,
        stem=embed(in_channels, widths[0], kernel_size=7, stride=stride),
        make_gate=LSK,
        widths=widths,
        depths=depths,
        mlp_ratios=mlp_ratios,
        drop_path=drop_path,
        layer_scale=layer_scale,
        norm_eps=1e-6,
    )
