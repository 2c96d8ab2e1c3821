"""Plant a truth in made-up studies and count how often `compare` sees it: nothing, 3 points, 1 point.

    python -m tests.results.planted --tries 200 [--seed 1] [--report FILE]

Each try is a whole study: accuracies are drawn (normal over seeds, rounded to images), put into records, and compared
as a real study's are: paired differences, Holm over all arms, ranks over all pairs. Each draw comes from the printed
seed. A share that must be at most (at least) so much fails where the count would be that far above (below) it one time
in a thousand or less, were it so; the same bounds hold for any number of tries. The last line is JSON; the exit
code is 0 only if all came out as they must.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from bakeoff.recipe import resolve
from bakeoff.record import Record
from bakeoff.results.comparison import Comparison, compare
from bakeoff.results.metrics import wilson
from bakeoff.study import Study
from bakeoff.training import assembly, provenance
from tests import made

TRUTH = 0.7  # of every arm that nothing was planted in
UNLIKELY = 0.001
EQUAL = "equal {}"
PLANTED = "planted"
AT_MOST_5, AT_LEAST_90, IS_95 = ("at most", 0.05), ("at least", 0.9), ("is", 0.95)


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """What is so in a made-up study; points are hundredths of accuracy.

    Args:
        name: of the scenario.
        seeds: of every arm.
        points: that one arm is better by; 0 for no such arm.
        sd: in points, of one run over seeds, each arm's own.
        shared: in points, sd of what a seed does to all arms alike.
        equal: arms besides the control that are as good as it.
        images: of the split.
        must_find: whether the planted arm must be found.
    """

    name: str
    seeds: int
    points: float = 0.0
    sd: float = 0.4
    shared: float = 0.0
    equal: int = 4
    images: int = 10_000
    must_find: bool = False


TRUTHS = (
    Truth(name="nothing, 5 seeds", seeds=5),
    Truth(name="nothing, 3 seeds", seeds=3),
    Truth(name="nothing, 2 seeds, 200 images", seeds=2, images=200, sd=0.5),
    Truth(name="nothing, 5 seeds, seeds shared", seeds=5, shared=0.5),
    Truth(name="nothing, 3 seeds, seeds shared", seeds=3, shared=0.5),
    Truth(name="nothing, 5 seeds, 12 arms", seeds=5, equal=12),
    Truth(name="3 points, 5 seeds, sd 0.3", seeds=5, points=3, sd=0.3, must_find=True),
    Truth(name="3 points, 5 seeds, sd 0.5", seeds=5, points=3, sd=0.5, must_find=True),
    Truth(name="3 points, 5 seeds, sd 0.3, seeds shared", seeds=5, points=3, sd=0.3, shared=0.5, must_find=True),
    Truth(name="3 points, 5 seeds, sd 0.5, seeds shared", seeds=5, points=3, sd=0.5, shared=0.5, must_find=True),
    Truth(name="3 points, 3 seeds", seeds=3, points=3),
    Truth(name="1 point, 5 seeds", seeds=5, points=1),
    Truth(name="1 point, 3 seeds", seeds=3, points=1),
    Truth(name="1 point, 3 seeds, alone", seeds=3, points=1, equal=0),
    Truth(name="1 point, 5 seeds, alone", seeds=5, points=1, equal=0),
)


def study_of(truth: Truth) -> Study:
    """Return a study of as many arms; what they change is of no matter here."""
    names = [*([PLANTED] if truth.points else []), *(EQUAL.format(i) for i in range(truth.equal))]
    arms = {name: {"lr": 0.1 * (i + 1) + 0.01} for i, name in enumerate(names)}
    return made.study("planted", arms=arms, changes=["lr"], seeds=truth.seeds, control="control")


def planted(truth: Truth, study: Study, draw: np.random.Generator) -> dict[str, Record]:
    """Return records as finished runs leave them, with accuracies by the truth."""
    found = {}
    of_seed = draw.normal(0, truth.shared / 100, size=truth.seeds)
    for arm in study.arms:
        middle = TRUTH + (truth.points / 100 if arm.name == PLANTED else 0)
        drawn = middle + of_seed + draw.normal(0, truth.sd / 100, size=truth.seeds)
        for (_, seed, recipe), top1 in zip(study.runs(arm), np.round(drawn * truth.images) / truth.images, strict=True):
            scores = {"val": {"top1": float(top1)}, "test": {"top1": float(top1)}}
            folder = Path(f"{arm.name}-{seed}")
            found[recipe.digest] = Record(
                folder=folder, recipe=recipe, status="finished", rows=(), summary=scores, environment={}
            )
    return found


def counted(comparison: Comparison) -> dict[str, bool]:
    """Tell what a comparison of a made-up study says that is true or false."""
    scores = {score.name: score for score in comparison.arms}
    found = scores.pop(PLANTED, None)
    said = {"an equal arm called different": any(score.separable for score in scores.values())}
    if found is not None:
        assert found.to_control is not None
        said["found"] = found.separable and found.to_control.estimate > 0
        said["ranked first alone"] = found.rank == 1 and all(score.rank != 1 for score in scores.values())
    else:
        said["an equal arm ranked worse"] = any((score.rank or 1) > 1 for score in scores.values())
        mean, between = comparison.control.mean, comparison.arms[1].to_control
        if mean and mean.low is not None and mean.high is not None:
            said["the mean's interval holds the truth"] = mean.low <= TRUTH <= mean.high
        if between and between.low is not None and between.high is not None:
            said["the difference's interval holds the truth"] = between.low <= 0 <= between.high
    return said


def bounds(truth: Truth) -> dict[str, tuple[str, float]]:
    """Return what must hold of which share."""
    asked = {"an equal arm called different": AT_MOST_5, "an equal arm ranked worse": AT_MOST_5}
    if truth.images >= 10_000:  # with fewer, rounding widens some intervals and takes away others
        asked["the mean's interval holds the truth"] = asked["the difference's interval holds the truth"] = IS_95
    return asked | ({"found": AT_LEAST_90} if truth.must_find else {})


def holds(times: int, tries: int, bound: tuple[str, float]) -> bool:
    """Tell whether a count can be reconciled with a bound."""
    kind, share = bound
    alternative = {"at most": "greater", "at least": "less", "is": "two-sided"}[kind]
    return bool(binomtest(times, tries, share, alternative=alternative).pvalue >= UNLIKELY)


def measure(truth: Truth, *, tries: int, seed: int) -> dict[str, Any]:
    """Count over many studies of one truth: of each share the times, tries and interval, and if it is as asked."""
    study, place = study_of(truth), [other.name for other in TRUTHS].index(truth.name)
    said: dict[str, list[bool]] = {}
    for i in range(tries):
        found = planted(truth, study, np.random.default_rng([seed, place, i]))
        for key, value in counted(compare(study, found)).items():
            said.setdefault(key, []).append(value)
    return {key: _share(values, bounds(truth).get(key)) for key, values in said.items()}


def _share(values: Sequence[bool], bound: tuple[str, float] | None) -> dict[str, Any]:
    times, tries = sum(values), len(values)
    low, high = wilson(times, tries)
    share = {"times": times, "tries": tries, "share": times / tries, "low": round(low, 4), "high": round(high, 4)}
    return share if bound is None else share | {"asked": " ".join(map(str, bound)), "holds": holds(times, tries, bound)}


def shown(measured: Mapping[str, Any]) -> str:
    lines = (f"    {key}: {m['times']} of {m['tries']} {m.get('asked', '')}".rstrip() for key, m in measured.items())
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure every scenario."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path)
    chosen = parser.parse_args(arguments)
    began = time.perf_counter()
    measured = {}
    for truth in TRUTHS:
        measured[truth.name] = measure(truth, tries=chosen.tries, seed=chosen.seed)
        print(f"{truth.name} (seed {chosen.seed})\n{shown(measured[truth.name])}", flush=True)
    held = all(share.get("holds", True) for shares in measured.values() for share in shares.values())
    outcome = {"seed": chosen.seed, "tries": chosen.tries, "holds": held, "seconds": round(time.perf_counter() - began)}
    if chosen.report:
        device = assembly.place(resolve("resnet_20", overrides=["threads=1", "device=cpu"]))
        about = provenance.collect(device, command=["python", "-m", "tests.results.planted", *arguments])
        content = {"about": about, "measured": outcome | {"scenarios": measured}}
        chosen.report.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(outcome))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
