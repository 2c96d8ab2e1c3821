"""From the records of a study to what its table says: each arm's accuracy, and how sure the differences are."""

import dataclasses
import statistics as averages
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bakeoff.record import Record
from bakeoff.results import statistics
from bakeoff.results.statistics import Difference, Interval, Spread
from bakeoff.study import Arm, Study

FEWEST_FOR_A_RANK = 3  # seeds


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialScore:
    """One of the settings that an arm tried.

    Args:
        name: such as "lr=0.1".
        val_top1: on validation, by seed.
        chosen: whether its runs are the arm's.
    """

    name: str
    val_top1: Mapping[int, float]
    chosen: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmScore:
    """One row of the table. Fractions; None where there is nothing to say yet.

    Args:
        arm: its recipes.
        trials: what it tried, if it chose.
        runs: the record of each seed that has one, whatever its status.
        top1: accuracy by seed, of finished runs.
        mean: over seeds, with its t interval.
        bootstrap: the same mean with its bootstrap interval.
        to_control: paired difference, this arm less the control; None for the control.
        p_holm: its p, corrected for all comparisons with the control.
        better: probability that a run of this arm scores above a run of the control.
        seeds_needed: of each arm, to tell the difference that was seen from none with 80 % power.
        rank: 1 plus how many arms are separably better.
        fingerprint: of the network; equal ones are one architecture.
    """

    arm: Arm
    trials: tuple[TrialScore, ...]
    runs: Mapping[int, Record]
    top1: Mapping[int, float]
    mean: Interval | None
    bootstrap: Interval | None
    to_control: Difference | None
    p_holm: float | None
    better: float | None
    seeds_needed: int | None
    rank: int | None
    params_m: float | None
    macs_g: float | None
    training_s: float | None
    images_per_s: float | None
    fingerprint: str | None

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.arm.name

    @property
    def separable(self) -> bool:
        """Whether it differs from the control after correction."""
        return self.p_holm is not None and self.p_holm < statistics.ALPHA


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """Two arms beside each other: `a` less `b`.

    Args:
        p_holm: corrected for all contrasts of the study.
    """

    a: str
    b: str
    difference: Difference
    p_holm: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What a study says.

    Args:
        split: "test", or "val" while not every finished run has read test.
        arms: control first, then as in the file.
        contrasts: those that the file names and that have two seeds or more in common.
        floor: pooled spread over seeds within arms: what a difference has to rise above.
        repeats: groups of two or more arms whose networks are equal; how they differ is noise.
        warnings: what a reader must know, the gravest first.
        unfinished: runs that are missing, interrupted or at work.
        diverged: (arm, seed) whose loss left the finite numbers.
    """

    study: Study
    split: str
    arms: tuple[ArmScore, ...]
    contrasts: tuple[Contrast, ...]
    floor: Spread | None
    repeats: tuple[tuple[str, ...], ...]
    warnings: tuple[str, ...]
    unfinished: int
    diverged: tuple[tuple[str, int], ...]

    @property
    def control(self) -> ArmScore:
        """The arm that the others are compared with."""
        return self.arms[0]

    @property
    def num_runs(self) -> int:
        """How many runs the study asks for."""
        return len(self.study.recipes())

    def arm(self, name: str) -> ArmScore:
        """Return an arm by name, or by the name of a repeated one."""
        return next(score for score in self.arms if name in (score.name, *score.arm.repeated))


def compare(study: Study, found: Mapping[str, Record]) -> Comparison:
    """Compare the arms of a study by the runs there are.

    Args:
        study: expanded.
        found: records by the digest of their recipe; what is missing has not run yet.
    """
    chosen = {arm.name: choose(study, arm, found) for arm in study.arms}
    runs = {arm.name: _runs(study, arm, chosen[arm.name], found) for arm in study.arms}
    split = _split([record for of_arm in runs.values() for record in of_arm.values()])
    top1 = {name: _top1(of_arm, split) for name, of_arm in runs.items()}
    control = top1[study.control.name]
    differences = {
        name: statistics.common_difference(values, control)
        for name, values in top1.items()
        if name != study.control.name
    }
    p_holm = dict(zip(differences, statistics.holm([d.p if d else None for d in differences.values()]), strict=True))
    ranks = dict(zip(top1, statistics.ranks(list(top1.values()), fewest=FEWEST_FOR_A_RANK), strict=True))
    arms = tuple(
        ArmScore(
            arm=arm,
            trials=_trials(study, arm, chosen[arm.name], found) if len(arm.trials) > 1 else (),
            runs=runs[arm.name],
            top1=top1[arm.name],
            mean=statistics.mean_interval(list(top1[arm.name].values())) if top1[arm.name] else None,
            bootstrap=statistics.bootstrap_interval(list(top1[arm.name].values())) if top1[arm.name] else None,
            to_control=differences.get(arm.name),
            p_holm=p_holm.get(arm.name),
            better=_better(top1[arm.name], control) if arm is not study.control else None,
            seeds_needed=_seeds_needed(differences.get(arm.name)),
            rank=ranks[arm.name],
            **_costs(list(runs[arm.name].values())),
        )
        for arm in study.arms
    )
    recipes = study.recipes()
    records = [found[digest] for digest in recipes if digest in found]
    diverged = tuple((s.name, seed) for s in arms for seed, record in s.runs.items() if record.status == "diverged")
    done = sum(record.status in ("finished", "diverged") for record in records)
    comparison = Comparison(
        study=study,
        split=split,
        arms=arms,
        contrasts=tuple(_contrasts(study, top1)),
        floor=statistics.pooled_spread([list(values.values()) for values in top1.values()]),
        repeats=_repeats(arms),
        warnings=(),
        unfinished=len(recipes) - done,
        diverged=diverged,
    )
    return _with_warnings(comparison, records)


def choose(study: Study, arm: Arm, found: Mapping[str, Record]) -> int:
    """Return which trial of an arm did best on validation, on average over the seeds that all trials have.

    A run that diverged counts as zero. Of equals, and while nothing is known, it is the first.
    """
    scores = [_val_top1(study, arm, i, found) for i in range(len(arm.trials))]
    common = set.intersection(*(set(by_seed) for by_seed in scores))
    means = [averages.fmean(by_seed[seed] for seed in sorted(common)) if common else 0.0 for by_seed in scores]
    return means.index(max(means))


def is_decided(study: Study, arm: Arm, found: Mapping[str, Record]) -> bool:
    """Tell whether every run that `choose` looks at has ended."""
    if len(arm.trials) == 1:
        return True
    records = [found.get(recipe.digest) for _, _, recipe in study.runs(arm)]
    return all(record is not None and record.status in ("finished", "diverged") for record in records)


def _val_top1(study: Study, arm: Arm, trial: int, found: Mapping[str, Record]) -> dict[int, float]:
    scores = {}
    for of, seed, recipe in study.runs(arm):
        record = found.get(recipe.digest)
        if of is arm.trials[trial] and record is not None:
            if record.status == "finished" and "val" in record.summary:
                scores[seed] = float(record.summary["val"]["top1"])
            elif record.status == "diverged":
                scores[seed] = 0.0
    return scores


def _trials(study: Study, arm: Arm, chosen: int, found: Mapping[str, Record]) -> tuple[TrialScore, ...]:
    return tuple(
        TrialScore(name=trial.name, val_top1=_val_top1(study, arm, i, found), chosen=i == chosen)
        for i, trial in enumerate(arm.trials)
    )


def _runs(study: Study, arm: Arm, chosen: int, found: Mapping[str, Record]) -> dict[int, Record]:
    """Return the record of each seed of the arm's chosen trial."""
    own = ((seed, found.get(recipe.digest)) for of, seed, recipe in study.runs(arm) if of is arm.trials[chosen])
    return {seed: record for seed, record in own if record is not None}


