"""How far a network's confidence can be believed: accuracy beside confidence, bin by bin."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bakeoff.results.metrics import NUM_BINS, by_confidence
from bakeoff.results.predictions import Predictions


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reliability:
    """The bins of a reliability diagram, ((m-1)/15, m/15] of confidence.

    Args:
        images: int64 [15].
        right: int64 [15], those of them that were called what they are.
        confidence: float64 [15], summed over the images of each bin.
    """

    images: np.ndarray
    right: np.ndarray
    confidence: np.ndarray

    @property
    def accuracy(self) -> np.ndarray:
        """Return float64 [15], a fraction; NaN in a bin without images."""
        return ratio(self.right, self.images)

    @property
    def mean_confidence(self) -> np.ndarray:
        """Return float64 [15], a fraction; NaN in a bin without images."""
        return ratio(self.confidence, self.images)

    @property
    def ece(self) -> float:
        """The expected calibration error of these images, as `metrics.ece` defines it."""
        return float(np.abs(self.right - self.confidence).sum() / self.images.sum())


def reliability(predictions: Predictions) -> Reliability:
    """Count the images of one split by confidence.

    Raises:
        VerificationFailed: there are no predictions, or a logit is not finite.
    """
    bins, right, confidence = by_confidence(predictions)
    return Reliability(
        images=np.bincount(bins, minlength=NUM_BINS),
        right=np.bincount(bins[right], minlength=NUM_BINS),
        confidence=np.bincount(bins, weights=confidence, minlength=NUM_BINS),
    )


def pooled(several: Sequence[Reliability]) -> Reliability:
    """Return the bins of all images together.

    Its ECE is at most the mean of theirs: where one network is too sure and another too modest, they cancel.

    Raises:
        ValueError: nothing to pool.
    """
    if not several:
        raise ValueError("nothing to pool")
    return Reliability(
        images=np.sum([one.images for one in several], axis=0),
        right=np.sum([one.right for one in several], axis=0),
        confidence=np.sum([one.confidence for one in several], axis=0),
    )


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide counts [n] by counts [n]; NaN where there is nothing to divide by."""
    quotient: np.ndarray = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return quotient
