"""What a study may not be, and what a reader must be told of it: typos, arms that change too much, unequal budgets."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from bakeoff import recipe as recipes
from bakeoff.errors import RecipeError, nearest
from bakeoff.recipe import Recipe
from bakeoff.recipe.resolve import SHORT
from bakeoff.recipe.section import Section
from bakeoff.study import layers
from bakeoff.study.plan import Arm, differences
from bakeoff.study.schema import TRY, Layer, StudyFile

MOST_RUNS = 10_000  # of one study: above it something was mistyped
_NAME = re.compile(r"\w[\w.+-]*")
_NAME_BYTES = 200  # the folder's name may become a little longer


def refuse_name(name: str, *, where: str) -> None:
    """Refuse the name of a study that cannot be a folder's."""
    if not _NAME.fullmatch(name) or len(name.encode()) > _NAME_BYTES:
        expected = f"letters, digits and . _ + - (at most {_NAME_BYTES} bytes), beginning with a letter, a digit or _"
        hint = "The name of a study is its file's, without .yaml."
        raise RecipeError(where, found=f"the name '{name}'", expected=expected, hint=hint)


def refuse_many(file: StudyFile, num_seeds: int, *, where: str) -> None:
    """Refuse more runs than anybody means, before any recipe is made."""
    runs = layers.count(file, where=where) * num_seeds
    if runs > MOST_RUNS:
        raise RecipeError(where, found=f"{runs:,} runs", expected=f"at most {MOST_RUNS:,} in one study")


def refuse_keys(file: StudyFile, typed: Layer, *, where: str) -> None:
    """Refuse keys that mean something else in a study than in a recipe, and unknown ones that no recipe will meet."""
    if TRY in file.axes:
        raise RecipeError(f"{where}: axes", found=f"'{TRY}'", expected=f"settings; `{TRY}` belongs in the base")
    places = [("base", file.base), *file.arms.items(), ("axes", _first_values(file.axes)), *file.teachers.items()]
    written = [(f"{where}: {name}", layer) for name, layer in places]
    written += [(f"{place}: {TRY}", _first_values(layers.tried(file, layer, where=place))) for place, layer in written]
    for place, layer in written:
        _refuse_twice(layer, where=place)
    _refuse_for_teachers(file, typed, where=where)
    for place, layer in [*written, ("command line", typed)]:
        if "seed" in layer or f"{layers.FOR_TEACHERS}seed" in layer:
            raise RecipeError(place, found="seed", expected="the seeds of the whole study, as `seeds`")
    for name in ("changes", "equal"):
        for key in getattr(file, name):
            _refuse_unknown(spelt(key), where=f"{where}: {name}")


def _refuse_for_teachers(file: StudyFile, typed: Layer, *, where: str) -> None:
    """Refuse to choose among teachers, and settings for teachers that there are not."""
    for name, layer in file.teachers.items():
        if TRY in layer:
            raise RecipeError(f"{where}: {name}", found=f"`{TRY}`", expected="a teacher, which is one run")
    for key in typed:
        if key.startswith(layers.FOR_TEACHERS) and not file.teachers:
            raise RecipeError("command line", found=f"{key}=...", expected="settings of a study that has teachers")


def refuse_varied(file: StudyFile, typed: Layer) -> None:
    """Refuse to set for all arms what makes them differ."""
    written = [*file.arms.values(), *({key: value} for key in file.axes for value in _values(file.axes[key]))]
    keys = {key for layer in written for key in layers.leaves(layers.settings(layer))}
    for layer in (file.base, *file.arms.values()):
        keys |= _tried_keys(layer.get(TRY, {}))
    for setting in typed:
        if any(_overlap(setting.removesuffix(".name"), key) for key in keys):  # another name starts a section afresh
            raise RecipeError(
                "command line",
                found=f"{setting}=..., which is what the arms differ in",
                expected="a setting that is the same for all arms",
                hint="Copy the study's file and change its arms there.",
            )


def refuse_untried(file: StudyFile, layer: Layer, *, where: str) -> None:
    """Refuse an arm that sets what the base tries: the base's values are not meant for it, or would hide its own."""
    if TRY in layer:
        return
    for key in _tried_keys(layers.tried(file, layer, where=where)):
        for own in layers.leaves(layers.settings(layer)):
            if _overlap(own.removesuffix(".name"), key):
                found = f"{own}, while the base tries {key}"
                hint = f"`{TRY}: {{}}` tries nothing."
                raise RecipeError(where, found=found, expected=f"a `{TRY}` of the arm's own", hint=hint)


def refuse_more(file: StudyFile, arm: Arm, layer: Layer, *, where: str) -> None:
    """Hold an ablation to what it declared."""
    allowed = {spelt(key).removesuffix(".name") for key in file.changes}
    if not allowed:
        return
    allowed |= {key.removesuffix(".name") for key in _tried_keys(layers.tried(file, layer, where=where))}
    for key, before, now in _changes(arm):
        if not any(key == name or key.startswith(f"{name}.") for name in allowed):
            raise RecipeError(
                where,
                found=f"{key} = {now} where the base has {before}",
                expected=f"a change of {', '.join(file.changes)} alone, as `changes` declares",
                hint="Give the setting to the base as well, or declare it.",
            )


def refuse_blind(arm: Arm, *, where: str) -> None:
    """Refuse to choose without held-out images to choose on."""
    if len(arm.trials) > 1 and any(trial.recipe.protocol == "paper" for trial in arm.trials):
        expected = "protocol=dev, which holds images out to choose on"
        raise RecipeError(f"{where}: {TRY}", found="protocol=paper", expected=expected)


