"""Decoupled distillation: how sure the teacher is of the class, and how it ranks the others, each with its weight.

Paper:   Zhao et al., "Decoupled Knowledge Distillation", 2022. https://arxiv.org/abs/2203.08679
Follows: section 3.3, and the authors' code for CIFAR-100 (mdistiller): T = 4, weights 1 and 8, T^2 on both parts,
         both growing linearly over the first 20 of 240 epochs. For some pairs the authors take 2 or 6 for 8: 2 for
         resnet56 to resnet20 and resnet110 to resnet32, 6 for vgg13 to vgg8 and wrn_40_2 to wrn_16_2.
Differs: where mixup or cutmix blend two labels, the heavier one is the class (of equals the first): the paper has
         none. The warm-up grows with every step, in the authors' code with every epoch, which starts at 1/20.
         Probabilities are never logarithms of sums that can vanish: sums are taken in the logarithm.
Checked: by hand; values and gradients in float64 against the authors' mdistiller, to 1e-12, and the whole objective
         at the ends of its epochs; with the weights 1 and 1 - p_target it is Hinton's distillation, image by image,
         as the paper derives.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bakeoff.objectives.outcome import require


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoupled:
    """Two divergences: of the target class from all others, and among these others.

    Args:
        temperature: T, by which the logits are divided.
        target_weight: alpha of the paper.
        non_target_weight: beta of the paper.
        warmup: the share of the run over which both weights grow from 0; with 0 they are there at once.

    Raises:
        RecipeError: a temperature that is not above 0, a weight below 0, a warm-up outside [0, 1].
    """

    temperature: float
    target_weight: float
    non_target_weight: float
    warmup: float
    names: ClassVar[tuple[str, ...]] = ("target", "non_target")

    def __post_init__(self) -> None:
        fits = 0 < self.temperature < math.inf
        require("temperature", self.temperature, fits=fits, expected="a number above 0")
        for option in ("target_weight", "non_target_weight"):
            weight = getattr(self, option)
            require(option, weight, fits=0 <= weight < math.inf, expected="a number from 0")
        require("warmup", self.warmup, fits=0 <= self.warmup <= 1, expected="a fraction in [0, 1]")

    def __call__(self, logits: Tensor, taught: Tensor, targets: Tensor, *, progress: float = 0.0) -> dict[str, Tensor]:
        """Compare logits [b classes] about the heaviest label of each row of the targets."""
        num_classes = logits.size(1)
        is_target = torch.arange(num_classes, device=logits.device) == targets.argmax(1, keepdim=True)
        target, non_target = _divergences(logits / self.temperature, taught / self.temperature, is_target)
        scale = self.temperature**2 * (min(progress / self.warmup, 1.0) if self.warmup else 1.0)
        return {
            "target": self.target_weight * scale * target,
            "non_target": self.non_target_weight * scale * non_target,
        }


def _divergences(student: Tensor, teacher: Tensor, is_target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the divergence [] of target against the rest, and of the rest, from logits [b classes]."""
    pairs, others = [], []
    for logits in (student, teacher):
        # The lowest number, not minus infinity: its probability is zero as well, but zero times it is no NaN.
        rest = logits.masked_fill(is_target, torch.finfo(logits.dtype).min)
        target = (logits * is_target).sum(1)
        pairs.append(F.log_softmax(torch.stack([target, rest.logsumexp(1)], dim=1), dim=1))
        others.append(F.log_softmax(rest, dim=1))
    of_target, of_rest = (F.kl_div(s, t, reduction="batchmean", log_target=True) for s, t in (pairs, others))
    return of_target, of_rest
