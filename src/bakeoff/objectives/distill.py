"""Distillation: cross-entropy with the labels, and what a teacher adds. Which loss that is, is another file's."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.objectives.outcome import LogitTerm, MapTerm, Outcome, Teacher, require


class Distill(nn.Module):
    """An objective whose parameters are those of its terms: a regressor's, or none. Never the teacher's.

    Args:
        teacher: a batch -> what the teacher says of it; it sees exactly the pictures that the student sees.
        logit_term: a loss between logits, if there is one.
        map_term: a loss between maps, if there is one.
        label_weight: of the cross-entropy with the soft targets.
        teacher_weight: of the sum of all other terms.
        label_smoothing: the share of each target that is spread evenly over all classes, in the cross-entropy alone.

    Attributes:
        names: of the terms: "labels", then those of the losses.
        needs_maps: whether the model must put out (logits, maps of its stages), and the teacher maps as well.

    Raises:
        RecipeError: a weight below 0, both of them 0, a label smoothing outside [0, 1).
    """

    def __init__(
        self,
        *,
        teacher: Teacher,
        logit_term: LogitTerm | None = None,
        map_term: MapTerm | None = None,
        label_weight: float,
        teacher_weight: float,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        for option, weight in (("label_weight", label_weight), ("teacher_weight", teacher_weight)):
            require(option, weight, fits=0 <= weight < math.inf, expected="a number from 0")
        require("label_smoothing", label_smoothing, fits=0 <= label_smoothing < 1, expected="a fraction in [0, 1)")
        if label_weight == teacher_weight == 0:
            found = "0, and a teacher_weight of 0"
            raise RecipeError("objective.label_weight", found=found, expected="one of them above 0")
        assert logit_term is not None or map_term is not None
        self._hidden = (teacher,)  # in a tuple, where a module does not look for modules of its own
        self.logit_term, self.map_term = logit_term, map_term
        self.label_weight, self.teacher_weight, self.label_smoothing = label_weight, teacher_weight, label_smoothing
        self.needs_maps = map_term is not None
        self.names = ("labels", *(name for term in (logit_term, map_term) if term is not None for name in term.names))

    def forward(self, model: nn.Module, x: Tensor, targets: Tensor, *, progress: float = 0.0) -> Outcome:
        """Run teacher and model on x [b c h w], and compare with each other and with the soft targets [b classes]."""
        (teacher,) = self._hidden
        with torch.no_grad():
            taught = teacher(x)
        logits, maps = model(x) if self.needs_maps else (model(x), ())
        # All in the targets' precision: under autocast a network puts out bfloat16, too coarse for differences.
        logits = logits.to(targets.dtype)
        values: dict[str, Tensor] = {}
        if self.logit_term is not None:
            values |= self.logit_term(logits, taught.logits.to(targets.dtype), targets, progress=progress)
        if self.map_term is not None:
            student, teachers = (tuple(m.to(targets.dtype) for m in side) for side in (maps, taught.maps))
            values |= self.map_term(student, teachers)
        labels = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        terms = {"labels": self.label_weight * labels}
        terms |= {name: self.teacher_weight * value for name, value in values.items()}
        loss = torch.stack(list(terms.values())).sum()
        return Outcome(logits=logits, loss=loss, terms={name: term.detach() for name, term in terms.items()})
