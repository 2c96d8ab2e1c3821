"""What every objective takes and gives."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The result of one forward pass in training.

    Attributes:
        logits: [b classes], in the precision of the targets.
        loss: [], the mean over the batch; what the step descends.
    """

    logits: Tensor
    loss: Tensor


class Objective(Protocol):
    """What a run minimises: the same loop for plain classification and for every distillation."""

    def __call__(self, model: nn.Module, x: Tensor, targets: Tensor) -> Outcome:
        """Run the model on x [b c h w] and compare with the soft targets [b classes]."""
        ...
