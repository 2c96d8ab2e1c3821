"""From the records of a study to what its table says: each arm's accuracy, and how sure the differences are."""

import dataclasses
import statistics as averages
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bakeoff.errors import BakeoffError
from bakeoff.record import Record
from bakeoff.results import statistics
from bakeoff.results.statistics import Difference, Interval, Spread
from bakeoff.study import Arm, Study, Trial
from bakeoff.study.schema import Reference

FEWEST_FOR_A_RANK = 3  # seeds
ENDED = ("finished", "diverged")  # and will not be run again


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
        p_holm: its p, corrected for all comparisons with the control; the interval of `to_control` is not.
        better: probability that a run of this arm scores above a run of the control.
        seeds_needed: of each arm, to tell the difference that was seen from none with 80 % power, after correction.
        rank: 1 plus how many arms are separably better.
        fingerprint: of the network; equal ones are one architecture.
        repeats_control: whether it is the control's own network, trained alike.
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
    repeats_control: bool = False

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.arm.name

    @property
    def separable(self) -> bool:
        """Whether it may be said to differ from the control."""
        return not self.repeats_control and _is_separable(self.to_control, self.p_holm)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """Two arms beside each other: `a` less `b`.

    Args:
        p_holm: corrected for all contrasts of the study.
        repeats: whether the two are one network, trained alike.
        seeds_needed: of each arm, as for an arm and the control.
    """

    a: str
    b: str
    difference: Difference
    p_holm: float | None
    repeats: bool = False
    seeds_needed: int | None = None

    @property
    def separable(self) -> bool:
        """Whether the two may be said to differ."""
        return not self.repeats and _is_separable(self.difference, self.p_holm)


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What a study says.

    Args:
        split: "test", or "val" while not every finished run has read test.
        arms: control first, then as in the file.
        contrasts: those that the file names, of two different arms that have a seed in common.
        floor: pooled spread over seeds within arms: what a difference has to rise above.
        repeats: groups of two or more arms whose networks are equal; how they differ is noise.
        warnings: what a reader must know, the gravest first.
        unfinished: runs that are missing, interrupted or at work.
        diverged: (arm, seed) whose loss left the finite numbers; of what an arm tried, the chosen.
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
    def references(self) -> tuple[Reference, ...]:
        """Numbers of others, which are of test: beside an accuracy of validation they would mislead."""
        return self.study.references if self.split == "test" else ()

    @property
    def num_runs(self) -> int:
        """How many runs the study asks for."""
        return len(self.study.recipes())

    def arm(self, name: str) -> ArmScore:
        """Return an arm by name, or by the name of a repeated one.

        Raises:
            KeyError: no such arm.
        """
        return {alias: score for score in self.arms for alias in (*score.arm.repeated, score.name)}[name]


def compare(study: Study, found: Mapping[str, Record], *, unreadable: Sequence[BakeoffError] = ()) -> Comparison:
    """Compare the arms of a study by the runs there are.

    Args:
        study: expanded.
        found: records by the digest of their recipe; what is missing has not run yet.
        unreadable: what is wrong with runs that could not be read, for the reader.
    """
    chosen = {arm.name: choose(study, arm, found) for arm in study.arms}
    runs = {arm.name: _runs(study, arm, arm.trials[chosen[arm.name]], found) for arm in study.arms}
    split = _split([record for of_arm in runs.values() for record in of_arm.values()])
    top1 = {name: _top1(of_arm, split) for name, of_arm in runs.items()}
    control = top1[study.control.name]
    others = [arm.name for arm in study.arms[1:]]
    to_control = {name: statistics.common_difference(top1[name], control) for name in others}
    p_holm = statistics.holm([difference.p if difference else None for difference in to_control.values()])
    ranks = statistics.ranks(list(top1.values()), fewest=FEWEST_FOR_A_RANK)
    arms = tuple(
        ArmScore(
            arm=arm,
            trials=_trials(study, arm, chosen[arm.name], found),
            runs=runs[arm.name],
            top1=top1[arm.name],
            mean=_over_seeds(statistics.mean_interval, top1[arm.name]),
            bootstrap=_over_seeds(statistics.bootstrap_interval, top1[arm.name]),
            to_control=to_control.get(arm.name),
            p_holm=corrected,
            better=_better(top1[arm.name], control) if arm is not study.control else None,
            seeds_needed=_seeds_needed(to_control.get(arm.name), among=len(others)),
            rank=rank,
            **_costs(list(runs[arm.name].values())),
        )
        for arm, corrected, rank in zip(study.arms, [None, *p_holm], ranks, strict=True)
    )
    repeats = _repeats(arms)
    same = {name for names in repeats if study.control.name in names for name in names}
    arms = tuple(dataclasses.replace(score, repeats_control=score.name in same) for score in arms)
    wanted = study.recipes()
    records = [found[digest] for digest in wanted if digest in found]
    comparison = Comparison(
        study=study,
        split=split,
        arms=arms,
        contrasts=tuple(_contrasts(study, top1, repeats)),
        floor=statistics.pooled_spread([list(values.values()) for values in top1.values()]),
        repeats=repeats,
        warnings=(),
        unfinished=len(wanted) - sum(record.status in ENDED for record in records),
        diverged=tuple((s.name, seed) for s in arms for seed, run in s.runs.items() if run.status == "diverged"),
    )
    undecided = [arm.name for arm in study.arms if not is_decided(study, arm, found)]
    left_out = [f"Left out: {error}" for error in unreadable]
    return dataclasses.replace(comparison, warnings=(*left_out, *_warnings(comparison, records, undecided)))


