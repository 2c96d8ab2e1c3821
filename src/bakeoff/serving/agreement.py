"""Whether an exported network still is the network it was: its logits beside the network's own, on real pictures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bakeoff.data.pixels import Normalise

TOLERANCE = 1e-3  # of a logit in float32, absolute
# Batches of these sizes are shown, of at most so many pictures (None: all): of one, odd ones, and full ones. A graph
# that was frozen at the batch it was traced with, or that mixes the pictures of a batch, fails at one of them.
BATCHES: tuple[tuple[int, int | None], ...] = ((1, 16), (7, 70), (500, None))

Images = NDArray[np.uint8]  # [b h w c], as decoded
Logits = NDArray[np.float32]  # [b classes]
Runner = Callable[[Images], Logits]


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How far two networks agree about the same pictures, shown in batches of one size.

    Args:
        batch_size: of all batches but the last.
        num_images: how many pictures were shown.
        max_abs_difference: the largest of any logit; infinite where one was not a number.
        same_top1: for how many pictures both name the same class.
        ties: of the others, for how many the network's own two logits are within the tolerance of each other.
    """

    batch_size: int
    num_images: int
    max_abs_difference: float
    same_top1: int
    ties: int

    @property
    def holds(self) -> bool:
        """Whether no logit is off by more than the tolerance, and no class another but for ties."""
        return self.max_abs_difference <= TOLERANCE and self.same_top1 + self.ties == self.num_images

    @property
    def top1_agreement(self) -> float:
        """The share of pictures for which both name the same class."""
        return self.same_top1 / self.num_images


def reference(
    network: nn.Module, images: Images, *, mean: tuple[float, ...], std: tuple[float, ...], batch_size: int = 500
) -> Logits:
    """Return the logits of a network that is on the CPU, in float32, normalising as training does."""
    _, height, width, _ = images.shape
    normalise = Normalise(mean, std, height=height, width=width, device=torch.device("cpu"))
    with torch.inference_mode():
        logits = [network(normalise(torch.from_numpy(batch))).float() for batch in _batches(images, batch_size)]
    result: Logits = torch.cat(logits).numpy()
    return result


def measure(run: Runner, images: Images, expected: Logits) -> tuple[Agreement, ...]:
    """Show the pictures in batches of each size, and compare the logits with those that are expected."""
    return tuple(_at(run, images[:most], expected[:most], batch_size=size) for size, most in BATCHES)


def shown(run: Runner, images: Images, *, batch_size: int = 500) -> Logits:
    """Return the logits of all pictures, shown in batches."""
    return np.concatenate([run(batch) for batch in _batches(images, batch_size)])


def accuracy(logits: Logits, labels: NDArray[np.int64]) -> float:
    """Return the share of pictures whose largest logit is that of their label."""
    return float(np.mean(logits.argmax(1) == labels))


def compare(found: Logits, expected: Logits, *, batch_size: int) -> Agreement:
    """Compare logits, picture by picture."""
    rows = np.arange(len(expected))
    ours, theirs = expected.argmax(1), found.argmax(1)
    margin = expected[rows, ours] - expected[rows, theirs]
    difference = np.abs(found.astype(np.float64) - expected)
    return Agreement(
        batch_size=min(batch_size, len(expected)),
        num_images=len(expected),
        max_abs_difference=float(difference.max()) if np.isfinite(difference).all() else float("inf"),
        same_top1=int((ours == theirs).sum()),
        ties=int(((ours != theirs) & (margin <= TOLERANCE)).sum()),
    )


def _at(run: Runner, images: Images, expected: Logits, *, batch_size: int) -> Agreement:
    return compare(shown(run, images, batch_size=batch_size), expected, batch_size=batch_size)


def _batches(images: Images, batch_size: int) -> Iterator[Images]:
    return (images[first : first + batch_size] for first in range(0, len(images), batch_size))
