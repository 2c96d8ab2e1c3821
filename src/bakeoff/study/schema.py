"""What a study file holds: a question, a base recipe, arms or axes, seeds. Typed, no unknown keys."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from bakeoff.recipe.schema import Fraction, Section

# A layer over a recipe as a person writes it: nested, dotted (`optimizer.lr`) or short (`lr`) keys.
Layer = dict[str, Any]
Name = Annotated[str, Field(min_length=1, max_length=60)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]

TRY = "try"  # the key of a layer that lists settings of which validation chooses one
CARD = "recipe"  # the key of a layer that names a shipped card or a file, as `--recipe` does
RESERVED = (TRY, CARD)


class Reference(Section):
    """A number of others beside one of ours: a mark in the figures, never part of a test.

    Args:
        arm: whose.
        top1: on the test split, a fraction.
        source: who measured it, where, how.
    """

    arm: Name
    top1: Fraction
    source: Annotated[str, Field(min_length=1)]


class StudyFile(BaseModel):
    """One question.

    Args:
        question: what the study answers, in a sentence.
        base: the recipe that all arms start from: `model`, and any settings; itself runnable, and the control.
        control: what the base is called in tables.
        arms: name -> what it changes in the base.
        axes: setting -> its values (or name -> value, where a value is a whole section); arms are their product.
        changes: the settings that an arm may change; anything else that differs is refused. Empty: anything may,
            and the report says that arms differ in more than one thing.
        own_cards: an arm that names a model starts from that model's own cards instead of the base's recipe.
        seeds: of every arm, the same, so that differences are paired.
        contrasts: pairs of arms to compare besides each arm with the control.
        equal: settings that must agree in all arms, or the report says "not comparable".
        references: numbers of others.
    """

    model_config = Section.model_config

    question: Annotated[str, Field(min_length=1, max_length=300)]
    base: Layer
    control: Name = "base"
    arms: dict[Name, Layer] = {}
    axes: dict[str, Annotated[list[Any], Field(min_length=1)] | Annotated[dict[Name, Any], Field(min_length=1)]] = {}
    changes: list[str] = []
    own_cards: bool = False
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=100)] = [0, 1, 2]
    contrasts: list[Annotated[list[Name], Field(min_length=2, max_length=2)]] = []
    equal: list[str] = ["data", "epochs", "batch_size", "protocol"]
    references: list[Reference] = []

    @field_validator("seeds", mode="before")
    @classmethod
    def _a_number_of_seeds(cls, seeds: Any) -> Any:  # noqa: ANN401 (what a person wrote, before it is checked)
        """Read `seeds: 3` as 0, 1, 2."""
        return list(range(seeds)) if isinstance(seeds, int) and 0 < seeds <= 100 else seeds

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("each seed once")
        return seeds

    @field_validator("base")
    @classmethod
    def _base_names_its_model(cls, base: Layer) -> Layer:
        model = base.get("model")
        if not isinstance(model, str) and not (isinstance(model, dict) and isinstance(model.get("name"), str)):
            raise ValueError("a recipe that names its model (model: resnet_20)")
        return base

    @model_validator(mode="after")
    def _arms_or_axes(self) -> Self:
        if bool(self.arms) == bool(self.axes):
            raise ValueError("either arms or axes")
        return self
