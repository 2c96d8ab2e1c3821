"""Plain classification: cross-entropy with soft targets, whose rows sum to one.

Soft because mixup and cutmix make them so; a one-hot row is an ordinary label.

Paper:   label smoothing: Szegedy et al., "Rethinking the Inception Architecture", 2015.
         https://arxiv.org/abs/1512.00567
Follows: section 7.
Checked: against values computed by hand, and torch's cross-entropy with integer labels.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.objectives.outcome import Objective, Outcome, require


def classify(*, label_smoothing: float = 0.0) -> Objective:
    """Make the objective; smoothing spreads that share of each target evenly over all classes.

    Raises:
        RecipeError: a label smoothing outside [0, 1).
    """
    require("label_smoothing", label_smoothing, fits=0 <= label_smoothing < 1, expected="a fraction in [0, 1)")

    def objective(model: nn.Module, x: Tensor, targets: Tensor, *, progress: float = 0.0) -> Outcome:
        del progress  # the same from the first step to the last
        # In the targets' precision: under autocast logits come in bfloat16, too coarse for a logarithm.
        logits: Tensor = model(x).to(targets.dtype)
        loss = F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
        return Outcome(logits=logits, loss=loss)

    return objective
