"""Any set of runs as a study, so that they have a table and a report too; and two runs on the same images."""

import itertools
from collections.abc import Container, Iterator, Mapping, Sequence

import numpy as np

from bakeoff.errors import DataError, RecipeError
from bakeoff.record import Record
from bakeoff.results import predictions, statistics
from bakeoff.results.predictions import Predictions
from bakeoff.results.statistics import McNemar
from bakeoff.results.store import Run
from bakeoff.study import Arm, Study, Trial
from bakeoff.study.judge import unequal
from bakeoff.study.plan import differences
from bakeoff.study.schema import StudyFile

QUESTION = "How do these runs compare?"  # of those that nobody asked a better one of
LONGEST_NAME = 50  # of an arm, in letters


def gather(records: Sequence[Record], *, name: str = "runs") -> tuple[Study, dict[str, Record]]:
    """Make a study of runs that nobody planned: runs that differ in their seed only are one arm, the first is control.

    Returns:
        The study, and the records by the digest of their recipe; of two with the same recipe the finished one, or the
        later.

    Raises:
        RecipeError: no runs.
    """
    if not records:
        raise RecipeError(name, found="no runs", expected="one run or more")
    found = {record.recipe.digest: record for record in sorted(records, key=lambda record: record.status == "finished")}
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.recipe.model_copy(update={"seed": 0}).digest, []).append(record)
    arms = _arms(list(groups.values()))
    file = StudyFile(
        question=QUESTION,
        base={"model": arms[0].trials[0].recipe.model.name},
        control=arms[0].name,
        arms={arm.name: {} for arm in arms},
    )
    return Study(
        name=name,
        file=file,
        typed=(),
        arms=tuple(arms),
        seeds=tuple(sorted({seed for arm in arms for seed in arm.seeds})),
        scaled={},
        warnings=(*_unpaired(arms), *unequal(file, arms), *_doubled(records, found)),
    ), found


def same_images(a: Record, b: Record) -> tuple[str, McNemar]:
    """Compare two finished runs image by image, on test where both have read it, else on validation.

    Returns:
        The split, and the test.

    Raises:
        DataError: the runs have no split of the same images in common.
    """
    for part in ("test", "val"):
        if part in a.summary and part in b.summary:
            left, right = (predictions.read(Run(record.folder).predictions(part)) for record in (a, b))
            if _same(left, right):
                return part, statistics.mcnemar(_correct(left), _correct(right))
    raise DataError(
        f"{a.name} and {b.name}",
        found="no split of the same images that both were evaluated on",
        expected="two finished runs on one data set",
    )


def _same(a: Predictions, b: Predictions) -> bool:
    return a.classes == b.classes and np.array_equal(a.index, b.index) and np.array_equal(a.label, b.label)


def _correct(said: Predictions) -> np.ndarray:
    hits: np.ndarray = said.logits.argmax(axis=1) == said.label
    return hits


def _arms(groups: Sequence[Sequence[Record]]) -> list[Arm]:
    """Make an arm of each group, named by its model and by what else differs from the first."""
    first = groups[0][0].recipe
    arms: dict[str, Arm] = {}
    for runs in groups:
        recipe = runs[0].recipe
        changed = differences(first, recipe)
        others = [f"{key.rpartition('.')[2]}={now}" for key, (_, now) in changed.items() if key != "model"]
        name = recipe.model.name + (f" ({', '.join(others)})" if others else "")
        name = _unused(name[:LONGEST_NAME], arms)
        seeds = tuple(sorted({record.recipe.seed for record in runs}))
        arms[name] = Arm(name=name, trials=(Trial(name="", recipe=recipe),), changed=changed, seeds=seeds)
    return list(arms.values())


def _unused(name: str, used: Container[str]) -> str:
    """Return the name, or the first of "name (2)", "name (3)" that is not used."""
    names = itertools.chain([name], (f"{name} ({i})" for i in itertools.count(2)))
    return next(candidate for candidate in names if candidate not in used)


def _unpaired(arms: Sequence[Arm]) -> Iterator[str]:
    """Yield, in words, that a difference is not of all seeds."""
    if len({arm.seeds for arm in arms}) > 1:
        yield "Not all arms have the same seeds: a difference is of those that both have."


def _doubled(records: Sequence[Record], found: Mapping[str, Record]) -> Iterator[str]:
    """Yield, in words, that a run was left out."""
    if left := len(records) - len(found):
        yield f"{left} of {len(records)} runs repeat the recipe and seed of another and are left out."
