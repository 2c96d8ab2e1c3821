"""How good the predictions of one split are: counts first, then the fractions that follow from them.

All but `nll` and `ece` comes from integers: a number is the same however its images were batched.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from bakeoff.errors import VerificationFailed
from bakeoff.results.predictions import Predictions

UNBALANCED = 3  # times as many images in the largest class as in the smallest: accuracy speaks of the large ones
NUM_BINS = 15  # of confidence; Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScore:
    """One row of a per-class table; a fraction whose denominator is zero is None.

    Args:
        name: the class.
        n: images of the class.
        correct: images of the class that were called so.
        predicted: images of any class that were called so.
        recall: correct / n.
        precision: correct / predicted.
        f1: 2 correct / (n + predicted).
    """

    name: str
    n: int
    correct: int
    predicted: int
    recall: float | None
    precision: float | None
    f1: float | None


def summarise(predictions: Predictions) -> dict[str, Any]:
    """Return the final numbers by the names that files use; fractions, None where one means nothing.

    `top1_low` and `top1_high` bound the 95 % Wilson interval: where another sample of images might fall, not
    another seed. `top5` is None up to 5 classes, where it would always be 1.

    Raises:
        VerificationFailed: there are no predictions, or a logit is not finite.
    """
    n = len(predictions)
    ranks = label_ranks(predictions)
    confusion = confusion_matrix(predictions)
    top1, top5 = top_correct(ranks, k=1), top_correct(ranks, k=5)
    meaningful_top5 = len(predictions.classes) > 5
    superclass = superclass_correct(confusion, predictions)
    low, high = wilson(top1, n)
    return {
        "n": n,
        "top1": top1 / n,
        "top1_low": low,
        "top1_high": high,
        "top1_correct": top1,
        "top5": top5 / n if meaningful_top5 else None,
        "top5_correct": top5 if meaningful_top5 else None,
        "nll": nll(predictions),
        "ece": ece(predictions),
        "macro_f1": macro_f1(confusion),
        "balanced_accuracy": balanced_accuracy(confusion),
        "superclass_top1": None if superclass is None else superclass / n,
        "superclass_correct": superclass,
    }


def report(predictions: Predictions) -> dict[str, Any]:
    """Return `summarise` and the tables below it: a row a class, and a row a superclass where there are some."""
    confusion = confusion_matrix(predictions)
    rows = table(confusion, predictions.classes)
    content = summarise(predictions) | {"per_class": [asdict(row) for row in rows]}
    if predictions.superclasses:
        merged = table(merge(confusion, predictions), predictions.superclasses)
        content["per_superclass"] = [asdict(row) for row in merged]
    return content


def label_ranks(predictions: Predictions) -> np.ndarray:
    """Return, int64 [n], how many classes stand before the true one; 0 is a hit.

    Equal logits stand in order of class index, so rank 0 is what argmax calls: a constant network is right on
    class 0 only, instead of everywhere.
    """
    _check(predictions)
    logits, label = predictions.logits, predictions.label[:, None]
    own = np.take_along_axis(logits, label, axis=1)
    earlier = np.arange(logits.shape[1])[None, :] < label
    ranks: np.ndarray = ((logits > own) | ((logits == own) & earlier)).sum(axis=1)
    return ranks


def top_correct(ranks: np.ndarray, *, k: int) -> int:
    """Count the images whose true class is among the first `k`."""
    return int((ranks < k).sum())


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a fraction (Wilson 1927), which stays inside [0, 1].

    SciPy has it too, but to import its statistics takes 60 MB of every training.
    """
    z = NormalDist().inv_cdf(0.975)
    middle = (correct + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * sqrt(correct * (n - correct) / n + z**2 / 4)
    # Rounding must not leave [0, 1], nor the ends where all or none are right.
    return max(0.0, middle - half) if correct else 0.0, min(1.0, middle + half) if correct < n else 1.0


def nll(predictions: Predictions) -> float:
    """Return the mean negative log-likelihood of the true class, in nats, in double precision."""
    _check(predictions)
    own = np.take_along_axis(_log_softmax(predictions.logits), predictions.label[:, None], axis=1)
    return float(-own.mean())


def ece(predictions: Predictions) -> float:
    """Return the expected calibration error: how far confidence is from accuracy, on average.

    Source: Guo et al. 2017, equation 5: the bins of `by_confidence`, weighted by their images.
    """
    bins, right, confidence = by_confidence(predictions)
    gap = np.bincount(bins, weights=right - confidence, minlength=NUM_BINS)
    return float(np.abs(gap).sum() / len(predictions))


def by_confidence(predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort the images into 15 bins of equal width by the probability of what they were called: ((m-1)/15, m/15].

    Returns:
        Of each image its bin, int64 [n] from 0; whether the call is right, bool [n]; its probability, float64 [n].
    """
    _check(predictions)
    confidence = np.exp(_log_softmax(predictions.logits).max(axis=1))
    right = predictions.logits.argmax(axis=1) == predictions.label
    bins = np.digitize(confidence, np.linspace(0, 1, NUM_BINS + 1)[1:-1], right=True)
    return bins, right, confidence


def confusion_matrix(predictions: Predictions) -> np.ndarray:
    """Count int64 [classes classes]: a row is the true class, a column what it was called."""
    _check(predictions)
    num_classes = len(predictions.classes)
    cells = predictions.label * num_classes + predictions.logits.argmax(axis=1)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def merge(confusion: np.ndarray, predictions: Predictions) -> np.ndarray:
    """Sum a confusion matrix into superclasses, int64 [superclasses superclasses].

    The called superclass is the one of the called class, not the one of greatest summed probability.
    """
    parents = np.asarray(predictions.superclass_of)
    merged = np.zeros((len(predictions.superclasses),) * 2, dtype=np.int64)
    np.add.at(merged, (parents[:, None], parents[None, :]), confusion)
    return merged


def superclass_correct(confusion: np.ndarray, predictions: Predictions) -> int | None:
    """Count the images that were called a class of the right superclass; None without superclasses."""
    return int(np.trace(merge(confusion, predictions))) if predictions.superclasses else None


def macro_f1(confusion: np.ndarray) -> float:
    """Return the mean F1 over the classes that occur or were called; one only called counts as zero."""
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    return float((2 * np.diag(confusion)[both > 0] / both[both > 0]).mean())


def is_unbalanced(scores: Mapping[str, Any]) -> bool:
    """Tell whether the classes of what `report` gave are so unequal that accuracy speaks of the large ones."""
    rows = scores.get("per_class", ())
    sizes = [row["n"] for row in rows if row.get("n")] if isinstance(rows, list) else []
    return bool(sizes) and max(sizes) >= UNBALANCED * min(sizes) and scores.get("balanced_accuracy") is not None


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Return the mean recall over the classes that occur."""
    n = confusion.sum(axis=1)
    return float((np.diag(confusion)[n > 0] / n[n > 0]).mean())


def table(confusion: np.ndarray, names: tuple[str, ...]) -> tuple[ClassScore, ...]:
    """Return one row a class, in the order of `names`; give it a merged matrix for superclasses."""
    columns = (np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0))
    rows = zip(names, *(column.tolist() for column in columns), strict=True)
    return tuple(
        ClassScore(
            name=name,
            n=n,
            correct=correct,
            predicted=predicted,
            recall=correct / n if n else None,
            precision=correct / predicted if predicted else None,
            f1=2 * correct / (n + predicted) if n + predicted else None,
        )
        for name, correct, n, predicted in rows
    )


def top_confusions(confusion: np.ndarray, k: int) -> list[tuple[int, int, int]]:
    """Return the `k` most frequent mistakes as (true class, called class, images), ties by class."""
    mistakes = confusion * ~np.eye(len(confusion), dtype=bool)
    first = np.argsort(-mistakes, axis=None, kind="stable")[:k]
    cells = zip(*np.unravel_index(first, mistakes.shape), strict=True)
    return [(int(true), int(called), int(n)) for true, called in cells if (n := mistakes[true, called])]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return what logits [n classes] say as probabilities, float64 [n classes], rows summing to 1."""
    shares: np.ndarray = np.exp(_log_softmax(logits))
    return shares


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    normalised: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def _check(predictions: Predictions) -> None:
    if not len(predictions):
        raise VerificationFailed("predictions", found="no images", expected="at least one image")
    bad = np.flatnonzero(~np.isfinite(predictions.logits).all(axis=1))
    if len(bad):
        raise VerificationFailed(
            f"predictions of split '{predictions.split}'",
            found=f"NaN or infinity in the logits of {len(bad):,} images, first {predictions.index[bad[0]]}",
            expected="finite logits",
            hint="The weights have diverged; such a run has no accuracy.",
        )
