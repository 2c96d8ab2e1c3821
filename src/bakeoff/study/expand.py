"""From a study file to its arms: each arm is a complete recipe, or several of which validation chooses one."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from bakeoff import library
from bakeoff import recipe as recipes
from bakeoff.errors import RecipeError, nearest
from bakeoff.recipe import Recipe
from bakeoff.study import judge, layers
from bakeoff.study.judge import unequal
from bakeoff.study.plan import Arm, Changes, Study, Trial, differences
from bakeoff.study.schema import MOST_SEEDS, Layer, Reference, StudyFile

__all__ = ["Arm", "Changes", "Study", "Trial", "differences", "expand", "load", "of", "restore", "unequal"]


def load(text: str, *, typed: Sequence[str] = ()) -> Study:
    """Read a shipped study by name, or a file, and expand it.

    Args:
        text: a name of `library.studies()`, or the path of a YAML file.
        typed: `key=value` for every arm, and `seeds=N`.

    Raises:
        RecipeError: no such study, an unreadable file, an unknown key, an arm that changes more than it may.
        DataError: a file that does not exist.
    """
    path = _path(text)
    where = path.stem if path in library.studies().values() else str(path)
    return expand(
        _validated(recipes.read_yaml(path, what="study"), where=where), name=path.stem, where=where, typed=typed
    )


def of(content: object, *, name: str, where: str) -> Study:
    """Return the study that a mapping describes, as a file would.

    Raises:
        RecipeError: as `load`.
    """
    return expand(_validated(content, where=where), name=name, where=where)


def restore(content: object, *, where: str) -> Study:
    """Return the study that `Study.to_json` described.

    Raises:
        RecipeError: it is damaged, or of another version.
    """
    try:
        study = Study.from_json(content)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found = f"no study ({' '.join(str(error).split())[:200]})"
        raise RecipeError(where, found=found, expected="a study.json that this version of bakeoff wrote") from None
    judge.refuse_name(study.name, where=where)
    return study


def expand(file: StudyFile, *, name: str, where: str, typed: Sequence[str] = ()) -> Study:
    """Return the study with every recipe written out.

    Args:
        file: checked key by key.
        name: of the study, and of its folder.
        where: for messages.
        typed: `key=value` for every arm, and `seeds=N`; of one key the last counts.

    Raises:
        RecipeError: an arm is no valid recipe, or the study is not what it says.
    """
    judge.refuse_name(name, where=where)
    written = {key: (value, text) for text in typed for key, value in [recipes.setting(text)]}
    overrides = {key: value for key, (value, _) in written.items()}
    seeds = _seeds(overrides.pop("seeds", None), file)
    judge.refuse_keys(file, overrides, where=where)
    judge.refuse_many(file, len(seeds), where=where)
    judge.refuse_varied(file, overrides)
    teachers = _teachers(file, overrides, seed=seeds[0], where=where)
    arms = _arms(file, overrides, teachers, seed=seeds[0], where=where)
    judge.refuse_names(file, arms, where=where)
    judge.refuse_idle(teachers, arms, where=where)
    merged, warnings = _merge_equal(arms, of_axes=bool(file.axes))
    scaled = _all_scaled(file, teachers, arms, seed=seeds[0], where=where) if overrides else {}
    if list(seeds) != file.seeds:
        by_count = len(seeds) != len(file.seeds)
        scaled["seeds"] = (len(file.seeds), len(seeds)) if by_count else (file.seeds, list(seeds))
    return Study(
        name=name,
        file=file,
        typed=tuple(text for _, text in written.values()),
        arms=tuple(merged),
        seeds=seeds,
        scaled=scaled,
        warnings=(*warnings, *unequal(file, merged)),
        teachers=teachers,
    )


def _teachers(file: StudyFile, overrides: Layer, *, seed: int, where: str) -> dict[str, Recipe]:
    """Return the recipe of every teacher, by its name in the file."""
    return {
        name: layers.teacher(
            file, layer, overrides, seed=seed, resolve=recipes.resolve, where=f"{where}: teachers: {name}"
        )
        for name, layer in file.teachers.items()
    }


def _arms(file: StudyFile, overrides: Layer, teachers: Mapping[str, Recipe], *, seed: int, where: str) -> list[Arm]:
    """Return every arm, control first, as the file has them: equal ones too."""
    resolve = functools.cache(recipes.resolve)  # arms begin alike: their cards are read once
    typed = {key: value for key, value in overrides.items() if not key.startswith(layers.FOR_TEACHERS)}
    trials = functools.partial(layers.trials, file, typed=typed, seed=seed, resolve=resolve, teachers=teachers)
    arms = [Arm(name=file.control, trials=trials({}, where=f"{where}: base"))]
    for point in layers.points(file):
        place = f"{where}: {point.name}"
        judge.refuse_untried(file, point.layer, where=place)
        made = trials(point.layer, where=place)
        changed = differences(arms[0].trials[0].recipe, made[0].recipe)
        arms.append(Arm(name=point.name, trials=made, changed=changed, at=point.at))
        judge.refuse_more(file, arms[-1], point.layer, where=place)
    for point in list(layers.controls(file, [arm.trials[0].recipe for arm in arms])):
        made = trials(point.layer, where=f"{where}: {point.name}")
        arms.append(Arm(name=point.name, trials=made, changed=differences(arms[0].trials[0].recipe, made[0].recipe)))
    for arm in arms:
        judge.refuse_blind(arm, where=f"{where}: {arm.name}")
    return arms


def _all_scaled(
    file: StudyFile, teachers: Mapping[str, Recipe], arms: Sequence[Arm], *, seed: int, where: str
) -> dict[str, tuple[object, object]]:
    """Return what typed settings changed: in any arm, and in any teacher as `teachers.SETTING`."""
    filed = _teachers(file, {}, seed=seed, where=where)
    changed = [differences(filed[name], teachers[name]) for name in filed]
    of_arms = _scaled(_arms(file, {}, filed, seed=seed, where=where), arms)
    of_arms = {key: change for key, change in of_arms.items() if not key.startswith("teacher")}
    own = {k: v for found in changed for k, v in found.items() if k.partition(".")[0] not in layers.SHARED}
    return of_arms | {f"{layers.FOR_TEACHERS}{key}": change for key, change in own.items()}


def _scaled(filed: Sequence[Arm], typed: Sequence[Arm]) -> dict[str, tuple[object, object]]:
    """Return what typed settings changed in any arm; where arms differ in what they had, as in the first of them."""
    scaled: dict[str, tuple[object, object]] = {}
    for before, now in zip(filed, typed, strict=True):
        scaled = {**differences(before.trials[0].recipe, now.trials[0].recipe), **scaled}
    return scaled


def _merge_equal(arms: Sequence[Arm], *, of_axes: bool) -> tuple[list[Arm], list[str]]:
    """Drop arms that repeat another's recipes, and say so; on axes the control is one of the points, if it is any."""
    kept: dict[tuple[str, ...], Arm] = {}
    warnings = []
    for arm in arms:
        before = kept.get(arm.digests)
        if before is None:
            kept[arm.digests] = arm
        elif before is arms[0] and of_axes:
            kept[arm.digests] = replace(arm, repeated=(before.name,))
        else:
            warnings.append(f"{arm.name} is the same recipe as {before.name}: run once, shown once.")
            kept[arm.digests] = replace(before, repeated=(*before.repeated, arm.name))
    return list(kept.values()), warnings


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
        raise _explain(error, where=where) from None


