"""What a run minimises, and the teacher that it may learn from."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationInfo, field_validator, model_serializer

from bakeoff.recipe.section import (
    Count,
    Fraction,
    FractionBelowOne,
    NonNegative,
    Section,
    Temperature,
    without,
)


class Classify(Section):
    """Cross-entropy with soft targets; for classes of unequal size, weights and a focal factor."""

    name: Literal["classify"] = "classify"
    label_smoothing: FractionBelowOne = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    focal_gamma: Annotated[float, Field(ge=0, le=10)] = 0.0

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without(serialise(self), {"class_weights": "none", "focal_gamma": 0.0})


class Distillation(Section):
    """Cross-entropy beside what a teacher adds, each with its weight."""

    label_smoothing: FractionBelowOne = 0.0
    label_weight: NonNegative = 1.0
    teacher_weight: NonNegative = Field(default=1.0, validate_default=True)

    @field_validator("teacher_weight")
    @classmethod
    def _weighs_something(cls, teacher_weight: float, others: ValidationInfo) -> float:
        if teacher_weight == 0 and others.data.get("label_weight") == 0:
            raise ValueError("above 0 where label_weight is 0")
        return teacher_weight


class Kd(Distillation):
    """Soft targets, at a temperature."""

    name: Literal["kd"] = "kd"
    label_weight: NonNegative = 0.1
    teacher_weight: NonNegative = Field(default=0.9, validate_default=True)
    temperature: Temperature = 4.0
    standardise: bool = False


class LogitRegression(Distillation):
    """Squared difference of the logits."""

    name: Literal["logits"] = "logits"
    standardise: bool = False


class Dkd(Distillation):
    """Soft targets, decoupled: of the class itself, and among the others; `warmup` is a fraction of the run."""

    name: Literal["dkd"] = "dkd"
    temperature: Temperature = 4.0
    target_weight: NonNegative = 1.0
    non_target_weight: NonNegative = 8.0
    warmup: Fraction = 1 / 12
    standardise: bool = False


class Dist(Distillation):
    """Correlations: between the classes of an image, and between the images of a class."""

    name: Literal["dist"] = "dist"
    temperature: Temperature = 4.0
    inter_weight: NonNegative = 2.0
    intra_weight: NonNegative = 2.0
    standardise: bool = False


class FitNets(Distillation):
    """Hints: the maps of one stage."""

    name: Literal["fitnets"] = "fitnets"
    teacher_weight: NonNegative = Field(default=100.0, validate_default=True)
    stage: Count = 2


class AttentionTransfer(Distillation):
    """Where the maps of each stage are large."""

    name: Literal["attention_transfer"] = "attention_transfer"
    teacher_weight: NonNegative = Field(default=1000.0, validate_default=True)


class Teacher(Section):
    """The network that a distillation learns from.

    `name` says where it is, `digest` what it is: the digest of its run's recipe, or of its file. Where it lies is no
    part of an experiment: with a digest, its name is none.
    """

    name: Annotated[str, Field(min_length=1)]
    digest: str | None = None
    resize: bool = False  # show it the pictures in its own size, where that is another
