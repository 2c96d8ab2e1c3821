"""The tables of a study, as raw values: fractions, seconds, None. How they look is for whoever shows them.

One quantity a column; a row of `leaderboard` is an arm, of `provenance` a run. All have their columns even when they
have no rows, and none of them raises for a run that lacks something: what is not there is missing in its cell.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bakeoff.record import Record
from bakeoff.reports import formats
from bakeoff.results import metrics, statistics
from bakeoff.results.comparison import ArmScore, Comparison, Contrast
from bakeoff.results.statistics import Difference

SHARE = "train/share/"  # how the metric log's keys of a loss's terms begin

# Columns and their types. Text stays what it was: pandas' own type refuses names that are not quite Unicode.
TEXT, FLAG, WHOLE, REAL = "object", "bool", "Int64", "float64"
LEADERBOARD = {
    "rank": WHOLE,
    "best": FLAG,
    **dict.fromkeys(("arm", "model"), TEXT),
    **dict.fromkeys(("top1", "top1_low", "top1_high"), REAL),
    "n": WHOLE,
    **dict.fromkeys(("sd", "boot_low", "boot_high", "top5"), REAL),
    **dict.fromkeys(("balanced", "balanced_low", "balanced_high"), REAL),
    **dict.fromkeys(("difference", "difference_low", "difference_high"), REAL),
    "difference_n": WHOLE,
    **dict.fromkeys(("p", "p_holm", "better"), REAL),
    "seeds_needed": WHOLE,
    **dict.fromkeys(("params_m", "macs_g", "training_s", "images_per_s"), REAL),
    **dict.fromkeys(("is_control", "separable"), FLAG),
    **dict.fromkeys(("repeated", "changes", "by_seed", "folders", "diverged"), TEXT),
}
DIFFERENCES = {
    **dict.fromkeys(("a", "b"), TEXT),
    **dict.fromkeys(("difference", "low", "high"), REAL),
    "n": WHOLE,
    **dict.fromkeys(("sd", "p", "p_holm"), REAL),
    "separable": FLAG,
    "seeds_needed": WHOLE,
    "contrast": FLAG,
}
TRIALS = {
    **dict.fromkeys(("arm", "trial"), TEXT),
    **dict.fromkeys(("val_top1", "val_top1_low", "val_top1_high"), REAL),
    "n": WHOLE,
    "chosen": FLAG,
}
ENVIRONMENT = ("hardware", "device", "precision", "threads", "compiled", "commit", "python", "started")
VERSIONS = ("bakeoff", "torch")
PROVENANCE = {
    "arm": TEXT,
    "seed": WHOLE,
    **dict.fromkeys(("status", "folder", "digest", "protocol"), TEXT),
    "epochs": WHOLE,
    "selected_on": TEXT,
    "test_reads": WHOLE,
    **dict.fromkeys((*ENVIRONMENT, *VERSIONS, "command"), TEXT),
}
TEST_READS = {"arm": TEXT, "seed": WHOLE, **dict.fromkeys(("at", "command", "folder"), TEXT)}
TEACHERS = {
    **dict.fromkeys(("arm", "teacher", "measured_on"), TEXT),
    **dict.fromkeys(("top1", "entropy", "largest_entropy", "temperature", "seen", "agreement"), REAL),
    "n": WHOLE,
    "shares": TEXT,
}
PER_CLASS = {
    "class": TEXT,
    "n": WHOLE,
    **dict.fromkeys(("recall", "precision", "f1", "control_recall", "difference"), REAL),
}


def leaderboard(comparison: Comparison) -> pd.DataFrame:
    """Return a row an arm, best mean first; arms without a finished run last, as the file has them.

    Args:
        comparison: `top1` and its bounds are of `comparison.split`, fractions, over `n` seeds; `top5` a mean.

    Returns:
        Columns LEADERBOARD. `best`: alone at rank 1, before others that have a rank, and with a network that is no
        other arm's. `repeated`: names of arms with the same recipe, as text. `changes`: what the arm changes in the
        control, as text. `balanced`: the mean recall of the classes, where these are of unequal size. `by_seed`: seed
        -> top-1 of finished runs. `folders`: seed -> folder of every run there is. `diverged`: seeds that diverged.
    """
    ranks = [score.rank for score in comparison.arms]
    alone = ranks.count(1) == 1 and sum(rank is not None for rank in ranks) > 1
    twins = {name for names in comparison.repeats for name in names}
    by_mean = sorted(comparison.arms, key=lambda s: -s.mean.estimate if s.mean else np.inf)
    rows = [
        _leaderboard_row(score, comparison, best=alone and score.rank == 1 and score.name not in twins)
        for score in by_mean
    ]
    return _frame(rows, LEADERBOARD)


def differences(comparison: Comparison) -> pd.DataFrame:
    """Return a row an arm that has a paired difference to the control, largest first; then the contrasts of the file.

    Returns:
        Columns DIFFERENCES: `a` less `b`, fractions. `contrast` tells the file's own pairs, which are corrected
        among themselves.
    """
    control = comparison.control.name
    to_control = [
        _difference_row(score.name, control, score.to_control, score) for score in comparison.arms if score.to_control
    ]
    to_control.sort(key=lambda row: -row["difference"])
    contrasts = [_difference_row(c.a, c.b, c.difference, c) for c in comparison.contrasts]
    return _frame([*to_control, *contrasts], DIFFERENCES)


def teachers(comparison: Comparison) -> pd.DataFrame:
    """Return a row an arm that learns from a teacher.

    Returns:
        Columns TEACHERS: means over the finished runs, whose images the teacher was measured on. `entropy` of its soft
        targets at `temperature`, in nats; `seen`: the share of these images that it was trained on; `agreement`: the
        share that student and teacher take for the same class; `n`: runs; `shares`: term -> its share of the loss in
        the first and in the last epoch.
    """
    rows = []
    for score in comparison.arms:
        records = [record for record in score.runs.values() if isinstance(record.summary.get("teacher"), Mapping)]
        figures = [record.summary["teacher"] for record in records]
        if figures:
            measures = ("top1", "entropy", "largest_entropy", "temperature", "seen", "agreement")
            row = {"arm": score.name, "teacher": figures[0].get("name"), "measured_on": figures[0].get("measured_on")}
            row |= {key: _mean(found.get(key) for found in figures) for key in measures}
            rows.append(row | {"n": len(figures), "shares": _shares(records)})
    return _frame(rows, TEACHERS)


def _shares(records: Sequence[Record]) -> dict[str, tuple[float | None, float | None]]:
    """Return each term's share of the loss, in the first and the last epoch that was logged; means over runs."""
    logs = [record.rows for record in records if record.rows]
    keys = dict.fromkeys(key for rows in logs for key in rows[-1] if key.startswith(SHARE))
    return {
        key.removeprefix(SHARE): (_mean(rows[0].get(key) for rows in logs), _mean(rows[-1].get(key) for rows in logs))
        for key in keys
    }


