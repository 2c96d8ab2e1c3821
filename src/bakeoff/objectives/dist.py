"""Distillation by correlation: the student keeps the teacher's relations, not its probabilities.

Paper:   Huang et al., "Knowledge Distillation from A Stronger Teacher", 2022. https://arxiv.org/abs/2205.10536
Follows: section 4, and the authors' code for CIFAR-100: T = 4, T^2 on both parts, and 2 on both, which is there one
         weight of 2 on parts weighted 1.
Differs: where a batch is cut into parts (`accumulate`), a class is followed within each part, not the whole batch.
Checked: against numpy's correlations; values and gradients in float64 against the authors' two versions
         (image_classification_sota, and DIST_KD at T = 1), the same to the bit.

A correlation has no scale, so its gradient grows as its rows come near to constant ones: a student whose last layer
starts at zero gets steps that no learning rate suits.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bakeoff.objectives.outcome import require

EPS = 1e-8  # the authors'; no row or column is divided by less


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlation:
    """One minus Pearson's correlation of probabilities: of each image's classes, and of each class's images.

    Args:
        temperature: T, by which the logits are divided.
        inter_weight: beta of the paper: between the classes of an image.
        intra_weight: gamma of the paper: within a class, over the batch.

    Raises:
        RecipeError: a temperature that is not above 0, a weight below 0.
    """

    temperature: float
    inter_weight: float
    intra_weight: float
    names: ClassVar[tuple[str, ...]] = ("inter", "intra")

    def __post_init__(self) -> None:
        fits = 0 < self.temperature < math.inf
        require("temperature", self.temperature, fits=fits, expected="a number above 0")
        for option in ("inter_weight", "intra_weight"):
            weight = getattr(self, option)
            require(option, weight, fits=0 <= weight < math.inf, expected="a number from 0")

    def __call__(self, logits: Tensor, taught: Tensor, targets: Tensor, *, progress: float = 0.0) -> dict[str, Tensor]:
        """Compare logits [b classes]; the targets and the progress of the run have no say."""
        student, teacher = (F.softmax(z / self.temperature, dim=1) for z in (logits, taught))
        scale = self.temperature**2
        return {
            "inter": self.inter_weight * scale * (1 - mean_correlation(student, teacher, dim=1)),
            "intra": self.intra_weight * scale * (1 - mean_correlation(student, teacher, dim=0)),
        }


def mean_correlation(a: Tensor, b: Tensor, *, dim: int) -> Tensor:
    """Correlate two matrices [n m] along a dimension, and return the mean [] over the other."""
    a, b = (z - z.mean(dim, keepdim=True) for z in (a, b))
    lengths: Tensor = torch.linalg.vector_norm(a, dim=dim) * torch.linalg.vector_norm(b, dim=dim)
    return ((a * b).sum(dim) / (lengths + EPS)).mean()