def _split(records: Sequence[Record]) -> str:
    finished = [record for record in records if record.status == "finished"]
    return "test" if finished and all("test" in record.summary for record in finished) else "val"


def _top1(runs: Mapping[int, Record], split: str) -> dict[int, float]:
    scores = ((seed, record.summary.get(split)) for seed, record in runs.items() if record.status == "finished")
    return {seed: float(score["top1"]) for seed, score in scores if score}


def _better(a: Mapping[int, float], b: Mapping[int, float]) -> float | None:
    return statistics.probability_better(list(a.values()), list(b.values())) if a and b else None


def _seeds_needed(difference: Difference | None) -> int | None:
    if difference is None or difference.sd is None:
        return None
    return statistics.seeds_needed(difference.estimate, difference.sd)


def _costs(records: Sequence[Record]) -> dict[str, Any]:
    """Return what the runs of an arm cost: from finished ones, the median."""
    finished = [record for record in records if record.status == "finished"]

    def median(values: Iterator[Any]) -> float | None:
        known = [float(value) for value in values if value is not None]
        return averages.median(known) if known else None

    return {
        "params_m": median(record.summary.get("params_m") for record in finished),
        "macs_g": median(record.summary.get("macs_g") for record in finished),
        "training_s": median(record.summary.get("training_seconds") for record in finished),
        "images_per_s": median(record.rows[-1].get("images_per_s") for record in finished if record.rows),
        "fingerprint": next((str(f) for record in finished if (f := record.summary.get("fingerprint"))), None),
    }


