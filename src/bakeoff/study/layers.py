"""The layers of a study, and the recipes they make: base, then an arm's, then what it tries, then what was typed."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bakeoff import recipe as recipes
from bakeoff.errors import RecipeError
from bakeoff.recipe import Recipe
from bakeoff.study.plan import Trial
from bakeoff.study.schema import CARD, RESERVED, TRY, Layer, StudyFile

# What a teacher takes over from the students' settings, and how settings for teachers alone are typed.
SHARED = ("data", "protocol", "device", "precision", "compile", "threads", "autotune", "deterministic")
FOR_TEACHERS = "teachers."
# The arms that every study of distillation has.
ALONE, SMOOTHED, SMOOTHING = "student alone", "label smoothing", 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """An arm before it has recipes.

    Args:
        name: of the arm.
        layer: over the base, as written.
        at: setting -> value, where the arm is a point on axes.
    """

    name: str
    layer: Layer = field(default_factory=dict)
    at: Mapping[str, object] = field(default_factory=dict)


def points(file: StudyFile) -> Iterator[Point]:
    """Yield every arm but the control, in the order of the file."""
    for name, layer in file.arms.items():
        yield Point(name=name, layer=layer)
    for chosen in _product(file.axes) if file.axes else ():
        at = {key: value for key, _, value in chosen}
        yield Point(name=_name(chosen), layer=dict(at), at=at)


def count(file: StudyFile, *, where: str) -> int:
    """Count the recipes of one seed without making any of them, the control's among them."""
    arms = sum(_size(tried(file, layer, where=f"{where}: {name}")) for name, layer in file.arms.items())
    of_base = _size(tried(file, {}, where=f"{where}: base"))
    return of_base + arms + (_size(file.axes) * of_base if file.axes else 0)


def tried(file: StudyFile, layer: Layer, *, where: str) -> dict[str, list[Any]]:
    """Return the settings of which validation chooses, each with its values: the arm's own, else the base's.

    Raises:
        RecipeError: what is to be tried is not lists of different values.
    """
    content = layer.get(TRY, file.base.get(TRY, {}))
    if isinstance(content, dict) and all(map(_is_choice, content.values())):
        return {str(key): values for key, values in content.items()}
    expected = "settings, each with a list of different values"
    raise RecipeError(f"{where}: {TRY}", found=f"{content!r}"[:200], expected=expected, hint="Such as lr: [0.01, 0.1].")


def controls(file: StudyFile, recipes_of_arms: Iterable[Recipe]) -> Iterator[Point]:
    """Yield the arms that a study of distillation is judged by, as far as it has none such."""
    arms = list(recipes_of_arms)
    alone = [recipe for recipe in arms if recipe.teacher is None]
    if not file.add_controls or len(alone) == len(arms):
        return
    tried_here = [next(leaves(recipes.nest({key: None}))) for key in file.base.get(TRY, {})]
    of_objective = any(key.startswith(("objective", "teacher")) for key in tried_here)
    rest: Layer = {"teacher": None, **({TRY: {}} if of_objective else {})}
    if not alone:
        yield Point(name=_unused(file, ALONE), layer={"objective": "classify", **rest})
    if not any(getattr(recipe.objective, "label_smoothing", 0.0) for recipe in alone):
        yield Point(
            name=_unused(file, SMOOTHED),
            layer={"objective": {"name": "classify", "label_smoothing": SMOOTHING}, **rest},
        )


def _unused(file: StudyFile, name: str) -> str:
    return f"{name} (control)" if name in (file.control, *file.arms) else name


def teacher(
    file: StudyFile, layer: Layer, typed: Layer, *, seed: int, resolve: Callable[..., Recipe], where: str
) -> Recipe:
    """Return the recipe of a teacher: over its own cards lie the base's data, its layer, and what was typed for it.

    Args:
        file: with the base.
        layer: of the teacher, as written.
        typed: dotted settings, those of its data and machine as for all arms, those of `teachers` for it alone.
        seed: of the recipe.
        resolve: `recipe.resolve`, or one that remembers.
        where: for messages.
    """
    own = settings(layer)
    card = layer.get(CARD)
    recipe = resolve(_model_of(own), recipe=None if card is None else str(card))
    of_base = _start(file, {}, resolve=resolve, where=where).model_dump()
    for part in (_shared(of_base), own):
        recipe = recipes.overlay(recipe, part, where=where)
    nested = recipes.nest({key: value for key, value in typed.items() if not key.startswith(FOR_TEACHERS)})
    for_it = {key.removeprefix(FOR_TEACHERS): value for key, value in typed.items() if key.startswith(FOR_TEACHERS)}
    for part in (_shared(nested), recipes.nest(for_it)):
        recipe = recipes.overlay(recipe, part, where="command line")
    if recipe.teacher is not None:
        expected = "a teacher that learns from the labels alone"
        raise RecipeError(f"{where}: teacher", found=f"{recipe.teacher.name}, a teacher's teacher", expected=expected)
    return _settled(_on_one_thread(recipe, where=where), where=where).model_copy(update={"seed": seed})


