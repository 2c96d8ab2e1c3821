"""What a run minimises, by name."""

import inspect
from collections.abc import Callable, Sequence

from bakeoff.errors import RecipeError, refuse_unknown
from bakeoff.objectives.attention_transfer import AttentionTransfer
from bakeoff.objectives.classify import classify
from bakeoff.objectives.dist import Correlation
from bakeoff.objectives.distill import Distill
from bakeoff.objectives.dkd import Decoupled
from bakeoff.objectives.fitnets import Hints
from bakeoff.objectives.kd import SoftTargets
from bakeoff.objectives.logits import LogitRegression
from bakeoff.objectives.outcome import LogitTerm, Objective, Outcome, Shape, Taught, Teacher
from bakeoff.objectives.standardise import Standardised

__all__ = ["OBJECTIVES", "TAPS", "TAUGHT", "Distill", "Objective", "Outcome", "Shape", "Taught", "Teacher", "build"]

Shapes = tuple[Sequence[Shape], Sequence[Shape]]


def _kd(
    *,
    teacher: Teacher,
    temperature: float = 4.0,
    label_weight: float = 0.1,
    teacher_weight: float = 0.9,
    label_smoothing: float = 0.0,
    standardise: bool = False,
) -> Distill:
    weights = label_weight, teacher_weight, label_smoothing
    return _by_logits(teacher, SoftTargets(temperature=temperature), *weights, standardise=standardise)


def _logits(
    *,
    teacher: Teacher,
    label_weight: float = 1.0,
    teacher_weight: float = 1.0,
    label_smoothing: float = 0.0,
    standardise: bool = False,
) -> Distill:
    weights = label_weight, teacher_weight, label_smoothing
    return _by_logits(teacher, LogitRegression(), *weights, standardise=standardise)


def _dkd(
    *,
    teacher: Teacher,
    temperature: float = 4.0,
    target_weight: float = 1.0,
    non_target_weight: float = 8.0,
    warmup: float = 1 / 12,
    label_weight: float = 1.0,
    teacher_weight: float = 1.0,
    label_smoothing: float = 0.0,
    standardise: bool = False,
) -> Distill:
    term = Decoupled(
        temperature=temperature, target_weight=target_weight, non_target_weight=non_target_weight, warmup=warmup
    )
    weights = label_weight, teacher_weight, label_smoothing
    return _by_logits(teacher, term, *weights, standardise=standardise)


def _dist(
    *,
    teacher: Teacher,
    temperature: float = 4.0,
    inter_weight: float = 2.0,
    intra_weight: float = 2.0,
    label_weight: float = 1.0,
    teacher_weight: float = 1.0,
    label_smoothing: float = 0.0,
    standardise: bool = False,
) -> Distill:
    term = Correlation(temperature=temperature, inter_weight=inter_weight, intra_weight=intra_weight)
    weights = label_weight, teacher_weight, label_smoothing
    return _by_logits(teacher, term, *weights, standardise=standardise)


def _by_logits(
    teacher: Teacher,
    term: LogitTerm,
    label_weight: float,
    teacher_weight: float,
    label_smoothing: float,
    *,
    standardise: bool,
) -> Distill:
    return Distill(
        teacher=teacher,
        logit_term=Standardised(term) if standardise else term,
        label_weight=label_weight,
        teacher_weight=teacher_weight,
        label_smoothing=label_smoothing,
    )


def _fitnets(
    *,
    teacher: Teacher,
    shapes: Shapes,
    stage: int = 2,
    label_weight: float = 1.0,
    teacher_weight: float = 100.0,
    label_smoothing: float = 0.0,
) -> Distill:
    return Distill(
        teacher=teacher,
        map_term=Hints(stage=stage, student=shapes[0], teacher=shapes[1]),
        label_weight=label_weight,
        teacher_weight=teacher_weight,
        label_smoothing=label_smoothing,
    )


def _attention_transfer(
    *,
    teacher: Teacher,
    shapes: Shapes,
    label_weight: float = 1.0,
    teacher_weight: float = 1000.0,
    label_smoothing: float = 0.0,
) -> Distill:
    return Distill(
        teacher=teacher,
        map_term=AttentionTransfer(student=shapes[0], teacher=shapes[1]),
        label_weight=label_weight,
        teacher_weight=teacher_weight,
        label_smoothing=label_smoothing,
    )


OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "classify": classify,
    "kd": _kd,
    "logits": _logits,
    "dkd": _dkd,
    "dist": _dist,
    "fitnets": _fitnets,
    "attention_transfer": _attention_transfer,
}
TAUGHT = frozenset(OBJECTIVES) - {"classify"}  # those that need a teacher
TAPS = frozenset({"fitnets", "attention_transfer"})  # those that need the maps of stages


def build(name: str, *, teacher: Teacher | None = None, shapes: Shapes | None = None, **options: object) -> Objective:
    """Build an objective: (model, x, targets) -> Outcome.

    Args:
        name: one of OBJECTIVES.
        teacher: a batch -> what a teacher says of it; for those in TAUGHT, and only these.
        shapes: of the maps of all stages, the student's and the teacher's; for those in TAPS.
        options: its own.

    Raises:
        RecipeError: an unknown name or option, a value out of range, no teacher for one that needs it, or the
            reverse; networks whose stages do not go together.
    """
    refuse_unknown("objective", [name], OBJECTIVES)
    function = OBJECTIVES[name]
    refuse_unknown("objective", options, inspect.getfullargspec(function).kwonlydefaults or ())
    if name not in TAUGHT and teacher is not None:
        expected = f"no teacher, or one of {', '.join(n for n in OBJECTIVES if n in TAUGHT)}"
        raise RecipeError("objective", found=f"{name} with a teacher", expected=expected)
    if name in TAUGHT and teacher is None:
        raise RecipeError("objective", found=f"{name} without a teacher", expected="a teacher: teacher=RUN")
    if name not in TAPS:
        return function(teacher=teacher, **options) if name in TAUGHT else function(**options)
    if shapes is None:
        raise RecipeError(
            "objective", found=f"{name} without maps", expected="networks that say where their stages are"
        )
    return function(teacher=teacher, shapes=shapes, **options)
