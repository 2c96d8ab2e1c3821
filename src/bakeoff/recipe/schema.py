"""What one run is, written out to the last default, and its digest."""

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal, Self

from omegaconf import OmegaConf
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

Fraction = Annotated[float, Field(ge=0, le=1)]
FractionBelowOne = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Temperature = Annotated[float, Field(gt=0, le=1000)]
Count = Annotated[int, Field(ge=1)]
Pixels = Annotated[int, Field(ge=0, le=4096)]


class Section(BaseModel):
    """A part of a recipe: frozen, typed without coercion, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Model(Section):
    """The network: a name of the catalogue and the options of its builder (`model.OPTION=...`)."""

    model_config = ConfigDict(extra="allow")
    name: str = "resnet_20"
    DECIDED: ClassVar[tuple[str, ...]] = ("num_classes", "in_channels", "image_size")

    @model_validator(mode="after")
    def _the_data_decide(self) -> Self:
        for key in self.DECIDED:
            if key in self.options:
                raise ValueError(f"no {key}: the data decide it")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """Options beyond the name, as the builder takes them."""
        return dict(self.model_extra or {})


class Data(Section):
    """The pictures: a data set, how many of its training images, how many of those are held out."""

    name: Literal["cifar100", "cifar10", "digits"] = "cifar100"
    limit: Count | None = None
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    resident: bool | None = None  # None: on the device when it fits


class Augment(Section):
    """What happens to each picture before the network sees it; sizes in pixels, chances in [0, 1]."""

    crop_padding: Pixels = 0
    crop_mode: Literal["reflect", "zero"] = "reflect"
    flip: Literal["none", "random", "alternate"] = "none"
    cutout: Pixels = 0
    erase: Fraction = 0.0
    policy: Literal["none", "trivial", "rand"] = "none"
    rand_ops: Annotated[int, Field(ge=1, le=14)] = 2
    rand_magnitude: Annotated[int, Field(ge=0, le=30)] = 9


class Mix(Section):
    """Mixtures of two pictures: Beta parameters (0 is off), chance a batch, share of cutmix."""

    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0
    probability: Fraction = 1.0
    switch: Fraction = 0.5


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
    rest: Literal["sgd", "adamw"] = "adamw"
    rest_lr: Positive = 1e-3


class Schedule(Section):
    """What every schedule has: a linear warm-up over this fraction of the run."""

    warmup: FractionBelowOne = 0.0


class Constant(Schedule):
    """One learning rate all along."""

    name: Literal["constant"] = "constant"


class MultiStep(Schedule):
    """Times `gamma` at each milestone, a fraction of the run."""

    name: Literal["multistep"] = "multistep"
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = [0.5, 0.75]
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


class Classify(Section):
    """Cross-entropy with soft targets."""

    name: Literal["classify"] = "classify"
    label_smoothing: FractionBelowOne = 0.0


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


class Recipe(Section):
    """One run, complete: equal digests are equal experiments.

    `batch_size` is the batch of one optimizer step; `accumulate` only cuts it into so many parts.
    """

    model: Model = Model()
    data: Data = Data()
    augment: Augment = Augment()
    mix: Mix = Mix()
    optimizer: Annotated[Sgd | Adam | AdamW | Adagrad | RmsProp | Muon, Field(discriminator="name")] = Sgd()
    schedule: Annotated[Constant | MultiStep | Cosine | OneCycle | Polynomial, Field(discriminator="name")] = Cosine()
    objective: Annotated[
        Classify | Kd | LogitRegression | Dkd | Dist | FitNets | AttentionTransfer, Field(discriminator="name")
    ] = Classify()
    teacher: Teacher | None = None
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 200
    extended_from: list[Count] = []  # earlier lengths of an extended run, which is no run of this length from the start
    batch_size: Count = 128
    accumulate: Count = 1
    clip_norm: Positive | None = None
    ema_decay: FractionBelowOne = 0.0  # 0 is off
    eval_every: Count = 1  # epochs
    checkpoint_steps: Count | None = None  # None: at the end of each epoch
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    protocol: Literal["dev", "paper"] = "dev"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bf16"] = "auto"
    compile: Literal["auto"] | bool = "auto"
    threads: Literal["auto"] | Count = "auto"
    deterministic: bool = True  # on a GPU: deterministic kernels, so that a resumed run is the same run

    NAMED: ClassVar[tuple[str, ...]] = ("model", "data", "optimizer", "schedule", "objective", "teacher")

    @model_serializer(mode="wrap")
    def _without_an_absent_teacher(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the teacher where there is none: such a recipe is the same as before there were any."""
        content: dict[str, Any] = serialise(self)
        if content.get("teacher", ...) is None:
            del content["teacher"]
        return content

    @field_validator("accumulate")
    @classmethod
    def _accumulate_divides_batch(cls, accumulate: int, others: ValidationInfo) -> int:
        batch_size = others.data.get("batch_size", accumulate)
        if batch_size % accumulate:
            raise ValueError(f"a number that divides batch_size={batch_size}")
        return accumulate

    @property
    def learns_from_teacher(self) -> bool:
        """Whether its objective needs a teacher."""
        return isinstance(self.objective, Distillation)

    @property
    def digest(self) -> str:
        """The SHA-256 of the recipe's canonical JSON: the identity of the experiment."""
        content = self.model_dump(mode="json")
        if self.teacher is not None and self.teacher.digest is not None:
            del content["teacher"]["name"]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def place(self) -> str:
        """Where a study keeps its run under the folder of all runs. It follows from the recipe, so there is one."""
        return f"{self.model.name.replace(':', '.')}/seed{self.seed}-{self.digest[:12]}"

    def to_yaml(self) -> str:
        """Return the resolved recipe as YAML."""
        return str(OmegaConf.to_yaml(self.model_dump(mode="json")))


# Every section by the name under which validation reports it: its own, or its variant's.
SECTIONS: dict[str, type[Section]] = {
    "data": Data,
    "augment": Augment,
    "mix": Mix,
    "teacher": Teacher,
    "classify": Classify,
    **{v.model_fields["name"].default: v for v in Distillation.__subclasses__()},
    **{v.model_fields["name"].default: v for v in (Sgd, Adam, AdamW, Adagrad, RmsProp, Muon)},
    **{v.model_fields["name"].default: v for v in (Constant, MultiStep, Cosine, OneCycle, Polynomial)},
}
