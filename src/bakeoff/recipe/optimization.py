"""How a run descends: optimizers and schedules, with their defaults."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationInfo, field_validator, model_serializer

from bakeoff.recipe.section import Fraction, FractionBelowOne, NonNegative, Positive, Section, without


class Optimizer(Section):
    """What every optimizer has."""

    weight_decay: NonNegative = 0.0
    decay_norms_and_biases: bool = False


class Sgd(Optimizer):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = "sgd"
    lr: Positive = 0.1
    weight_decay: NonNegative = 5e-4
    momentum: FractionBelowOne = 0.9
    nesterov: bool = Field(default=True, validate_default=True)

    @field_validator("nesterov")
    @classmethod
    def _nesterov_needs_momentum(cls, nesterov: bool, others: ValidationInfo) -> bool:
        if nesterov and others.data.get("momentum") == 0:
            raise ValueError("false where momentum is 0; or a momentum such as 0.9")
        return nesterov


class Adam(Optimizer):
    """Adam, weight decay added to the gradient."""

    name: Literal["adam"] = "adam"
    lr: Positive = 1e-3
    beta1: FractionBelowOne = 0.9
    beta2: FractionBelowOne = 0.999
    eps: Positive = 1e-8


class AdamW(Adam):
    """Adam with decoupled weight decay."""

    name: Literal["adamw"] = "adamw"  # type: ignore[assignment]
    weight_decay: NonNegative = 0.05


class Adagrad(Optimizer):
    """Adagrad."""

    name: Literal["adagrad"] = "adagrad"
    lr: Positive = 1e-2
    eps: Positive = 1e-10


class RmsProp(Optimizer):
    """RMSprop."""

    name: Literal["rmsprop"] = "rmsprop"
    lr: Positive = 1e-3
    alpha: FractionBelowOne = 0.99
    momentum: FractionBelowOne = 0.0
    eps: Positive = 1e-8


class Muon(Optimizer):
    """Muon on filters and matrices; SGD or AdamW (`rest`, at `rest_lr`) on all else."""

    name: Literal["muon"] = "muon"
    lr: Positive = 0.02
    momentum: FractionBelowOne = 0.95
    nesterov: bool = True
    unit_filters: bool = False  # bring each filter to one norm before it is moved, instead of weight decay
    rest: Literal["sgd", "adamw"] = "adamw"
    rest_lr: Positive = 1e-3
    rest_momentum: FractionBelowOne = 0.9  # of sgd
    bias_lr: Positive | None = None  # of the rest's biases and norms; None: rest_lr

    LATER: ClassVar[dict[str, object]] = {"unit_filters": False, "rest_momentum": 0.9, "bias_lr": None}

    @model_serializer(mode="wrap")
    def _as_before_there_were(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without(serialise(self), self.LATER)


class Schedule(Section):
    """What every schedule has: a linear warm-up over this fraction of the run."""

    warmup: FractionBelowOne = 0.0


class Constant(Schedule):
    """One learning rate all along."""

    name: Literal["constant"] = "constant"


class MultiStep(Schedule):
    """Times `gamma` at each milestone, a fraction of the run."""

    name: Literal["multistep"] = "multistep"
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = [0.5, 0.75]  # noqa: RUF012 (pydantic copies it)
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1


class Cosine(Schedule):
    """Half a cosine down to `final` of the peak."""

    name: Literal["cosine"] = "cosine"
    final: Fraction = 0.0


class OneCycle(Schedule):
    """Linearly up from `start` of the peak at `peak_at` of the run, then down to `final`."""

    name: Literal["onecycle"] = "onecycle"
    peak_at: Annotated[float, Field(gt=0, lt=1)] = 0.2
    start: Fraction = 0.04
    final: Fraction = 0.0
    anneal: Literal["linear", "cosine"] = "linear"


class Polynomial(Schedule):
    """(1 - progress) to the power; 1 is linear."""

    name: Literal["polynomial"] = "polynomial"
    power: Positive = 1.0
    final: Fraction = 0.0
