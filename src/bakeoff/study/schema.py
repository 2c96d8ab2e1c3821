"""What a study file holds: a question, a base recipe, arms or axes, seeds. Typed, no unknown keys."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, Field, field_validator, model_validator

from bakeoff import recipe as recipes
from bakeoff.recipe.section import Fraction, Section

# A layer over a recipe as a person writes it: nested, dotted (`optimizer.lr`) or short (`lr`) keys.
Layer = dict[str, Any]
LONGEST_NAME = 60
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
MOST_SEEDS = 100

TRY = "try"  # the key of a layer that lists settings of which validation chooses one
CARD = "recipe"  # the key of a layer that names a shipped card or a file, as `--recipe` does
RESERVED = (TRY, CARD)


def _named(content: object) -> object:
    """Refuse names that YAML has read as something else, such as `off`; where it is a mapping at all."""
    for name in content if isinstance(content, dict) else ():
        if not isinstance(name, str):
            raise ValueError(f"names in quotes: YAML reads one of them as {name!r}")
        if not 0 < len(name) <= LONGEST_NAME:
            raise ValueError(f"names of 1 to {LONGEST_NAME} letters")
    return content


def _named_model(layer: Layer, *, of: str) -> None:
    """Refuse a layer that names no model."""
    model = recipes.nest(layer).get("model")
    if not isinstance(model.get("name") if isinstance(model, dict) else model, str):
        raise ValueError(of)


def _points(content: object) -> object:
    """Refuse an axis without a point."""
    if not isinstance(content, list | dict) or not content:
        raise ValueError("a list of values, or a name for each value")
    return _named(content)


Axis = Annotated[list[Any] | dict[str, Any], BeforeValidator(_points)]


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
        base: the recipe that all arms start from: `model`, and any settings; itself runnable, and the control. What it
            tries (`try`), every arm tries, unless the arm has a `try` of its own.
        control: what the base is called in tables.
        arms: name -> what it changes in the base.
        axes: setting -> its values (or name -> value, where a value is a whole section); arms are their product.
        teachers: name -> the recipe of a network that arms learn from (`teacher: NAME`), over its model's own cards and
            the base's data. Each is trained once, before the arms that need it.
        add_controls: whether a study of distillation gets the arms that it is judged by, where it has none such: the
            student alone, and the student with smoothed labels alone.
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
    arms: Annotated[dict[Name, Layer], BeforeValidator(_named)] = {}
    axes: dict[str, Axis] = {}
    teachers: Annotated[dict[Name, Layer], BeforeValidator(_named)] = {}
    add_controls: bool = True
    changes: list[str] = []
    own_cards: bool = False
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=MOST_SEEDS)] = [0, 1, 2]
    contrasts: list[Annotated[list[Name], Field(min_length=2, max_length=2)]] = []
    equal: list[str] = ["data", "epochs", "batch_size", "protocol"]
    references: list[Reference] = []

    @field_validator("seeds", mode="before")
    @classmethod
    def _a_number_of_seeds(cls, seeds: Any) -> Any:  # noqa: ANN401 (what a person wrote, before it is checked)
        """Read `seeds: 3` as 0, 1, 2."""
        if isinstance(seeds, int) and not isinstance(seeds, bool) and 0 < seeds <= MOST_SEEDS:
            return list(range(seeds))
        if not isinstance(seeds, list):
            raise ValueError(f"a number of seeds from 1 to {MOST_SEEDS}, or a list of them")
        return seeds

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("each seed once")
        return seeds

    @field_validator("base")
    @classmethod
    def _base_names_its_model(cls, base: Layer) -> Layer:
        _named_model(base, of="a recipe that names its model (model: resnet_20)")
        return base

    @field_validator("teachers")
    @classmethod
    def _teachers_name_their_models(cls, teachers: dict[str, Layer]) -> dict[str, Layer]:
        for name, layer in teachers.items():
            _named_model(layer, of=f"teachers, each of which names its model ({name}: {{model: resnet_56}})")
        return teachers

    @model_validator(mode="after")
    def _arms_or_axes(self) -> Self:
        if bool(self.arms) == bool(self.axes):
            raise ValueError("either arms or axes")
        return self