def _mean(values: Iterable[Any]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None


def trials(comparison: Comparison) -> pd.DataFrame:
    """Return a row a trial of the arms that chose among several: columns TRIALS, accuracy on validation."""
    rows = []
    for score in comparison.arms:
        for trial in score.trials:
            values = list(trial.val_top1.values())
            mean = statistics.mean_interval(values) if values else None
            row = {"arm": score.name, "trial": trial.name, "n": len(values), "chosen": trial.chosen}
            if mean is not None:
                row |= {"val_top1": mean.estimate, "val_top1_low": mean.low, "val_top1_high": mean.high}
            rows.append(row)
    return _frame(rows, TRIALS)


def provenance(comparison: Comparison) -> pd.DataFrame:
    """Return a row a run that an arm is made of: columns PROVENANCE; `test_reads` counts."""
    rows = []
    for name, seed, record in _runs(comparison):
        environment, summary = record.environment, record.summary
        row = {key: environment.get(key) for key in ENVIRONMENT}
        row |= {key: (environment.get("versions") or {}).get(key) for key in VERSIONS}
        row |= {"arm": name, "seed": seed, "status": record.status, "folder": record.folder}
        row |= {"digest": record.recipe.digest, "protocol": record.recipe.protocol, "epochs": record.recipe.epochs}
        row |= {"selected_on": summary.get("selected_on"), "command": _command(environment)}
        rows.append(row | {"test_reads": len(_entries(summary, "test_reads"))})
    return _frame(rows, PROVENANCE)


def test_reads(comparison: Comparison) -> pd.DataFrame:
    """Return a row a look at the test split: columns TEST_READS."""
    rows = [
        {"arm": name, "seed": seed, "at": read.get("at"), "command": _command(read), "folder": record.folder}
        for name, seed, record in _runs(comparison)
        for read in _entries(record.summary, "test_reads")
    ]
    return _frame(rows, TEST_READS)


def per_class(comparison: Comparison, *, arm: str) -> pd.DataFrame:
    """Return a row a class of one arm beside the control, in order of class: columns PER_CLASS.

    Args:
        comparison: of whose split the numbers are.
        arm: its name. Fractions are means over its seeds; `n` is the class's images in one run.
    """
    own, control = (_class_means(score, comparison.split) for score in (comparison.arm(arm), comparison.control))
    rows = []
    for name, row in own.items():
        recall, other = row["recall"], control.get(name, {}).get("recall")
        between = None if recall is None or other is None else recall - other
        rows.append({"class": name, **row, "control_recall": other, "difference": between})
    return _frame(rows, PER_CLASS)


def _frame(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows under these columns, of these types; what a row lacks is missing."""
    cells = [[row.get(key) for key in columns] for row in rows]
    return pd.DataFrame(cells, columns=list(columns), dtype=object).astype(dict(columns))


def _leaderboard_row(score: ArmScore, comparison: Comparison, *, best: bool) -> dict[str, Any]:
    row: dict[str, Any] = {key: getattr(score, key) for key in ("rank", "p_holm", "better", "seeds_needed")}
    row |= {key: getattr(score, key) for key in ("params_m", "macs_g", "training_s", "images_per_s", "separable")}
    row |= {"arm": score.name, "best": best, "is_control": score is comparison.control, "n": len(score.top1)}
    row["model"] = score.arm.trials[0].recipe.model.name
    row["top5"] = _top5(score, comparison.split)
    row |= _balanced(score, comparison.split)
    row["repeated"] = formats.names(score.arm.repeated)
    row["changes"] = formats.changes(score.arm.changed)
    row["by_seed"] = dict(score.top1)
    row["folders"] = {seed: record.folder for seed, record in score.runs.items()}
    row["diverged"] = [seed for seed, record in score.runs.items() if record.status == "diverged"]
    if mean := score.mean:
        row |= {"top1": mean.estimate, "top1_low": mean.low, "top1_high": mean.high, "sd": mean.sd}
    if (drawn := score.bootstrap) and drawn.sd is not None:
        row |= {"boot_low": drawn.low, "boot_high": drawn.high}
    if between := score.to_control:
        row |= {"difference": between.estimate, "difference_low": between.low, "difference_high": between.high}
        row |= {"difference_n": between.n, "p": between.p}
    return row


def _difference_row(a: str, b: str, between: Difference, judged: ArmScore | Contrast) -> dict[str, Any]:
    return {
        "a": a,
        "b": b,
        "difference": between.estimate,
        "low": between.low,
        "high": between.high,
        "n": between.n,
        "sd": between.sd,
        "p": between.p,
        "p_holm": judged.p_holm,
        "separable": judged.separable,
        "seeds_needed": judged.seeds_needed,
        "contrast": isinstance(judged, Contrast),
    }


def _runs(comparison: Comparison) -> Iterator[tuple[str, int, Record]]:
    for score in comparison.arms:
        for seed, record in sorted(score.runs.items()):
            yield score.name, seed, record


def _command(row: Mapping[str, Any]) -> str:
    command = row.get("command") or ""
    return command if isinstance(command, str) else " ".join(map(str, command))


def _entries(summary: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Return a list of a run's summary; what another version has written there is left out."""
    found = summary.get(key)
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []


def _finished(score: ArmScore, split: str) -> list[Mapping[str, Any]]:
    """Return the final numbers of each finished run on the split."""
    found = (record.summary.get(split) for record in score.runs.values() if record.status == "finished")
    return [numbers for numbers in found if isinstance(numbers, Mapping)]


def _top5(score: ArmScore, split: str) -> float | None:
    known = [numbers["top5"] for numbers in _finished(score, split) if numbers.get("top5") is not None]
    return float(np.mean(known)) if known else None


def _balanced(score: ArmScore, split: str) -> dict[str, float]:
    """Return the balanced accuracy over seeds with its interval, where classes are of unequal size."""
    found = _finished(score, split)
    known = [float(numbers["balanced_accuracy"]) for numbers in found if metrics.is_unbalanced(numbers)]
    if not known or len(known) < len(found):
        return {}
    mean = statistics.mean_interval(known)
    bounds = {"balanced_low": mean.low, "balanced_high": mean.high}
    return {"balanced": mean.estimate, **{key: value for key, value in bounds.items() if value is not None}}


def _class_means(score: ArmScore, split: str) -> dict[str, dict[str, Any]]:
    """Return class -> images, and recall, precision and F1 as means over seeds; None where no seed has one."""
    by_class: dict[str, list[Mapping[str, Any]]] = {}
    for numbers in _finished(score, split):
        for row in _entries(numbers, "per_class"):
            if "name" in row:
                by_class.setdefault(str(row["name"]), []).append(row)
    means: dict[str, dict[str, Any]] = {}
    for name, rows in by_class.items():
        means[name] = {"n": rows[0].get("n")}
        for key in ("recall", "precision", "f1"):
            known = [row[key] for row in rows if row.get(key) is not None]
            means[name][key] = float(np.mean(known)) if known else None
    return means