def choose(study: Study, arm: Arm, found: Mapping[str, Record]) -> int:
    """Return which trial of an arm did best on validation, on average over the seeds that all trials have.

    A run that diverged counts as zero. Of equals, and while nothing is known, it is the first.
    """
    scores = [_val_top1(_runs(study, arm, trial, found)) for trial in arm.trials]
    common = set.intersection(*map(set, scores))
    means = [averages.fmean(by_seed[seed] for seed in sorted(common)) if common else 0.0 for by_seed in scores]
    return means.index(max(means))


def is_decided(study: Study, arm: Arm, found: Mapping[str, Record]) -> bool:
    """Tell whether every run that `choose` looks at has ended."""
    if len(arm.trials) == 1:
        return True
    records = [found.get(recipe.digest) for _, _, recipe in study.runs(arm)]
    return all(record is not None and record.status in ENDED for record in records)


def _runs(study: Study, arm: Arm, trial: Trial, found: Mapping[str, Record]) -> dict[int, Record]:
    """Return the record of each seed of one trial."""
    own = ((seed, found.get(recipe.digest)) for seed, recipe in study.runs_of(arm, trial))
    return {seed: record for seed, record in own if record is not None}


def _val_top1(runs: Mapping[int, Record]) -> dict[int, float]:
    """Return accuracy on validation by seed; a diverged run has lost."""
    lost = {seed: 0.0 for seed, record in runs.items() if record.status == "diverged"}
    return lost | _top1(runs, "val")


def _trials(study: Study, arm: Arm, chosen: int, found: Mapping[str, Record]) -> tuple[TrialScore, ...]:
    if len(arm.trials) == 1:
        return ()
    return tuple(
        TrialScore(name=trial.name, val_top1=_val_top1(_runs(study, arm, trial, found)), chosen=i == chosen)
        for i, trial in enumerate(arm.trials)
    )


def _split(records: Sequence[Record]) -> str:
    """Return what all finished runs can be compared on; runs that held nothing out have test alone."""
    finished = [record.summary for record in records if record.status == "finished"]
    read = bool(finished) and all("test" in summary for summary in finished)
    return "test" if read or any("val" not in summary for summary in finished) else "val"


def _top1(runs: Mapping[int, Record], split: str) -> dict[int, float]:
    scores = ((seed, record.summary.get(split)) for seed, record in runs.items() if record.status == "finished")
    return {seed: float(score["top1"]) for seed, score in scores if score}


def _over_seeds(interval: Callable[[Sequence[float]], Interval], top1: Mapping[int, float]) -> Interval | None:
    return interval([top1[seed] for seed in sorted(top1)]) if top1 else None


def _better(a: Mapping[int, float], b: Mapping[int, float]) -> float | None:
    return statistics.probability_better(list(a.values()), list(b.values())) if a and b else None


def _seeds_needed(difference: Difference | None, *, among: int) -> int | None:
    if difference is None or difference.sd is None:
        return None
    return statistics.seeds_needed(difference.estimate, difference.sd, among=among)


def _is_separable(difference: Difference | None, p_holm: float | None) -> bool:
    """Tell whether a difference is claimed: seeds enough for a rank, and a small p after correction."""
    enough = difference is not None and difference.n >= FEWEST_FOR_A_RANK
    return enough and p_holm is not None and p_holm < statistics.ALPHA


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


