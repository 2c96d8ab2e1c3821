"""How sure a number is: intervals over seeds, paired differences, corrections, power. SciPy and numpy, no torch.

A value is what one run scored; its seed decided initial weights, order of data and augmentation. Intervals here are
over seeds: where another run of the same recipe might fall. What other images might change is `metrics.wilson`.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95  # of every interval
ALPHA = 0.05  # a corrected p below it is called a difference
POWER = 0.8
MOST_SEEDS = 1_000  # `seeds_needed` gives up above it


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean over seeds.

    Args:
        low: None with one value, which has no interval.
        sd: standard deviation of one value, n - 1 in its denominator.
    """

    estimate: float
    low: float | None
    high: float | None
    n: int
    sd: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A paired difference: mean over seeds of a less b.

    Args:
        p: of the two-sided paired t test; None with one pair.
        sd: standard deviation of the differences.
    """

    estimate: float
    low: float | None
    high: float | None
    n: int
    sd: float | None
    p: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """The standard deviation of a run's score over seeds, pooled over arms.

    Args:
        df: degrees of freedom behind it.
        low: of its chi-square interval.
    """

    sd: float
    df: int
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class McNemar:
    """Two classifiers on the same images.

    Args:
        only_a: images that a alone calls right.
        p: exact, two-sided.
    """

    only_a: int
    only_b: int
    n: int
    p: float


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean and its interval by Student's t.

    Raises:
        ValueError: no values.
    """
    n = len(values)
    mean = _mean(values)
    if n == 1:
        return Interval(estimate=mean, low=None, high=None, n=1, sd=None)
    sd = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * sd / math.sqrt(n)
    return Interval(estimate=mean, low=mean - half, high=mean + half, n=n, sd=sd)


def bootstrap_interval(values: Sequence[float], *, draws: int = 2_000, seed: int = 0) -> Interval:
    """Return the mean and its bootstrap interval, bias-corrected and accelerated (Efron 1987).

    It is too narrow for few values: with three there are ten different draws. It stands beside the t interval to show
    how much that one rests on its assumption.
    """
    plain = mean_interval(values)
    if plain.sd is None or plain.sd == 0:
        return plain
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a draw of equal values has no acceleration: percentiles then
        drawn = stats.bootstrap(
            (np.asarray(values),), np.mean, confidence_level=LEVEL, n_resamples=draws, rng=np.random.default_rng(seed)
        ).confidence_interval
    low, high = float(drawn.low), float(drawn.high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return plain
    return Interval(estimate=plain.estimate, low=low, high=high, n=plain.n, sd=plain.sd)


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Return a less b, where a[i] and b[i] have the same seed, with its interval and test by Student's t.

    Differences that are all equal have no spread to test with: p is 1 if they are zero, else 0.

    Raises:
        ValueError: different lengths, or nothing.
    """
    between = [float(x) - float(y) for x, y in zip(a, b, strict=True)]
    mean = mean_interval(between)
    if mean.sd is None:
        p = None
    elif mean.sd == 0:
        p = 1.0 if mean.estimate == 0 else 0.0
    else:
        p = float(2 * stats.t.sf(abs(mean.estimate) / (mean.sd / math.sqrt(mean.n)), mean.n - 1))
    return Difference(estimate=mean.estimate, low=mean.low, high=mean.high, n=mean.n, sd=mean.sd, p=p)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Correct for how many were tested (Holm 1979); None is no test, and stays None."""
    order = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    corrected: list[float | None] = [None] * len(ps)
    largest = 0.0
    for place, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - place)))
        corrected[i] = largest
    return corrected


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> McNemar:
    """Compare two classifiers image by image (McNemar 1947, exact): bool [n] each, the same images in order.

    It speaks of these two sets of weights, not of the recipes: other seeds are other weights.
    """
    if correct_a.shape != correct_b.shape:
        raise ValueError(f"{correct_a.shape} and {correct_b.shape} are not the same images")
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((correct_b & ~correct_a).sum())
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a=only_a, only_b=only_b, n=len(correct_a), p=p)


def probability_better(a: Sequence[float], b: Sequence[float]) -> float:
    """Return how often a run of a scores above a run of b: the share of all pairs, equals counting half.

    Source: the probability of improvement, Agarwal et al. 2021, section 4.3 (Mann and Whitney's U over all pairs).
    """
    left, right = np.asarray(a, dtype=float)[:, None], np.asarray(b, dtype=float)[None, :]
    return float(((left > right) + (left == right) / 2).mean())


def pooled_spread(groups: Sequence[Sequence[float]]) -> Spread | None:
    """Return the spread over seeds that all groups share; None while no group has two values."""
    squares = sum(float(np.var(values, ddof=1)) * (len(values) - 1) for values in groups if len(values) > 1)
    df = sum(len(values) - 1 for values in groups if len(values) > 1)
    if not df:
        return None
    low, high = (math.sqrt(squares / float(stats.chi2.ppf(q, df))) for q in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    return Spread(sd=math.sqrt(squares / df), df=df, low=low, high=high)


def seeds_needed(difference: float, sd: float) -> int | None:
    """Return how many seeds an arm tell a paired difference from none, with a power of 80 % at 5 %.

    Args:
        difference: the true one, if it were what was seen.
        sd: of the paired differences.

    Returns:
        None above 1,000, or where there is no difference to find.
    """
    if difference == 0:
        return None
    for n in range(2, MOST_SEEDS + 1):
        critical = float(stats.t.ppf(1 - ALPHA / 2, n - 1))
        shift = math.inf if sd == 0 else abs(difference) / sd * math.sqrt(n)
        if math.isinf(shift) or float(stats.nct.sf(critical, n - 1, shift)) >= POWER:
            return n
    return None


def ranks(scores: Sequence[Mapping[int, float]], *, fewest: int) -> list[int | None]:
    """Rank arms by their scores by seed: 1 plus how many arms are separably better; those that are not share it.

    Separable is a paired difference whose p, corrected for all pairs, is below 5 %. An arm of fewer than `fewest`
    seeds has no rank and takes none from others.
    """
    able = [i for i, by_seed in enumerate(scores) if len(by_seed) >= fewest]
    pairs = [(i, j) for place, i in enumerate(able) for j in able[place + 1 :]]
    differences = [common_difference(scores[i], scores[j]) for i, j in pairs]
    corrected = holm([difference.p if difference else None for difference in differences])
    better: dict[int, int] = dict.fromkeys(able, 0)
    for (i, j), difference, p in zip(pairs, differences, corrected, strict=True):
        if difference is not None and p is not None and p < ALPHA:
            better[j if difference.estimate > 0 else i] += 1
    return [1 + better[i] if i in better else None for i in range(len(scores))]


def common_difference(a: Mapping[int, float], b: Mapping[int, float]) -> Difference | None:
    """Return a less b over the seeds that both have; None where there is no such seed."""
    common = sorted(set(a) & set(b))
    return paired_difference([a[seed] for seed in common], [b[seed] for seed in common]) if common else None


def _mean(values: Sequence[float]) -> float:
    if not len(values):
        raise ValueError("no values")
    return float(np.mean(values))
