"""What the runs of an arm said about each image, as counts: read once, since their logits are megabytes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bakeoff.errors import BakeoffError
from bakeoff.reports.interactive.arms import ranked
from bakeoff.results import calibration, metrics, predictions
from bakeoff.results.calibration import Reliability
from bakeoff.results.comparison import ArmScore, Comparison
from bakeoff.results.predictions import Predictions
from bakeoff.results.store import Run

MOST_COUNTED = 6  # arms whose predictions are read


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Counts:
    """The finished runs of one arm on one split.

    Args:
        score: whose.
        said: the first run's predictions, for their names and labels.
        confusion: int64 [classes classes], true class by called class, summed over runs.
        bins: of confidence, over the images of all runs.
        ece: mean of the runs' own, a fraction.
        num_runs: how many were read.
    """

    score: ArmScore
    said: Predictions
    confusion: np.ndarray
    bins: Reliability
    ece: float
    num_runs: int

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.said.classes

    @property
    def recall(self) -> np.ndarray:
        """Return float64 [classes], a fraction; NaN for a class without images."""
        return calibration.ratio(np.diag(self.confusion), self.confusion.sum(axis=1))

    def views(self) -> list[tuple[str, tuple[str, ...], np.ndarray]]:
        """Return kind, names and counts: classes, those of a superclass side by side, then superclasses if any."""
        said = self.said
        if not said.superclasses:
            return [("classes", said.classes, self.confusion)]
        order = np.argsort(said.superclass_of, kind="stable")
        side_by_side = tuple(said.classes[i] for i in order)
        return [
            ("classes", side_by_side, self.confusion[np.ix_(order, order)]),
            ("superclasses", said.superclasses, metrics.merge(self.confusion, said)),
        ]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Told:
    """What a report tells by image, of the control and the best arms.

    Args:
        counted: one an arm that has readable predictions: the control, then the best first.
        left_out: names of the runs whose predictions are missing, damaged, or of other classes.
    """

    counted: tuple[Counts, ...]
    left_out: tuple[str, ...]

    def of(self, score: ArmScore) -> Counts | None:
        """Return an arm's counts, if it has any."""
        return next((counts for counts in self.counted if counts.score is score), None)


def told(comparison: Comparison) -> Told:
    """Read, once for all of a report, the predictions of the arms that are worth it."""
    others = [score for score in ranked(comparison) if score is not comparison.control]
    scores = [score for score in (comparison.control, *others) if score.top1][:MOST_COUNTED]
    counted, left_out = count(scores, comparison.split)
    return Told(counted=tuple(counted), left_out=tuple(left_out))


def count(scores: Iterable[ArmScore], split: str) -> tuple[list[Counts], list[str]]:
    """Count what the finished runs of some arms said.

    Args:
        scores: the arms.
        split: "test" or "val".

    Returns:
        One an arm that has readable predictions; the names of the runs whose predictions are missing, damaged, or
        of other classes than the arm's first.
    """
    counted, left_out = [], []
    for score in scores:
        runs: list[Counts] = []
        for record in (score.runs[seed] for seed in score.top1):
            try:
                said = predictions.read(Run(record.folder).predictions(split))
                one = _of_run(score, said)
            except BakeoffError:
                left_out.append(record.name)
                continue
            if runs and one.classes != runs[0].classes:
                left_out.append(record.name)
            else:
                runs.append(one)
        if runs:
            counted.append(_together(runs))
    return counted, left_out


def _of_run(score: ArmScore, said: Predictions) -> Counts:
    bins = calibration.reliability(said)
    confusion = metrics.confusion_matrix(said)
    return Counts(score=score, said=said, confusion=confusion, bins=bins, ece=bins.ece, num_runs=1)


def _together(runs: Sequence[Counts]) -> Counts:
    return Counts(
        score=runs[0].score,
        said=runs[0].said,
        confusion=np.sum([run.confusion for run in runs], axis=0),
        bins=calibration.pooled([run.bins for run in runs]),
        ece=float(np.mean([run.ece for run in runs])),
        num_runs=len(runs),
    )
