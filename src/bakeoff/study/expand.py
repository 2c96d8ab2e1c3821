"""From a study file to its arms: each arm is a complete recipe, or several of which validation chooses one."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bakeoff import library
from bakeoff import recipe as recipes
from bakeoff.errors import RecipeError, nearest
from bakeoff.recipe import Recipe
from bakeoff.study.schema import CARD, RESERVED, TRY, Layer, Reference, StudyFile

MOST_RUNS = 10_000  # of one study: above it something was mistyped
Changes = Mapping[str, tuple[object, object]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One recipe of an arm; its seed is the study's first.

    Args:
        name: what was tried, such as "lr=0.1"; empty where there is nothing to choose.
    """

    name: str
    recipe: Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One row of the table.

    Args:
        name: unique in the study.
        trials: one, or several of which validation chooses one.
        changed: setting -> (in the control, here), of the first trial.
        at: setting -> value, where the arm is a point on axes.
        repeated: names of later arms of the same recipes, which are not run again.
        seeds: its own, where runs were gathered instead of planned; empty for the study's.
    """

    name: str
    trials: tuple[Trial, ...]
    changed: Changes = field(default_factory=dict)
    at: Mapping[str, object] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """One question, expanded.

    Args:
        name: of its file.
        file: as written.
        typed: `key=value` settings that were laid over every arm.
        arms: control first.
        seeds: of every arm.
        scaled: setting -> (as the file has it, as typed).
        warnings: what a reader of the table has to know of the study's plan.
    """

    name: str
    file: StudyFile
    typed: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    scaled: Changes
    warnings: tuple[str, ...]

    @property
    def question(self) -> str:
        """What the study answers."""
        return self.file.question

    @property
    def control(self) -> Arm:
        """The arm that the others are compared with."""
        return self.arms[0]

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        """Pairs of arms to compare besides each with the control."""
        return tuple((a, b) for a, b in self.file.contrasts)

    @property
    def references(self) -> tuple[Reference, ...]:
        """Numbers of others."""
        return tuple(self.file.references)

    @property
    def folder_name(self) -> str:
        """The name of its folder: another where settings were typed, since that is another study."""
        if not self.typed:
            return self.name
        return f"{self.name}-{hashlib.sha256(json.dumps(sorted(self.typed)).encode()).hexdigest()[:8]}"

    def runs(self, arm: Arm) -> Iterator[tuple[Trial, int, Recipe]]:
        """Yield every run of an arm: trial, seed, recipe."""
        for seed in arm.seeds or self.seeds:
            for trial in arm.trials:
                yield trial, seed, trial.recipe.model_copy(update={"seed": seed})

    def recipes(self) -> dict[str, Recipe]:
        """Return every distinct recipe by its digest; seeds in turn, so that a half-finished study has all arms."""
        by_seed = sorted((run for arm in self.arms for run in self.runs(arm)), key=lambda run: self.seeds.index(run[1]))
        return {recipe.digest: recipe for _, _, recipe in by_seed}

    def to_json(self) -> dict[str, Any]:
        """Return what `restore` makes the study of again."""
        return {"name": self.name, "typed": list(self.typed), "file": self.file.model_dump(mode="json")}


def load(text: str, *, typed: Sequence[str] = ()) -> Study:
    """Read a shipped study by name, or a file, and expand it.

    Args:
        text: a name of `library.studies()`, or the path of a YAML file.
        typed: `key=value` for every arm, and `seeds=N`.

    Raises:
        RecipeError: no such study, an unreadable file, an unknown key, an arm that changes more than it may.
    """
    path = _path(text)
    where = path.stem if path in library.studies().values() else str(path)
    return expand(_validated(recipes.read_yaml(path), where=where), name=path.stem, where=where, typed=typed)


def restore(content: Mapping[str, Any], *, where: str) -> Study:
    """Return the study that `to_json` described."""
    try:
        name, typed, file = str(content["name"]), [str(text) for text in content["typed"]], content["file"]
    except (KeyError, TypeError):
        raise RecipeError(where, found="no study", expected="a study.json that bakeoff wrote") from None
    return expand(_validated(file, where=where), name=name, where=where, typed=typed)


def expand(file: StudyFile, *, name: str, where: str, typed: Sequence[str] = ()) -> Study:
    """Return the study with every recipe written out."""
    overrides = dict(_parse(text) for text in typed)
    seeds = _seeds(overrides.pop("seeds", None), file, where="seeds")
    _refuse_varied(overrides, file)
    control = Arm(name=file.control, trials=tuple(_trials(file, {}, overrides, where=f"{where}: base")))
    arms = [control]
    for arm_name, layer, at in _layers(file):
        trials = tuple(_trials(file, layer, overrides, where=f"{where}: {arm_name}"))
        changed = differences(control.trials[0].recipe, trials[0].recipe)
        arms.append(Arm(name=arm_name, trials=trials, changed=changed, at=at))
        _refuse_more(file, arm_name, changed, layer, where=where)
    merged, warnings = _merge_equal(arms, of_axes=bool(file.axes))
    _check_names(file, merged, where=where)
    before = _trials(file, {}, {}, where=where)[0].recipe
    scaled = {**differences(before, control.trials[0].recipe)}
    if list(seeds) != file.seeds:
        scaled["seeds"] = (len(file.seeds), len(seeds))
    study = Study(
        name=name,
        file=file,
        typed=tuple(typed),
        arms=tuple(merged),
        seeds=seeds,
        scaled=scaled,
        warnings=(*warnings, *unequal(file, merged)),
    )
    _refuse_too_many(study, where=where)
    return study


def differences(a: Recipe, b: Recipe) -> dict[str, tuple[object, object]]:
    """Return every setting that differs, dotted, as (in a, in b); a section of another name is one difference."""
    left, right = a.model_dump(mode="json"), b.model_dump(mode="json")
    found: dict[str, tuple[object, object]] = {}
    for key in left:
        if not isinstance(left[key], dict):
            if left[key] != right[key] and key != "seed":
                found[key] = (left[key], right[key])
            continue
        if left[key].get("name") != right[key].get("name"):
            found[key] = (left[key]["name"], right[key]["name"])
            continue
        for leaf in dict.fromkeys([*left[key], *right[key]]):
            if left[key].get(leaf) != right[key].get(leaf):
                found[f"{key}.{leaf}"] = (left[key].get(leaf), right[key].get(leaf))
    return found


def _path(text: str) -> Path:
    shipped = library.studies()
    if text in shipped:
        return shipped[text]
    if not text.endswith((".yaml", ".yml")) and "/" not in text:
        expected = f"a YAML file, or one of {', '.join(shipped)}"
        raise RecipeError("study", found=f"'{text}'", expected=expected, hint=nearest(text, shipped))
    return Path(text)


def _validated(content: object, *, where: str) -> StudyFile:
    try:
        return StudyFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        expected, hint = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input should be "), ""
        found = "a section" if isinstance(first["input"], dict) else f"{first['input']!r}"
        if first["type"] == "extra_forbidden":
            known = list(StudyFile.model_fields if len(first["loc"]) == 1 else Reference.model_fields)
            found, expected = f"an unknown key '{first['loc'][-1]}'", f"one of {', '.join(known)}"
            hint = nearest(str(first["loc"][-1]), known)
        elif first["type"] == "missing":
            found = "nothing"
        raise RecipeError(f"{where}: {key}", found=found[:200], expected=expected, hint=hint) from None


def _parse(text: str) -> tuple[str, Any]:
    """Return the dotted key and the value of one `key=value`."""
    layer: Any = recipes.parse(text)
    keys = []
    while isinstance(layer, dict) and len(layer) == 1:
        (key, layer), *_ = layer.items()
        keys.append(str(key))
    return ".".join(keys), layer


def _seeds(typed: object, file: StudyFile, *, where: str) -> tuple[int, ...]:
    """Return the seeds as typed, or as the file has them."""
    if typed is None:
        return tuple(file.seeds)
    try:
        return tuple(StudyFile.model_validate({**file.model_dump(), "seeds": typed}).seeds)
    except ValidationError:
        expected = "a number of seeds from 1 to 100, or a list of them"
        raise RecipeError(where, found=f"{typed!r}", expected=expected) from None


def _layers(file: StudyFile) -> Iterator[tuple[str, Layer, dict[str, object]]]:
    """Yield name, layer and place on the axes of every arm."""
    for name, layer in file.arms.items():
        yield name, layer, {}
    if file.axes:
        points = [[(key, *point) for point in _points(key, values)] for key, values in file.axes.items()]
        for chosen in itertools.product(*points):
            at = {key: value for key, _, value in chosen}
            yield ", ".join(name for _, name, _ in chosen), dict(at), at


def _points(key: str, values: list[Any] | dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the values of one axis, each with its name."""
    if isinstance(values, dict):
        return list(values.items())
    leaf = key.rpartition(".")[2]
    return [(f"{leaf}={value:g}" if isinstance(value, float) else f"{leaf}={value}", value) for value in values]


