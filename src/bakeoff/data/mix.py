"""Mixtures of two pictures and their labels: mixup and cutmix.

Papers: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2017. https://arxiv.org/abs/1710.09412
        Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
        2019. https://arxiv.org/abs/1905.04899
Differs: an image's partner is its neighbour in the batch (the batch rolled by one). Batches are cut from a
        fresh random order each epoch, so a neighbour is a random partner, and never the image itself.
Checked: against torchvision 0.29 v2 MixUp and CutMix with the same lambda and box.
"""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from bakeoff.data.draws import generator
from bakeoff.errors import RecipeError

Box = tuple[int, int, int, int]  # top, bottom, left, right; bottom and right excluded


def mixup(x: Tensor, targets: Tensor, *, share: float) -> tuple[Tensor, Tensor]:
    """Blend each image with its neighbour.

    Args:
        x: float [b c h w].
        targets: float [b classes].
        share: what an image keeps of itself, in [0, 1]; lambda in the paper.
    """
    return _blend(x, share), _blend(targets, share)


def cutmix(x: Tensor, targets: Tensor, *, box: Box) -> tuple[Tensor, Tensor]:
    """Paste a box of its neighbour into each image; labels are shared in proportion to the area that is seen.

    Args:
        x: float [b c h w].
        targets: float [b classes].
        box: inside the image, in pixels.
    """
    top, bottom, left, right = box
    height, width = x.shape[-2:]
    mixed = x.clone()
    mixed[..., top:bottom, left:right] = x[..., top:bottom, left:right].roll(1, 0)
    return mixed, _blend(targets, 1.0 - (bottom - top) * (right - left) / (height * width))


def random_box(share: float, *, height: int, width: int, source: np.random.Generator) -> Box:
    """Draw a box of the image's aspect and 1 - `share` of its area around a random pixel, cut at the border."""
    y, x = int(source.integers(height)), int(source.integers(width))
    side = math.sqrt(1.0 - share)
    half_height, half_width = int(side * height / 2), int(side * width / 2)
    top, bottom = max(y - half_height, 0), min(y + half_height, height)
    left, right = max(x - half_width, 0), min(x + half_width, width)
    return top, bottom, left, right


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Which mixtures a run uses. One choice and one lambda a batch, drawn on the host without waiting.

    Args:
        mixup: alpha of the Beta(alpha, alpha) that gives lambda; 0 is off.
        cutmix: the same for cutmix.
        probability: of mixing a batch at all.
        switch: where both are on, the probability of cutmix.

    Raises:
        RecipeError: an alpha is negative or not finite, or a probability is outside [0, 1].
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    probability: float = 1.0
    switch: float = 0.5

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if not 0.0 <= (alpha := getattr(self, name)) < math.inf:
                raise RecipeError(f"mix.{name}", found=str(alpha), expected="a finite alpha from 0 (off) on")
        for name in ("probability", "switch"):
            if not 0.0 <= (chance := getattr(self, name)) <= 1.0:
                raise RecipeError(f"mix.{name}", found=str(chance), expected="a probability in [0, 1]")

    def __call__(self, x: Tensor, targets: Tensor, *, seed: int, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Mix one batch; the images given are left as they are.

        Args:
            x: float [b c h w].
            targets: float [b classes], rows summing to 1.
            seed: of the run.
            epoch: counted from 0.
            step: counted from 0 within the epoch.

        Returns:
            The mixed images and targets, shaped like the given.
        """
        if not (self.mixup or self.cutmix):
            return x, targets
        source = generator(seed, "mix", epoch, step)
        if source.random() >= self.probability:
            return x, targets
        share_of_cutmix = self.switch if self.mixup and self.cutmix else float(self.cutmix > 0)
        if source.random() >= share_of_cutmix:
            return mixup(x, targets, share=source.beta(self.mixup, self.mixup))
        height, width = x.shape[-2:]
        share = source.beta(self.cutmix, self.cutmix)
        return cutmix(x, targets, box=random_box(share, height=height, width=width, source=source))


def _blend(values: Tensor, share: float) -> Tensor:
    """Return share * values + (1 - share) * values of the neighbour, along the first axis."""
    return values.roll(1, 0).mul_(1.0 - share).add_(values * share)
