"""Comparisons of made runs, for the tests of reports: from folders, or with each run's accuracy given."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bakeoff.results.comparison import Comparison, compare
from tests import made

ARMS = ("none", "fixed_k3", "fixed_k5", "fixed_k7", "adaptive")


def every(arms: Iterable[str], seeds: int) -> list[tuple[str, int]]:
    """Return each (arm, seed)."""
    return [(arm, seed) for arm in arms for seed in range(seeds)]


def compared(root: Path, *, study: Mapping[str, Any] | None = None, **runs: Any) -> Comparison:
    """Make the runs of a study below `root`, and compare them.

    Args:
        root: of the runs.
        study: keys of its file, as `made.study` takes them.
        runs: as `made.runs` takes them.
    """
    of = made.study(**(study or {}))
    return compare(of, made.runs(of, root, **runs))


def priced(comparison: Comparison) -> Comparison:
    """Return the same arms at unlike costs: parameters and time differ, multiply-adds do not."""
    costs = [{"params_m": 0.1 * 4**i, "training_s": 60.0 + 30 * i, "macs_g": 0.04} for i in range(len(comparison.arms))]
    return replace(
        comparison, arms=tuple(replace(score, **cost) for score, cost in zip(comparison.arms, costs, strict=True))
    )


def exactly(root: Path, top1: Mapping[str, Iterable[float]], **study: Any) -> Comparison:
    """Compare runs whose accuracy on test is given by arm and seed; the first arm is the control."""
    control, *others = top1
    arms = {name: {"optimizer.lr": 1 + i / 100} for i, name in enumerate(others)}
    seeds = [len(list(values)) for values in top1.values()]
    of = made.study(**{"arms": arms, "changes": ["optimizer.lr"], "control": control, "seeds": max(seeds), **study})
    found = made.runs(of, root, images=10)
    for arm in of.arms:
        given = dict(enumerate(top1[arm.name]))
        for _, seed, recipe in of.runs(arm):
            record = found.pop(recipe.digest)
            if seed in given:
                test = {**record.summary["test"], "top1": given[seed]}
                found[recipe.digest] = replace(record, summary={**record.summary, "test": test})
    return compare(of, found)