def _trials(file: StudyFile, layer: Layer, overrides: Layer, *, where: str) -> list[Trial]:
    """Return the recipes of one arm: base, then the arm, then what it tries, then what was typed."""
    recipe = _start(file, layer, where=where)
    tried = layer.get(TRY, {} if layer else file.base.get(TRY, {}))
    if not isinstance(tried, Mapping) or not all(isinstance(v, list) and v for v in tried.values()):
        raise RecipeError(f"{where}: {TRY}", found=f"{tried!r}"[:200], expected="settings, each with a list of values")
    points = [[(key, *point) for point in _points(key, values)] for key, values in tried.items()]
    trials = []
    for chosen in itertools.product(*points):
        settings = {key: value for key, _, value in chosen}
        complete = recipes.overlay(recipe, recipes.nest(settings), where=where)
        complete = recipes.overlay(complete, recipes.nest(overrides), where="command line")
        trials.append(Trial(name=", ".join(name for _, name, _ in chosen), recipe=recipes.settled(complete)))
    return trials


def _start(file: StudyFile, layer: Layer, *, where: str) -> Recipe:
    """Return the base with an arm's layer over it; from the arm's own cards where the study says so."""
    base, own = recipes.nest(_settings(file.base)), recipes.nest(_settings(layer))
    card = layer.get(CARD, file.base.get(CARD))
    model = _model_of(own) if file.own_cards and "model" in own else _model_of(base)
    recipe = recipes.resolve(model, recipe=None if card is None else str(card))
    if file.own_cards and "model" in own:
        base.pop("model")
    for part in (base, own):
        recipe = recipes.overlay(recipe, part, where=where)
    # One thread a run, unless the study says otherwise: they go side by side, and threads are part of the result.
    return recipes.overlay(recipe, {"threads": 1}, where=where) if recipe.threads == "auto" else recipe


