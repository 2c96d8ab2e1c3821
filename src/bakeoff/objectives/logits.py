"""Regression on logits: the student learns the teacher's numbers before the softmax.

Paper:   Ba and Caruana, "Do Deep Nets Really Need to be Deep?", 2013. https://arxiv.org/abs/1312.6184
Follows: the regression of logits with a squared loss, in section 2; no mean is taken off: a student whose logits are
         all shifted is another student.
Differs: the mean over the classes where the paper has half their sum, so that the loss does not grow with their
         number: a teacher_weight of half that number is the paper's loss. The paper's has no labels: label_weight=0.
Checked: by hand, and against the paper's equation.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor


class LogitRegression:
    """The squared difference of the logits, the mean over batch and classes."""

    names: ClassVar[tuple[str, ...]] = ("teacher",)

    def __call__(self, logits: Tensor, taught: Tensor, targets: Tensor, *, progress: float = 0.0) -> dict[str, Tensor]:
        """Compare logits [b classes]; the targets and the progress of the run have no say."""
        return {"teacher": F.mse_loss(logits, taught)}
