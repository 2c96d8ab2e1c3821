"""A study written out: its arms, their recipes, every run. What the rest of the house knows of a study."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bakeoff.recipe import Recipe
from bakeoff.study.schema import Reference, StudyFile

Changes = Mapping[str, tuple[object, object]]
SCALES = ("epochs", "data.limit", "seeds", "teachers.epochs")  # what makes a study smaller


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
        repeated: other names in the file for the same recipes, which are not run again.
        seeds: its own, where runs were gathered instead of planned; empty for the study's.
    """

    name: str
    trials: tuple[Trial, ...]
    changed: Changes = field(default_factory=dict)
    at: Mapping[str, object] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    @property
    def digests(self) -> tuple[str, ...]:
        """The identity of its recipes: arms with the same ones are one arm."""
        return tuple(trial.recipe.digest for trial in self.trials)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` makes the arm of again."""
        trials = [{"name": trial.name, "recipe": trial.recipe.model_dump(mode="json")} for trial in self.trials]
        more = {"changed": dict(self.changed), "at": dict(self.at)}
        return {"name": self.name, "trials": trials, **more, "repeated": self.repeated, "seeds": self.seeds}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Arm":
        """Return the arm that `to_json` described."""
        trials = (Trial(name=str(t["name"]), recipe=Recipe.model_validate(t["recipe"])) for t in content["trials"])
        return cls(
            name=str(content["name"]),
            trials=tuple(trials),
            changed=_changes(content["changed"]),
            at=dict(content["at"]),
            repeated=tuple(map(str, content["repeated"])),
            seeds=tuple(map(int, content["seeds"])),
        )


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
        teachers: name -> recipe of what arms learn from; they are run first, and are no arms.
    """

    name: str
    file: StudyFile
    typed: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    scaled: Changes
    warnings: tuple[str, ...]
    teachers: Mapping[str, Recipe] = field(default_factory=dict)

    @property
    def is_smaller(self) -> bool:
        """Whether it was scaled down by what was typed: fewer epochs, images or seeds than the file asks for."""
        return any(_count(self.scaled[key][1]) < _count(self.scaled[key][0]) for key in SCALES if key in self.scaled)

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

    def runs_of(self, arm: Arm, trial: Trial) -> Iterator[tuple[int, Recipe]]:
        """Yield every run of one trial: seed, recipe."""
        for seed in arm.seeds or self.seeds:
            yield seed, trial.recipe.model_copy(update={"seed": seed})

    def runs(self, arm: Arm) -> Iterator[tuple[Trial, int, Recipe]]:
        """Yield every run of an arm, seeds in turn: trial, seed, recipe."""
        for seed in arm.seeds or self.seeds:
            for trial in arm.trials:
                yield trial, seed, trial.recipe.model_copy(update={"seed": seed})

    def recipes(self) -> dict[str, Recipe]:
        """Return every distinct recipe by its digest: teachers, then seeds in turn, so half a study has all arms."""
        by_seed = sorted((run for arm in self.arms for run in self.runs(arm)), key=lambda run: self.seeds.index(run[1]))
        first = {recipe.digest: recipe for recipe in self.teachers.values()}
        return first | {recipe.digest: recipe for _, _, recipe in by_seed}

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` makes the study of again, every recipe written out: cards may change, this not."""
        return {
            "name": self.name,
            "typed": list(self.typed),
            "seeds": list(self.seeds),
            "scaled": dict(self.scaled),
            "warnings": list(self.warnings),
            "file": self.file.model_dump(mode="json"),
            "arms": [arm.to_json() for arm in self.arms],
            "teachers": {name: recipe.model_dump(mode="json") for name, recipe in self.teachers.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Study":
        """Return the study that `to_json` described.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        return cls(
            name=str(content["name"]),
            typed=tuple(map(str, content["typed"])),
            seeds=tuple(map(int, content["seeds"])),
            scaled=_changes(content["scaled"]),
            warnings=tuple(map(str, content["warnings"])),
            file=StudyFile.model_validate(content["file"]),
            arms=tuple(map(Arm.from_json, content["arms"])),
            teachers={str(name): Recipe.model_validate(r) for name, r in content.get("teachers", {}).items()},
        )


def _changes(content: Mapping[str, Any]) -> dict[str, tuple[object, object]]:
    return {str(key): (before, now) for key, (before, now) in content.items()}


def _named(value: object) -> object:
    """Return a section by its name alone; a teacher is one that the other recipe may not have."""
    return value.get("name") if isinstance(value, dict) else value


def _count(value: object) -> float:
    """Return how much a setting asks for: a number, a list's length; no limit is more than any."""
    if isinstance(value, list | tuple):
        return len(value)
    return float(value) if isinstance(value, int | float) else math.inf


def differences(a: Recipe, b: Recipe) -> dict[str, tuple[object, object]]:
    """Return every setting that differs, dotted, as (in a, in b); a section of another name is one difference."""
    left, right = a.model_dump(mode="json"), b.model_dump(mode="json")
    found: dict[str, tuple[object, object]] = {}
    for key in dict.fromkeys([*left, *right]):
        if not isinstance(left.get(key), dict) or not isinstance(right.get(key), dict):
            before, now = (_named(side.get(key)) for side in (left, right))
            if before != now and key != "seed":
                found[key] = (before, now)
            continue
        if left[key].get("name") != right[key].get("name"):
            found[key] = (left[key]["name"], right[key]["name"])
            continue
        for leaf in dict.fromkeys([*left[key], *right[key]]):
            if left[key].get(leaf) != right[key].get(leaf):
                found[f"{key}.{leaf}"] = (left[key].get(leaf), right[key].get(leaf))
    return found
