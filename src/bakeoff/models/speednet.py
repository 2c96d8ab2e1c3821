"""SpeedNet: a wide network of nine convolutions behind a frozen whitening, made to be trained in few epochs.

Paper:   Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024. https://arxiv.org/abs/2404.00498
Follows: section 3: a 2x2 convolution whose filters whiten the patches of the training pictures, not trained; three
         stages of 3x3 convolutions, of which the first is followed by a pooling of 2x2, each by a batch norm
         without scale and a GELU, two a stage (airbench94) or three, around the last two of which their input is
         added (airbench96); filters that start as the identity (Dirac) as far as they can; a matrix without bias.
Differs: the whitening has no bias (the paper trains one for its first epochs), so nothing before the first stage is
         ever differentiated; the GELU is its form with tanh; the last pooling takes the largest of the whole map, so
         that pictures of any size fit; the last matrix starts with variance 1 / width squared, where the paper draws
         it with variance 1 and divides the logits by the width; other widths.
Checked: logits and gradients against a second implementation written with functions only.
"""

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.layers import conv, refuse_smaller
from bakeoff.models.norms import BatchNorm2d, norm
from bakeoff.models.pooling import halve

PATCH_PX: Final = 2  # side of what is whitened
WHITEN_EPS: Final = 5e-4  # added to the variances, so that faint directions are not blown up


class Stage(nn.Module):
    """Convolution, pooling, norm, GELU; convolution, norm, GELU; a third, norm, the pooled map added, GELU.

    Args:
        in_width: channels of the map.
        width: channels of the result.
        depth: convolutions, 2 or 3.
    """

    def __init__(self, in_width: int, width: int, *, depth: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv(in_width, width, kernel_size=3), _shift(width)
        self.conv2, self.norm2 = conv(width, width, kernel_size=3), _shift(width)
        if depth > 2:
            self.conv3, self.norm3 = conv(width, width, kernel_size=3), _shift(width)
        self.depth = depth

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in h w] to [b width h/2 w/2], rounded down."""
        pooled = norm(self.norm1, halve(self.conv1(x)), activation="gelu")
        x = norm(self.norm2, self.conv2(pooled), activation="gelu")
        if self.depth == 2:
            return x
        return norm(self.norm3, self.conv3(x), add=pooled, activation="gelu")


class SpeedNet(nn.Module):
    """Whitening, three stages, the largest of each map, one matrix.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        widths: channels of the stages.
        whiten: whether the first convolution is set by the training pictures and frozen; else it is drawn, and trained.
        dirac: whether the other filters start as the identity as far as they can; else they are torch's draw.
        depth: convolutions a stage, 2 or 3.
    """

    def __init__(
        self, *, num_classes: int, in_channels: int, widths: Sequence[int], whiten: bool, dirac: bool, depth: int
    ) -> None:
        super().__init__()
        directions = 2 * in_channels * PATCH_PX**2  # each of them both ways
        self.is_whitened = whiten
        self.whiten = nn.Conv2d(in_channels, directions, PATCH_PX, bias=False).requires_grad_(not whiten)
        self.stages = [f"stage{i}" for i in range(1, len(widths) + 1)]
        width = directions
        for name, stage_width in zip(self.stages, widths, strict=True):
            self.add_module(name, Stage(width, stage_width, depth=depth))
            width = stage_width
        self.head = nn.Linear(width, num_classes, bias=False)
        nn.init.normal_(self.head.weight, std=1 / width)
        for module in self.modules() if dirac else ():
            if isinstance(module, nn.Conv2d) and module is not self.whiten:
                nn.init.dirac_(module.weight[: module.in_channels])

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Set the whitening by pictures [n c h w], normalised: its filters are the eigenvectors of their patches.

        Source: section 3.1 of the paper.
        """
        if not self.is_whitened:
            return
        size = self.whiten.weight[0].numel()
        patches = F.unfold(x.float(), PATCH_PX).transpose(1, 2).reshape(-1, size).double()
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (directions / (variances + WHITEN_EPS).sqrt()).T.reshape(-1, *self.whiten.weight.shape[1:])
        self.whiten.weight.copy_(torch.cat([filters, -filters]))

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures [b c h w] to logits [b classes]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_whitened):
            x = F.gelu(self.whiten(x), approximate="tanh")
        for stage in self.stages:
            x = getattr(self, stage)(x)
        logits: Tensor = self.head(x.amax((2, 3)))
        return logits


def _shift(width: int) -> BatchNorm2d:
    """Make a batch norm whose scale stays one, and whose statistics follow fast."""
    layer = BatchNorm2d(width, eps=1e-12, momentum=0.4)
    layer.weight.requires_grad_(False)
    return layer


def speednet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    widths: Sequence[int] = (64, 256, 512),
    whiten: bool = True,
    dirac: bool = True,
    depth: int = 3,
) -> SpeedNet:
    """Build the network.

    Raises:
        RecipeError: widths that are not three numbers of 1 or more, another depth than 2 or 3, or pictures too small
            for three halvings.
    """
    refuse_smaller(image_size, than=PATCH_PX**3 + 1)
    if len(widths) != 3 or min(widths) < 1:
        raise RecipeError("model.widths", found=f"{list(widths)}", expected="three numbers of channels, each >= 1")
    if depth not in (2, 3):
        raise RecipeError("model.depth", found=str(depth), expected="2 or 3 convolutions a stage")
    return SpeedNet(
        num_classes=num_classes, in_channels=in_channels, widths=widths, whiten=whiten, dirac=dirac, depth=depth
    )
