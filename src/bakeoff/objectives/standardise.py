"""Logit standardisation: before any loss between logits, each row of either side to mean 0 and spread 1.

Paper:   Sun et al., "Logit Standardization in Knowledge Distillation", 2024. https://arxiv.org/abs/2403.01427
Follows: algorithm 1, the spread as in the authors' code: squares over classes - 1. The temperature comes after it.
         Their setting for CIFAR-100 is not that of the bare losses: with kd T = 2, teacher 9, labels 0.1; with dkd
         T = 2 and both its weights times 9; for some pairs T = 3 or 4, and a weight of 1 to 18.
Differs: a spread below 0.01 counts as 0.01, where the authors add 1e-7 to all: logits that are nearly equal, as of a
         last layer that starts at zero, would have gradients ten million times as large.
Checked: by hand; values and gradients in float64 against the authors' kd and dkd (logit-standardization-KD): to
         1e-12 without their 1e-7, to 1e-5 with it.
"""

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from bakeoff.objectives.outcome import LogitTerm

SMALLEST_SPREAD: Final = 0.01  # the logits of eight networks of the catalogue start at 0.04 to 0.4


@dataclass(frozen=True, slots=True)
class Standardised:
    """A loss between logits that sees neither their mean nor their spread.

    Args:
        term: the loss.
    """

    term: LogitTerm

    @property
    def names(self) -> tuple[str, ...]:
        """What the parts of the loss are called."""
        return self.term.names

    def __call__(self, logits: Tensor, taught: Tensor, targets: Tensor, *, progress: float = 0.0) -> dict[str, Tensor]:
        """Standardise the logits [b classes] of both sides and hand them on."""
        return self.term(standardise(logits), standardise(taught), targets, progress=progress)


def standardise(logits: Tensor) -> Tensor:
    """Bring each row of [b classes] to mean 0 and standard deviation 1."""
    spread = logits.std(1, keepdim=True).clamp(min=SMALLEST_SPREAD)
    return (logits - logits.mean(1, keepdim=True)) / spread
