"""Plain classification: cross-entropy with soft targets, whose rows sum to one.

Soft because mixup and cutmix make them so; a one-hot row is an ordinary label.

Paper:   label smoothing: Szegedy et al., "Rethinking the Inception Architecture", 2015.
         https://arxiv.org/abs/1512.00567
         focal loss: Lin et al., "Focal Loss for Dense Object Detection", 2017. https://arxiv.org/abs/1708.02002
Follows: section 7; and section 3.2, over all classes at once instead of one against the rest.
Differs: with soft targets each class of the target has its own focal factor; a one-hot row gives the paper's loss.
Checked: against values computed by hand, and torch's cross-entropy with integer labels, with and without weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.objectives.outcome import Objective, Outcome, require


def classify(
    *, label_smoothing: float = 0.0, focal_gamma: float = 0.0, class_weights: Tensor | None = None
) -> Objective:
    """Make the objective.

    Args:
        label_smoothing: that share of each target is spread evenly over all classes.
        focal_gamma: how much less a picture counts that is known already; 0 is plain cross-entropy.
        class_weights: [classes], by which each class counts; None counts all alike.

    Raises:
        RecipeError: a label smoothing outside [0, 1), or a negative gamma.
    """
    require("label_smoothing", label_smoothing, fits=0 <= label_smoothing < 1, expected="a fraction in [0, 1)")
    require("focal_gamma", focal_gamma, fits=focal_gamma >= 0, expected="a number from 0 on")

    def objective(model: nn.Module, x: Tensor, targets: Tensor, *, progress: float = 0.0) -> Outcome:
        del progress  # the same from the first step to the last
        # In the targets' precision: under autocast logits come in bfloat16, too coarse for a logarithm.
        logits: Tensor = model(x).to(targets.dtype)
        if not focal_gamma and class_weights is None:
            return Outcome(logits=logits, loss=F.cross_entropy(logits, targets, label_smoothing=label_smoothing))
        smooth = targets * (1 - label_smoothing) + label_smoothing / targets.shape[1]
        log_p = F.log_softmax(logits, dim=1)
        terms = smooth * log_p
        if focal_gamma:
            # Without gradient at p = 1, where a root of zero would give none that is finite.
            terms = terms * (-torch.expm1(log_p)).clamp_min(1e-12).pow(focal_gamma)
        if class_weights is not None:
            terms = terms * class_weights.to(terms)
        return Outcome(logits=logits, loss=-terms.sum(dim=1).mean())

    return objective


def balanced_weights(counts: Tensor) -> Tensor:
    """Return a weight a class, float32 [classes], so that all classes count alike and pictures count 1 on average.

    Args:
        counts: int64 [classes], the pictures of each; a class without any weighs nothing.
    """
    there = counts > 0
    weights = counts.sum() / (there.sum() * counts.clamp_min(1))
    return torch.where(there, weights, 0.0).to(torch.float32)