def _settings(layer: Layer) -> Layer:
    return {key: value for key, value in layer.items() if key not in RESERVED}


def _model_of(layer: Mapping[str, Any]) -> str:
    model = layer["model"]
    return str(model["name"] if isinstance(model, Mapping) else model)


def _varied(file: StudyFile) -> list[str]:
    """List the settings that make the arms."""
    layers = [file.base.get(TRY, {}), *(layer for _, layer, _ in _layers(file))]
    layers += [layer.get(TRY, {}) for layer in layers]
    keys = {key: None for layer in layers for key in _leaves(recipes.nest(_settings(layer)))}
    return list(keys)


def _leaves(layer: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for key, value in layer.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}"


def _refuse_varied(overrides: Layer, file: StudyFile) -> None:
    """Refuse to set for all arms what makes them differ."""
    for typed in overrides:
        for varied in _varied(file):
            if typed == varied or varied.startswith(f"{typed}.") or typed.startswith(f"{varied}."):
                raise RecipeError(
                    "command line",
                    found=f"{typed}=..., which is what the arms differ in",
                    expected="a setting that is the same for all arms",
                    hint="Copy the study's file and change its arms there.",
                )


def _refuse_more(file: StudyFile, arm: str, changed: Changes, layer: Layer, *, where: str) -> None:
    """Hold an ablation to what it declared."""
    allowed = [*file.changes, *recipes.nest(dict.fromkeys(layer.get(TRY, {})))]
    if not file.changes:
        return
    for key, (before, now) in changed.items():
        if not any(key == name or key.startswith(f"{name}.") for name in allowed):
            raise RecipeError(
                f"{where}: {arm}",
                found=f"{key} = {now} where the base has {before}",
                expected=f"a change of {', '.join(file.changes)} alone, as `changes` declares",
                hint="Give the setting to the base as well, or declare it.",
            )