def refuse_names(file: StudyFile, arms: Sequence[Arm], *, where: str) -> None:
    """Refuse a name that two arms have, and names that the file mentions and no arm has."""
    known: dict[str, Arm] = {}
    for arm in arms:
        if known.setdefault(arm.name, arm).digests != arm.digests:
            expected = "a name for each" + (", the control among them" if arm.name == file.control else "")
            raise RecipeError(f"{where}: arms", found=f"two called '{arm.name}'", expected=expected)
    mentioned = [("contrasts", name) for pair in file.contrasts for name in pair]
    mentioned += [("references", reference.arm) for reference in file.references]
    for place, name in mentioned:
        if name not in known:
            expected = f"an arm: {_listed(known)}"
            raise RecipeError(f"{where}: {place}", found=f"'{name}'", expected=expected, hint=nearest(name, known))
    for a, b in file.contrasts:
        if a == b:
            raise RecipeError(f"{where}: contrasts", found=f"'{a}' beside itself", expected="two different arms")


def refuse_idle(teachers: Mapping[str, Recipe], arms: Sequence[Arm], *, where: str) -> None:
    """Refuse a teacher that no arm learns from."""
    used = {trial.recipe.teacher.digest for arm in arms for trial in arm.trials if trial.recipe.teacher is not None}
    for name, recipe in teachers.items():
        if recipe.digest not in used:
            expected = f"an arm that learns from it (teacher: {name})"
            raise RecipeError(f"{where}: teachers: {name}", found="no arm that does", expected=expected)


def unequal(file: StudyFile, arms: Sequence[Arm]) -> Iterator[str]:
    """Yield, in words, what makes the arms not comparable."""
    for key in file.equal:
        if any(change.startswith(f"{key}.") for change in map(spelt, file.changes)):
            continue  # the question is about a part of it; that nothing else differs is looked at elsewhere
        setting = spelt(key)
        values = {arm.name: " or ".join(sorted({str(_get(t.recipe, setting)) for t in arm.trials})) for arm in arms}
        if len(set(values.values())) > 1:
            yield f"Not comparable: {key} differs between arms ({_listed(f'{k} {v}' for k, v in values.items())})."
    budgets = {arm.name: len(arm.trials) for arm in arms}
    if len(set(budgets.values())) > 1:
        listed = _listed(f"{name} {count}" for name, count in budgets.items())
        yield f"Not comparable: arms have different numbers of trials ({listed})."
    several = [arm.name for arm in arms if len(arm.changed) > 1]
    if several and not file.changes:
        yield f"Arms differ from the control in more than one setting: {_listed(several)}."


def spelt(key: str) -> str:
    """Return a setting in full, whatever way it was written: `lr` is `optimizer.lr`."""
    return next(layers.leaves(recipes.nest({key: None})))


def _refuse_unknown(key: str, *, where: str) -> None:
    """Refuse a setting that no recipe has; what options a model has, its builder knows."""
    section, *inner = key.split(".")
    if section not in Recipe.model_fields:
        known = [*Recipe.model_fields]
    elif inner and section != "model":
        annotation = Recipe.model_fields[section].annotation
        kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        known = [f"{section}.{k}" for kind in kinds if issubclass(kind, Section) for k in kind.model_fields]
    else:
        return
    if key not in known:
        hint = nearest(key, [*known, *SHORT])
        raise RecipeError(where, found=f"'{key}'", expected="settings of a recipe", hint=hint)


def _changes(arm: Arm) -> Iterator[tuple[str, object, object]]:
    """Yield what any of an arm's trials changes: setting, before, now."""
    first, *others = (trial.recipe for trial in arm.trials)
    for changed in (arm.changed, *(differences(first, other) for other in others)):
        for key, (before, now) in changed.items():
            yield from _inside(key, before, now)


def _inside(key: str, before: object, now: object) -> Iterator[tuple[str, object, object]]:
    """Yield what differs inside of an option that is a section of the same name; else the whole of it."""
    a, b = ({"name": value} if isinstance(value, str) else value for value in (before, now))
    if isinstance(a, Mapping) and isinstance(b, Mapping) and a.get("name") == b.get("name"):
        yield from ((f"{key}.{leaf}", a.get(leaf), b.get(leaf)) for leaf in {**a, **b} if a.get(leaf) != b.get(leaf))
    else:
        yield key, before, now


def _refuse_twice(layer: Layer, *, where: str) -> None:
    """Refuse one setting under two spellings; a section may be laid under its settings."""
    written: dict[str, str] = {}
    for key, value in layer.items():
        if not isinstance(value, Mapping):
            before = written.setdefault(next(layers.leaves(recipes.nest({key: value}))), key)
            if before != key:
                raise RecipeError(where, found=f"{before} and {key}, which are one setting", expected="one of them")


def _first_values(axes: Mapping[str, list[Any] | dict[str, Any]]) -> Layer:
    return {key: next(iter(_values(axis))) for key, axis in axes.items()}


def _values(axis: list[Any] | dict[str, Any]) -> Iterable[Any]:
    return axis.values() if isinstance(axis, dict) else axis


def _tried_keys(content: object) -> set[str]:
    return {spelt(str(key)) for key in content} if isinstance(content, Mapping) else set()


def _overlap(a: str, b: str) -> bool:
    """Tell whether two dotted settings are one, or one is a part of the other."""
    return a == b or a.startswith(f"{b}.") or b.startswith(f"{a}.")


def _listed(names: Iterable[str], most: int = 6) -> str:
    first = list(names)
    return ", ".join(first[:most]) + (", ..." if len(first) > most else "")


def _get(recipe: Recipe, key: str) -> object:
    value: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