def _contrasts(
    study: Study, top1: Mapping[str, Mapping[int, float]], repeats: Sequence[Sequence[str]]
) -> list[Contrast]:
    names = {alias: arm.name for arm in study.arms for alias in (*arm.repeated, arm.name)}
    pairs = [(names[a], names[b]) for a, b in study.contrasts if names[a] != names[b]]
    known = [(a, b, d) for a, b in pairs if (d := statistics.common_difference(top1[a], top1[b])) is not None]
    corrected = statistics.holm([difference.p for _, _, difference in known])
    return [
        Contrast(
            a=a,
            b=b,
            difference=difference,
            p_holm=p,
            repeats=any(a in names and b in names for names in repeats),
            seeds_needed=_seeds_needed(difference, among=len(known)),
        )
        for (a, b, difference), p in zip(known, corrected, strict=True)
    ]


def _repeats(arms: Sequence[ArmScore]) -> tuple[tuple[str, ...], ...]:
    """Group the arms that differ in nothing: neither in their network nor in how it is trained."""
    groups: dict[tuple[str, str], list[str]] = {}
    for score in arms:
        if score.fingerprint is not None:
            recipe = next(iter(score.runs.values())).recipe
            training = recipe.model_dump_json(exclude={"model", "seed"})
            groups.setdefault((score.fingerprint, training), []).append(score.name)
    return tuple(tuple(names) for names in groups.values() if len(names) > 1)


def _warnings(comparison: Comparison, records: Sequence[Record], undecided: Sequence[str]) -> Iterator[str]:
    """Yield what a reader has to know before the table, the gravest first."""
    yield from _gaps(comparison, undecided)
    yield from comparison.study.warnings
    for names in comparison.repeats:
        yield f"{' and '.join(names)} are one and the same network, trained alike: how they differ is noise."
    if comparison.split == "val" and any(score.top1 for score in comparison.arms):
        also = " and each arm's trial" if any(score.trials for score in comparison.arms) else ""
        chose = f"which also chose each run's best epoch{also}"
        yield f"Accuracy is of validation, {chose}: test was not read by every run."
    peeked = [
        f"{score.name} with seed {seed}"
        for score in comparison.arms
        for seed, record in score.runs.items()
        if len(record.summary.get("test_reads") or []) > 1
    ]
    if peeked:
        yield f"Test was read more than once by {', '.join(peeked)}."
    yield from _mixtures(records)


def _gaps(comparison: Comparison, undecided: Sequence[str]) -> Iterator[str]:
    """Yield what the table lacks."""
    if not comparison.control.top1:
        yield f"The control, {comparison.control.name}, has no finished run: nothing can be compared with it."
    for name, seed in comparison.diverged:
        yield f"{name} diverged with seed {seed}; that run counts nowhere."
    if comparison.unfinished:
        yield f"{comparison.unfinished} of {comparison.num_runs} runs are not finished: the table is of what there is."
    if undecided:
        yield f"Validation has not chosen yet among what was tried by {', '.join(undecided)}."
    if fewest := [score.name for score in comparison.arms if len(score.top1) < FEWEST_FOR_A_RANK]:
        yield f"Fewer than {FEWEST_FOR_A_RANK} seeds, so no rank: {', '.join(fewest)}."


def _mixtures(records: Sequence[Record]) -> Iterator[str]:
    """Yield what differs between the runs although no recipe says so."""
    for key in ("hardware", "device", "precision", "threads", "layout", "compiled", "commit"):
        values = sorted({str(record.environment[key]) for record in records if key in record.environment})
        if len(values) > 1:
            yield f"Runs differ in {key}: {', '.join(value[:60] for value in values[:4])}."
    pictures: dict[str, tuple[str, set[str]]] = {}
    for record in records:
        if seen := record.summary.get("data_fingerprint"):
            pictures.setdefault(str(record.recipe.data.source), (record.recipe.data.name, set()))[1].add(str(seen))
    yield from (f"Runs saw other pictures: {name} has changed." for name, seen in pictures.values() if len(seen) > 1)
    versions = [record.environment.get("versions") for record in records]
    torches = sorted({str(found["torch"]) for found in versions if isinstance(found, Mapping) and "torch" in found})
    if len(torches) > 1:
        yield f"Runs were made by different versions of torch: {', '.join(torches)}."