def _merge_equal(arms: Sequence[Arm], *, of_axes: bool) -> tuple[list[Arm], list[str]]:
    """Drop arms that repeat another's recipes, and say so; on axes the control is one of the points."""
    kept: dict[tuple[str, ...], Arm] = {}
    warnings = []
    for arm in arms:
        key = tuple(trial.recipe.digest for trial in arm.trials)
        if key not in kept:
            kept[key] = arm
        elif kept[key] is arms[0] and of_axes and not kept[key].at:
            kept[key] = replace(arm, changed={})
        else:
            warnings.append(f"{arm.name} is the same recipe as {kept[key].name}: run once, shown once.")
            kept[key] = replace(kept[key], repeated=(*kept[key].repeated, arm.name))
    return list(kept.values()), warnings


def unequal(file: StudyFile, arms: Sequence[Arm]) -> Iterator[str]:
    """Yield, in words, what makes the arms not comparable."""
    for key in file.equal:
        values = {arm.name: str(_get(arm.trials[0].recipe, key)) for arm in arms}
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{name} {value}" for name, value in list(values.items())[:6])
            yield f"Not comparable: {key} differs between arms ({listed}{', ...' if len(values) > 6 else ''})."
    budgets = {arm.name: len(arm.trials) for arm in arms}
    if len(set(budgets.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in budgets.items())
        yield f"Not comparable: arms have different numbers of trials ({listed})."
    several = [arm.name for arm in arms if len(arm.changed) > 1]
    if several and not file.changes:
        yield f"Arms differ from the control in more than one setting: {', '.join(several)}."


def _get(recipe: Recipe, key: str) -> object:
    value: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _check_names(file: StudyFile, arms: Sequence[Arm], *, where: str) -> None:
    """Refuse names that the file mentions and no arm has, and names that two arms have."""
    names = [name for arm in arms for name in (arm.name, *arm.repeated)] + [file.control]
    for arm in arms[1:]:
        if arm.name == arms[0].name:
            expected = "an arm of another name: the control is called so"
            raise RecipeError(f"{where}: arms", found=f"'{arm.name}'", expected=expected)
    mentioned = [(f"contrasts: {pair}", name) for pair in file.contrasts for name in pair]
    mentioned += [("references", reference.arm) for reference in file.references]
    for place, name in mentioned:
        if name not in names:
            expected = f"an arm: {', '.join(names)}"
            raise RecipeError(f"{where}: {place}", found=f"'{name}'", expected=expected, hint=nearest(name, names))
    for key in file.changes + file.equal:
        if key.partition(".")[0] not in Recipe.model_fields:
            known = list(Recipe.model_fields)
            raise RecipeError(
                f"{where}: changes, equal", found=f"'{key}'", expected="settings of a recipe", hint=nearest(key, known)
            )


def _refuse_too_many(study: Study, *, where: str) -> None:
    count = sum(len(arm.trials) for arm in study.arms) * len(study.seeds)
    if count > MOST_RUNS:
        raise RecipeError(where, found=f"{count:,} runs", expected=f"at most {MOST_RUNS:,} in one study")