def _explain(error: ValidationError, *, where: str) -> RecipeError:
    """Turn pydantic's first complaint into one message about the key as the person wrote it."""
    first = error.errors()[0]
    place, kind, given = first["loc"], first["type"], first["input"]
    expected, hint = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input should be "), ""
    expected = expected[0].lower() + expected[1:].replace("valid dictionary", "mapping of settings")
    found = "a section" if isinstance(given, dict) else f"{given!r}"[:200]
    if kind == "extra_forbidden":
        known = list(StudyFile.model_fields if len(place) == 1 else Reference.model_fields)
        found, expected = f"an unknown key '{place[-1]}'", f"one of {', '.join(known)}"
        hint = nearest(str(place[-1]), known)
    elif kind == "missing":
        found, expected = "nothing", "it, as every study has it" if len(place) == 1 else "it"
    key = ".".join(map(str, place)) or "the file"
    return RecipeError(f"{where}: {key}", found=found, expected=expected, hint=hint)


def _seeds(typed: object, file: StudyFile) -> tuple[int, ...]:
    """Return the seeds as typed, or as the file has them."""
    if typed is None:
        return tuple(file.seeds)
    try:
        return tuple(StudyFile.model_validate({**file.model_dump(), "seeds": typed}).seeds)
    except ValidationError:
        expected = f"a number of seeds from 1 to {MOST_SEEDS}, or a list of them, each once"
        raise RecipeError("seeds", found=f"{typed!r}"[:200], expected=expected) from None
