"""Augmentation: what happens to each image, drawn a whole epoch at a time and then done batch by batch.

`Augment.plan` draws on the host for every image of an epoch: no device can change what is drawn, and a step pays
nothing for it. `Augment` called with its plan does it, without randomness, by the functions of `pixels` and
`policies`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from bakeoff.data import policies
from bakeoff.data.draws import Draws
from bakeoff.data.pixels import CropMode, crop, flip
from bakeoff.errors import RecipeError

# Zhong et al. 2017, section 4.2: the smallest and largest share of the area, and of height / width
ERASE_AREA = (0.02, 0.33)
ERASE_ASPECT = (0.3, 3.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens to each of n images; None or empty where nothing does.

    Args:
        corner: int64 [n 2], top and left of the crop in the padded image.
        flip: bool [n].
        rounds: of the policy; on the host, wherever the rest is.
        boxes: each int64 [n 4], top, bottom, left and right of what is blanked.
    """

    corner: Tensor | None = None
    flip: Tensor | None = None
    rounds: tuple[policies.Choice, ...] = ()
    boxes: tuple[Tensor, ...] = ()

    def __getitem__(self, rows: slice | Tensor) -> "Plan":
        return Plan(
            corner=None if self.corner is None else self.corner[rows],
            flip=None if self.flip is None else self.flip[rows],
            rounds=tuple(choice[rows if isinstance(rows, slice) else rows.numpy()] for choice in self.rounds),
            boxes=tuple(box[rows] for box in self.boxes),
        )

    def to(self, device: torch.device) -> "Plan":
        """Return the plan with its tensors on a device."""
        return replace(
            self,
            corner=None if self.corner is None else self.corner.to(device),
            flip=None if self.flip is None else self.flip.to(device),
            boxes=tuple(box.to(device) for box in self.boxes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """What a run does to its images.

    Args:
        crop_padding: the image is shifted by up to so many pixels each way.
        crop_mode: what comes in at the border: the image mirrored, or black.
        flip: left and right, for a random half of the images; "alternate" draws the half once and flips the
            other half in every second epoch, so that an image is seen both ways in any two epochs.
        cutout: side of the square, in pixels, that is blanked in every image.
        erase: probability that a random rectangle is blanked.
        policy: TrivialAugment or RandAugment.
        rand_ops: operations an image, of RandAugment.
        rand_magnitude: strength of RandAugment, 0 to 30.
        resolution: pairs of (fraction of the run, pixels): in epochs that begin before the fraction, the batch is
            shrunk to so many pixels a side.

    Raises:
        RecipeError: a setting is out of its range.

    Source: "alternate": Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024.
    https://arxiv.org/abs/2404.00498. cutout: DeVries and Taylor, "Improved Regularization of Convolutional
    Neural Networks with Cutout", 2017. erase: Zhong et al., "Random Erasing Data Augmentation", 2017.
    """

    crop_padding: int = 0
    crop_mode: CropMode = "reflect"
    flip: Literal["none", "random", "alternate"] = "none"
    cutout: int = 0
    erase: float = 0.0
    policy: Literal["none", "trivial", "rand"] = "none"
    rand_ops: int = 2
    rand_magnitude: int = 9
    resolution: Sequence[tuple[float, int]] = ()

    def __post_init__(self) -> None:
        for name, least, most in (
            ("crop_padding", 0, math.inf),
            ("cutout", 0, math.inf),
            ("erase", 0, 1),
            ("rand_ops", 1, math.inf),
            ("rand_magnitude", 0, policies.NUM_BINS - 1),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                expected = f"{least} to {most}" if most < math.inf else f"a whole number from {least} on"
                raise RecipeError(f"augment.{name}", found=str(value), expected=expected)
        for name, known in (
            ("crop_mode", ("reflect", "zero")),
            ("flip", ("none", "random", "alternate")),
            ("policy", ("none", "trivial", "rand")),
        ):
            if (value := getattr(self, name)) not in known:
                raise RecipeError(f"augment.{name}", found=repr(value), expected=" or ".join(known))

    def check(self, *, height: int, width: int, channels: int) -> None:
        """Make sure that the settings can be applied to images of this size, in pixels.

        Raises:
            RecipeError: they cannot.
        """
        side = min(height, width)
        if self.crop_mode == "reflect" and self.crop_padding >= side:
            raise RecipeError(
                "augment.crop_padding",
                found=f"{self.crop_padding} px",
                expected=f"less than the shorter side of the images, {side} px, where the border is mirrored",
                hint="crop_mode=zero allows more.",
            )
        if too_large := [pixels for _, pixels in self.resolution if pixels > side]:
            expected = f"at most the images' {side} px"
            raise RecipeError("augment.resolution", found=f"{too_large[0]} px", expected=expected)
        if self.policy != "none" and channels not in (1, 3):
            raise RecipeError("augment.policy", found=f"images of {channels} channels", expected="grey (1) or RGB (3)")

    def side(self, progress: float) -> int | None:
        """Return to how many pixels pictures are shrunk in an epoch that begins at this fraction of the run, if any."""
        return next((pixels for until, pixels in self.resolution if progress < until), None)

    def plan(self, draws: Draws, *, height: int, width: int) -> Plan:
        """Draw what happens to each image, on the host; images are `height` times `width` pixels."""
        boxes = []
        if self.cutout:
            boxes.append(_cutout_boxes(draws, side=self.cutout, height=height, width=width))
        if self.erase:
            boxes.append(_erase_boxes(draws, probability=self.erase, height=height, width=width))
        return Plan(
            corner=draws.integers("crop", 2 * self.crop_padding + 1, 2) if self.crop_padding else None,
            flip=None if self.flip == "none" else self._flips(draws),
            rounds=() if self.policy == "none" else self._policy(height=height, width=width).plan(draws),
            boxes=tuple(boxes),
        )

    def __call__(self, pixels: Tensor, plan: Plan) -> Tensor:
        """Shift, flip and change pixels uint8 [b h w c] as planned for these images; the given may change."""
        if plan.corner is not None:
            pixels = crop(pixels, plan.corner, padding=self.crop_padding, mode=self.crop_mode)
        if plan.flip is not None:
            pixels = flip(pixels, plan.flip)
        for choice in plan.rounds:
            pixels = policies.apply(pixels, choice)
        return pixels

    def _flips(self, draws: Draws) -> Tensor:
        if self.flip == "random" or draws.epoch is None:
            return draws.integers("flip", 2)[:, 0].bool()
        lasting = replace(draws, epoch=None)
        return (lasting.integers("flip", 2)[:, 0] + draws.epoch) % 2 == 1

    def _policy(self, *, height: int, width: int) -> policies.Policy:
        assert self.policy != "none"
        num_ops = self.rand_ops if self.policy == "rand" else 1
        return policies.Policy(
            kind=self.policy, num_ops=num_ops, magnitude=self.rand_magnitude, height=height, width=width
        )


def _cutout_boxes(draws: Draws, *, side: int, height: int, width: int) -> Tensor:
    """Place a square around a random pixel, cut off at the border: int64 [n 4]."""
    top = draws.integers("cutout top", height)[:, 0] - side // 2
    left = draws.integers("cutout left", width)[:, 0] - side // 2
    rows = torch.stack([top, top + side], dim=1).clamp(0, height)
    columns = torch.stack([left, left + side], dim=1).clamp(0, width)
    return torch.cat([rows, columns], dim=1)


def _erase_boxes(draws: Draws, *, probability: float, height: int, width: int) -> Tensor:
    """Draw a rectangle inside the image, int64 [n 4]; of no height where an image is left alone.

    The paper draws until a rectangle fits; here a side that is too long is cut to the image's, which happens
    to fewer than 1 in 200 on square images.
    """
    chance, area, aspect, y, x = draws.uniform("erase", 5).double().unbind(1)
    pixels = height * width * (ERASE_AREA[0] + area * (ERASE_AREA[1] - ERASE_AREA[0]))
    low, high = (math.log(limit) for limit in ERASE_ASPECT)
    ratio = (low + aspect * (high - low)).exp()
    tall = (pixels * ratio).sqrt().round().clamp(1, height) * (chance < probability)
    wide = (pixels / ratio).sqrt().round().clamp(1, width)
    top, left = (y * (height - tall + 1)).floor(), (x * (width - wide + 1)).floor()
    return torch.stack([top, top + tall, left, left + wide], dim=1).long()
