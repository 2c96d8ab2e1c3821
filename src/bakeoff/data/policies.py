"""Random operations on each image: TrivialAugment and RandAugment.

Papers:  Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", 2021; its
         Wide space. https://arxiv.org/abs/2103.10158
         Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space", 2020.
         https://arxiv.org/abs/1909.13719
Follows: the spaces, 31 strengths and operations of torchvision 0.29 transforms.v2.
Differs: a whole batch at once: images that drew one operation are gathered, changed together and put back.
Checked: each operation, strength and sign against torchvision (see `operations`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bakeoff.data import operations
from bakeoff.data.draws import Draws
from bakeoff.data.pixels import bring

NUM_BINS = 31
Kernel = Callable[[Tensor, Tensor], Tensor]
OPERATIONS: dict[str, Kernel] = {
    "identity": operations.identity,
    "shear_x": operations.warp,
    "shear_y": operations.warp,
    "translate_x": operations.warp,
    "translate_y": operations.warp,
    "rotate": operations.warp,
    "brightness": operations.brightness,
    "colour": operations.colour,
    "contrast": operations.contrast,
    "sharpness": operations.sharpness,
    "posterize": operations.posterize,
    "solarize": operations.solarize,
    "autocontrast": operations.autocontrast,
    "equalize": operations.equalize,
}
KERNELS: tuple[Kernel, ...] = tuple(dict.fromkeys(OPERATIONS.values()))
KERNEL_OF = np.array([KERNELS.index(kernel) for kernel in OPERATIONS.values()])

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The strongest of each operation; the weakest is always no change.

    Args:
        shear: tangent of the angle.
        translate: x and y, in pixels.
        rotate: in degrees.
        enhance: of brightness, colour, contrast and sharpness, added to or taken from a factor of 1.
        posterize: bits dropped.
    """

    shear: float
    translate: tuple[float, float]
    rotate: float
    enhance: float
    posterize: int


def space(policy: Literal["trivial", "rand"], *, height: int, width: int) -> Space:
    """Return the space of a policy for images of this size, in pixels."""
    if policy == "trivial":
        return Space(shear=0.99, translate=(32.0, 32.0), rotate=135.0, enhance=0.99, posterize=6)
    translate = (150.0 / 331.0 * width, 150.0 / 331.0 * height)
    return Space(shear=0.3, translate=translate, rotate=30.0, enhance=0.9, posterize=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What one round of a policy does to each image. Known on the host, so that grouping waits for no device.

    Args:
        kernel: int64 [n], place in KERNELS.
        strength: float32 [n 6], as the kernel takes it.
    """

    kernel: NDArray[np.int64]
    strength: NDArray[np.float32]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> "Choice":
        return Choice(kernel=self.kernel[rows], strength=self.strength[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy for images of one size: one operation an image and round, drawn from fourteen.

    Args:
        kind: "trivial" draws a strength for each image, "rand" gives all the same.
        num_ops: rounds.
        magnitude: which of the 31 strengths, from 0; "rand" only.
        height: of the images, in pixels.
        width: of the images, in pixels.
    """

    kind: Literal["trivial", "rand"]
    height: int
    width: int
    num_ops: int = 1
    magnitude: int = 9
    strengths: NDArray[np.float32] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        chosen = space(self.kind, height=self.height, width=self.width)
        object.__setattr__(self, "strengths", strengths(chosen, height=self.height, width=self.width))

    def plan(self, draws: Draws) -> tuple[Choice, ...]:
        """Draw what happens to each image, one choice a round."""
        return tuple(self._round(draws, number) for number in range(self.num_ops))

    def _round(self, draws: Draws, number: int) -> Choice:
        operation = draws.integers(f"policy operation {number}", len(OPERATIONS))[:, 0].numpy()
        sign = draws.integers(f"policy sign {number}", 2)[:, 0].numpy()
        if self.kind == "rand":
            level: NDArray[np.int64] = np.full_like(operation, self.magnitude)
        else:
            level = draws.integers(f"policy strength {number}", NUM_BINS)[:, 0].numpy()
        return Choice(kernel=KERNEL_OF[operation], strength=self.strengths[operation, level, sign])


def apply(pixels: Tensor, choice: Choice) -> Tensor:
    """Change each image by its choice.

    Args:
        pixels: uint8 [b h w c], c is 1 or 3.
        choice: for these b images.

    Returns:
        New pixels of the same shape.
    """
    order = np.argsort(choice.kernel, kind="stable")
    bounds = np.searchsorted(choice.kernel[order], np.arange(len(KERNELS) + 1)).tolist()
    rows = bring(torch.from_numpy(order), pixels.device)
    strength = bring(torch.from_numpy(choice.strength[order]), pixels.device)
    grouped = pixels.index_select(0, rows)
    changed = [
        kernel(grouped[first:last], strength[first:last])
        for kernel, first, last in zip(KERNELS, bounds[:-1], bounds[1:], strict=True)
        if first < last
    ]
    return torch.empty_like(pixels).index_copy_(0, rows, torch.cat(changed))


def strengths(space: Space, *, height: int, width: int) -> NDArray[np.float32]:
    """Tabulate what the kernels take: float32 [operations, strengths, signs (+, -), 6].

    The levels are rounded to float32 first, as torchvision does, so that both compute with the same numbers.
    """
    table = np.zeros((len(OPERATIONS), NUM_BINS, 2, 6))
    row = {name: table[place] for place, name in enumerate(OPERATIONS)}
    one = np.ones((NUM_BINS, 2))
    # a shear is about the corner before the first pixel, the rest is about the centre
    shear = _signed(space.shear)
    row["shear_x"][:] = _map(one, shear, shear * height / 2, 0 * one, one, 0 * one)
    row["shear_y"][:] = _map(one, 0 * one, 0 * one, shear, one, shear * width / 2)
    row["translate_x"][:] = _map(one, 0 * one, -np.trunc(_signed(space.translate[0])), 0 * one, one, 0 * one)
    row["translate_y"][:] = _map(one, 0 * one, 0 * one, 0 * one, one, -np.trunc(_signed(space.translate[1])))
    angle = np.radians(_signed(space.rotate))  # counter-clockwise to the eye; y points down
    row["rotate"][:] = _map(np.cos(angle), -np.sin(angle), 0 * one, np.sin(angle), np.cos(angle), 0 * one)
    for name in ("brightness", "colour", "contrast", "sharpness"):
        row[name][..., 0] = _signed(space.enhance)
    bits_kept = np.round(8 - np.linspace(0, space.posterize, NUM_BINS))
    row["posterize"][..., 0] = 256 - 2 ** (8 - bits_kept[:, None])
    row["solarize"][..., 0] = 255.0 * _levels(1.0, 0.0)[:, None]
    return table.astype(np.float32)


def _map(*entries: Floats) -> Floats:
    return np.stack(entries, axis=-1)


def _levels(first: float, last: float) -> Floats:
    return torch.linspace(first, last, NUM_BINS).double().numpy()


def _signed(strongest: float) -> Floats:
    """Return the levels from 0 to the strongest with both signs: [strengths, 2]."""
    level = _levels(0.0, strongest)
    return np.stack([level, -level], axis=1)
