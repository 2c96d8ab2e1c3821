"""What one run is, written out to the last default, and its digest."""

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal, Self

from omegaconf import OmegaConf
from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from bakeoff import catalogue
from bakeoff.recipe.objective import (
    AttentionTransfer,
    Classify,
    Dist,
    Distillation,
    Dkd,
    FitNets,
    Kd,
    LogitRegression,
    Teacher,
)
from bakeoff.recipe.optimization import (
    Adagrad,
    Adam,
    AdamW,
    Constant,
    Cosine,
    MultiStep,
    Muon,
    OneCycle,
    Polynomial,
    RmsProp,
    Sgd,
)
from bakeoff.recipe.section import Count, Fraction, FractionBelowOne, NonNegative, Pixels, Positive, Section, without


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
    """The pictures: a data set, how many of its training images, how many of those are held out.

    The rest is about a person's own, of whatever size and shape; of published sets it is left out.
    """

    name: str = "cifar100"
    limit: Count | None = None
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    resident: bool | None = None  # None: on the device when it fits
    balance: bool = False  # show each class as often as any other, its pictures several times where they are few
    size: Annotated[int, Field(ge=8, le=1024)] = 32  # the side of the square that each picture is brought to, in pixels
    fit: Literal["squash", "crop", "pad"] = "squash"
    image_column: str | None = None  # of a table; None: found
    label_column: str | None = None

    OWN: ClassVar[tuple[str, ...]] = ("size", "fit", "image_column", "label_column")

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name in catalogue.DATASETS or (catalogue.is_own(name) and name.partition(":")[2].strip()):
            return name
        raise ValueError(f"one of {', '.join((*catalogue.DATASETS, *(f'{prefix}...' for prefix in catalogue.OWN)))}")

    @field_validator(*OWN)
    @classmethod
    def _published_ones_are_as_they_are(cls, value: object, others: ValidationInfo) -> object:
        name, default = others.data.get("name", ""), cls.model_fields[str(others.field_name)].default
        if name in catalogue.DATASETS and value != default:
            raise ValueError(f"none: {name} is used as it was published")
        return value

    @model_serializer(mode="wrap")
    def _without_what_is_about_own(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialise(self)
        if not self.is_published:
            return content
        absent = {key: type(self).model_fields[key].default for key in (*self.OWN, "balance")}
        return without(content, absent)

    @property
    def is_published(self) -> bool:
        """Whether it is a set of the catalogue, and no person's own."""
        return not catalogue.is_own(self.name)

    @property
    def source(self) -> dict[str, Any]:
        """What `data.load` is told of the pictures, beside their part."""
        if self.is_published:
            return {"name": self.name}
        return {
            "name": self.name,
            "size": self.size,
            "fit": self.fit,
            "image": self.image_column,
            "label": self.label_column,
        }


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
    # Pairs of (fraction of the run, pixels): up to there pictures are shown smaller. None afterwards.
    resolution: list[tuple[Fraction, Annotated[int, Field(ge=8)]]] = []  # noqa: RUF012 (pydantic copies it)

    @field_validator("resolution", mode="before")
    @classmethod
    def _pairs_of_yaml(cls, value: object) -> object:
        return [tuple(pair) if isinstance(pair, list) else pair for pair in value] if isinstance(value, list) else value

    @field_validator("resolution")
    @classmethod
    def _resolution_rises(cls, value: list[tuple[float, int]]) -> list[tuple[float, int]]:
        if value != sorted(value) or len({until for until, _ in value}) < len(value):
            raise ValueError("pairs of a fraction of the run and pixels, both rising: [[0.35, 20], [0.65, 24]]")
        return value

    @model_serializer(mode="wrap")
    def _without_resolution(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without(serialise(self), {"resolution": []})


class Mix(Section):
    """Mixtures of two pictures: Beta parameters (0 is off), chance a batch, share of cutmix."""

    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0
    probability: Fraction = 1.0
    switch: Fraction = 0.5


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
    # Earlier lengths of an extended run, which is no run of this length from the start.
    extended_from: list[Count] = []  # noqa: RUF012 (pydantic copies it)
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
    autotune: bool = True  # measure the ways to compute what is "auto", where a run is long; otherwise follow rules
    sync_norms: bool = True  # on several ranks: batch norm over the whole batch, as on one
    cuda_graph: Literal["auto"] | bool = "auto"  # on one GPU: a step is recorded once, and launched as a whole
    deterministic: bool = True  # on a GPU: deterministic kernels, so that a resumed run is the same run

    NAMED: ClassVar[tuple[str, ...]] = ("model", "data", "optimizer", "schedule", "objective", "teacher")

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without(serialise(self), {"teacher": None, "sync_norms": True, "autotune": True, "cuda_graph": "auto"})

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