def _settled(recipe: Recipe, *, where: str) -> Recipe:
    """Return the recipe as a new run's, and say of a mistake where it stands."""
    try:
        return recipes.settled(recipe)
    except RecipeError as error:
        raise error.inside(where) from None


def _shared(layer: Layer) -> Layer:
    """Return what a teacher and its students have in common: data, and the machine that trains them."""
    return {key: value for key, value in layer.items() if key in SHARED}


def _taught_by(recipe: Recipe, teachers: Mapping[str, Recipe]) -> Recipe:
    """Return the recipe with the teacher that the study trains in the place of its name there."""
    named = recipe.teacher
    if named is None or named.digest is not None or named.name not in teachers:
        return recipe
    of = teachers[named.name]
    return recipe.model_copy(update={"teacher": named.model_copy(update={"name": of.place, "digest": of.digest})})


def trials(
    file: StudyFile,
    layer: Layer,
    typed: Layer,
    *,
    seed: int,
    resolve: Callable[..., Recipe],
    teachers: Mapping[str, Recipe],
    where: str,
) -> tuple[Trial, ...]:
    """Return the recipes of one arm.

    Args:
        file: with the base.
        layer: over the base.
        typed: dotted settings over everything.
        seed: of the recipes.
        resolve: `recipe.resolve`, or one that remembers.
        teachers: of the study, by name.
        where: for messages.
    """
    start = _start(file, layer, resolve=resolve, where=where)
    made = []
    for chosen in _product(tried(file, layer, where=where)):
        settings = recipes.nest({key: value for key, _, value in chosen})
        complete = recipes.overlay(start, settings, where=where)
        complete = recipes.overlay(complete, recipes.nest(typed), where="command line")
        recipe = _settled(complete, where=where).model_copy(update={"seed": seed})
        made.append(Trial(name=_name(chosen), recipe=_taught_by(recipe, teachers)))
    return tuple(made)


def settings(layer: Layer) -> dict[str, Any]:
    """Return the settings of a layer, nested; neither what it tries nor its card."""
    return recipes.nest({key: value for key, value in layer.items() if key not in RESERVED})


def leaves(layer: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Yield the settings of a nested layer, dotted; a section given by its name alone is `section.name`."""
    for key, value in layer.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{before}{key}.")
        elif not before and key in Recipe.NAMED and isinstance(value, str):
            yield f"{key}.name"
        else:
            yield f"{before}{key}"


def _start(file: StudyFile, layer: Layer, *, resolve: Callable[..., Recipe], where: str) -> Recipe:
    """Return the base with an arm's layer over it; from the arm's own cards where the study says so."""
    base, own = settings(file.base), settings(layer)
    model = _model_of(own) if file.own_cards else None
    if model is not None:
        base.pop("model")
    card = layer.get(CARD, file.base.get(CARD))
    recipe = resolve(model or _model_of(base), recipe=None if card is None else str(card))
    for part in (base, own):
        recipe = recipes.overlay(recipe, part, where=where)
    return _on_one_thread(recipe, where=where)


def _on_one_thread(recipe: Recipe, *, where: str) -> Recipe:
    """Give a run one thread unless the study says otherwise: they go side by side, and threads are part of a result."""
    return recipes.overlay(recipe, {"threads": 1}, where=where) if recipe.threads == "auto" else recipe


def _model_of(layer: Mapping[str, Any]) -> str | None:
    """Return the name of the model that a layer names; None where it names none."""
    model = layer.get("model")
    name = model.get("name") if isinstance(model, Mapping) else model
    return None if name is None else str(name)


def _is_choice(values: object) -> bool:
    return isinstance(values, list) and bool(values) and len(set(map(repr, values))) == len(values)


def _size(axes: Mapping[str, Sequence[Any] | Mapping[str, Any]]) -> int:
    return math.prod(len(values) for values in axes.values())


def _product(axes: Mapping[str, list[Any] | dict[str, Any]]) -> Iterator[tuple[tuple[str, str, Any], ...]]:
    """Yield every choice of one value an axis: (setting, name of the value, value) for each axis."""
    return itertools.product(*([(key, *named) for named in _values(key, values)] for key, values in axes.items()))


def _values(key: str, values: list[Any] | dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the values of one axis, each with its name."""
    if isinstance(values, dict):
        return list(values.items())
    leaf = key.rpartition(".")[2]
    return [(f"{leaf}={_short(value)}", value) for value in values]


def _short(value: object) -> str:
    """Return a value as text, a number as short as it can be without becoming another."""
    short = f"{value:g}" if isinstance(value, float) else f"{value}"
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def _name(chosen: Sequence[tuple[str, str, Any]]) -> str:
    return ", ".join(name for _, name, _ in chosen)