def _contrasts(study: Study, top1: Mapping[str, Mapping[int, float]]) -> list[Contrast]:
    names = {name: arm.name for arm in study.arms for name in (arm.name, *arm.repeated)}
    pairs = [(names[a], names[b]) for a, b in study.contrasts]
    known = [(a, b, d) for a, b in pairs if (d := statistics.common_difference(top1[a], top1[b])) is not None]
    corrected = statistics.holm([difference.p for _, _, difference in known])
    return [Contrast(a=a, b=b, difference=d, p_holm=p) for (a, b, d), p in zip(known, corrected, strict=True)]


def _repeats(arms: Sequence[ArmScore]) -> tuple[tuple[str, ...], ...]:
    """Group the arms that differ in nothing: neither in their network nor in how it is trained."""
    groups: dict[Any, list[str]] = {}
    for score in arms:
        if score.fingerprint is not None:
            plain = score.arm.trials[0].recipe.model_dump(mode="json", exclude={"model"})
            groups.setdefault((score.fingerprint, str(plain)), []).append(score.name)
    return tuple(tuple(names) for names in groups.values() if len(names) > 1)


def _with_warnings(comparison: Comparison, records: Sequence[Record]) -> Comparison:
    return dataclasses.replace(comparison, warnings=tuple(_warnings(comparison, records)))


def _warnings(comparison: Comparison, records: Sequence[Record]) -> Iterator[str]:
    """Yield what a reader has to know before the table, the gravest first."""
    study, arms = comparison.study, comparison.arms
    if not comparison.control.top1:
        yield f"The control, {comparison.control.name}, has no finished run: nothing can be compared with it."
    for name, seed in comparison.diverged:
        yield f"{name} diverged with seed {seed}; that run counts nowhere."
    if comparison.unfinished:
        yield f"{comparison.unfinished} of {comparison.num_runs} runs are not finished: the table is of what there is."
    if fewest := [score.name for score in arms if len(score.top1) < FEWEST_FOR_A_RANK]:
        yield f"Fewer than {FEWEST_FOR_A_RANK} seeds, so no rank: {', '.join(fewest)}."
    yield from study.warnings
    for names in comparison.repeats:
        yield f"{' and '.join(names)} are one and the same network, trained alike: how they differ is noise."
    if comparison.split == "val" and records:
        yield "Accuracy is of validation, which also chose each run's best epoch: test was not read by every run."
    if peeked := sorted({r.name for r in records if len(r.summary.get("test_reads", [])) > 1}):
        yield f"Test was read more than once by {', '.join(peeked)}."
    yield from _mixtures(records)


def _mixtures(records: Sequence[Record]) -> Iterator[str]:
    """Yield what differs between the runs although no recipe says so."""
    for key in ("hardware", "device", "precision", "threads", "compiled", "commit"):
        values = sorted({str(record.environment[key]) for record in records if key in record.environment})
        if len(values) > 1:
            yield f"Runs differ in {key}: {', '.join(value[:60] for value in values[:4])}."
    torches = sorted({str(record.environment.get("versions", {}).get("torch", "")) for record in records})
    if len(torches) > 1:
        yield f"Runs were made by different versions of torch: {', '.join(torches)}."
