"""How sure a number is: intervals over seeds, paired differences, corrections, power. SciPy and numpy, no torch.

A value is what one run scored; its seed decided initial weights, order of data and augmentation. Intervals here are
over seeds: where another run of the same recipe might fall. What other images might change is `metrics.wilson`.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats

LEVEL = 0.95  # of every interval
ALPHA = 0.05  # a corrected p below it is called a difference
POWER = 0.8
MOST_SEEDS = 1_000  # `seeds_needed` gives up above it
ROUNDING = 1e-12  # accuracies are fractions of images: what differs by less differs by rounding only


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean over seeds.

    Args:
        low: None where there is no spread to measure by: with one value, or where all are equal.
        sd: standard deviation of one value, n - 1 in its denominator; None with one value.
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
        low: of the interval of this one difference, not corrected for others; None as in `Interval`.
        p: of the two-sided paired t test; None where there is nothing to test by.
        sd: standard deviation of the differences; None with one pair.
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

    Values that are all equal have none: a few runs may agree to the image by chance, and an interval of no width would
    claim that every other run does.

    Raises:
        ValueError: no values.
    """
    n = len(values)
    if not n:
        raise ValueError("no values")
    mean = float(np.mean(values))
    if n == 1:
        return Interval(estimate=mean, low=None, high=None, n=1, sd=None)
    sd = float(np.std(values, ddof=1))
    if sd <= ROUNDING:
        return Interval(estimate=mean, low=None, high=None, n=n, sd=0.0)
    half = _critical(n - 1) * sd / math.sqrt(n)
    return Interval(estimate=mean, low=mean - half, high=mean + half, n=n, sd=sd)


def bootstrap_interval(values: Sequence[float], *, draws: int = 2_000, seed: int = 0) -> Interval:
    """Return the mean and its bootstrap interval, bias-corrected and accelerated (Efron 1987).

    It is too narrow for few values: with three there are ten different draws. It stands beside the t interval to show
    how much that one rests on its assumption.
    """
    plain = mean_interval(values)
    if not plain.sd:
        return plain
    ordered = np.sort(np.asarray(values, dtype=float))  # so that the order of seeds decides nothing
    drawn = stats.bootstrap(
        (ordered,), np.mean, confidence_level=LEVEL, n_resamples=draws, rng=np.random.default_rng(seed)
    ).confidence_interval
    return replace(plain, low=float(drawn.low), high=float(drawn.high))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Return a less b, where a[i] and b[i] have the same seed, with its interval and test by Student's t.

    Differences that are all zero speak for no difference (p is 1). Other differences that are all equal have no spread
    to test by, and no p: on few images two seeds agree by chance far more often than one time in twenty.

    Raises:
        ValueError: different lengths, or nothing.
    """
    mean = mean_interval([float(x) - float(y) for x, y in zip(a, b, strict=True)])
    p = None
    if mean.sd:
        p = float(2 * special.stdtr(mean.n - 1, -abs(mean.estimate) / (mean.sd / math.sqrt(mean.n))))
    elif mean.sd == 0 and abs(mean.estimate) <= ROUNDING:
        p = 1.0
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

    Raises:
        ValueError: different numbers of images.
    """
    if correct_a.shape != correct_b.shape:
        raise ValueError(f"{correct_a.shape} and {correct_b.shape} are not the same images")
    only_a, only_b = int((correct_a > correct_b).sum()), int((correct_b > correct_a).sum())
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


def seeds_needed(difference: float, sd: float, *, among: int = 1) -> int | None:
    """Return how many seeds an arm tell a paired difference from none, with a power of 80 %.

    Args:
        difference: the true one, if it were what was seen.
        sd: of the paired differences, if it were what was seen.
        among: how many differences are tested together: at 5 % over it, as Holm's correction tests the smallest p.

    Returns:
        None above 1,000, and where there is no difference to find or no spread to find it in.
    """
    if abs(difference) <= ROUNDING or sd <= ROUNDING:
        return None
    effect, alpha = abs(difference) / sd, ALPHA / among
    # With the spread known, so many would do; as it is estimated, a few more are needed.
    known = ((special.ndtri(1 - alpha / 2) + special.ndtri(POWER)) / effect) ** 2
    if known > MOST_SEEDS:
        return None
    enough = (n for n in range(max(2, math.ceil(known)), MOST_SEEDS + 1) if _power(effect, n, alpha) >= POWER)
    return next(enough, None)


def ranks(scores: Sequence[Mapping[int, float]], *, fewest: int) -> list[int | None]:
    """Rank arms by their scores by seed: 1 plus how many arms are separably better; those that are not share it.

    Separable is a paired difference whose p, corrected for all pairs, is below 5 %. An arm of fewer than `fewest`
    seeds has no rank and takes none from others. "Not separable" is not "equal", so it does not carry over: of a > b
    > c by their means, a may be separably better than b and yet not than c, whose seeds spread more; then b has rank 2
    and c rank 1.
    """
    able = [i for i, by_seed in enumerate(scores) if len(by_seed) >= fewest]
    pairs = list(itertools.combinations(able, 2))
    differences = [common_difference(scores[i], scores[j]) for i, j in pairs]
    corrected = holm([difference.p if difference else None for difference in differences])
    better = dict.fromkeys(able, 0)
    for (i, j), difference, p in zip(pairs, differences, corrected, strict=True):
        if difference is not None and p is not None and p < ALPHA:
            better[j if difference.estimate > 0 else i] += 1
    return [1 + better[i] if i in better else None for i in range(len(scores))]


def common_difference(a: Mapping[int, float], b: Mapping[int, float]) -> Difference | None:
    """Return a less b over the seeds that both have; None where there is no such seed."""
    common = sorted(set(a) & set(b))
    return paired_difference([a[seed] for seed in common], [b[seed] for seed in common]) if common else None


def _critical(df: int, *, alpha: float = 1 - LEVEL) -> float:
    """Return the t beyond which both tails hold `alpha`; `special` is many times as fast as `stats` here."""
    return float(special.stdtrit(df, 1 - alpha / 2))


def _power(effect: float, n: int, alpha: float) -> float:
    """Return how often the two-sided t test finds a difference of so many standard deviations; by its larger tail."""
    critical = _critical(n - 1, alpha=alpha)
    # The power is 1 far beyond the critical value; there the series ends.
    shift = min(effect * math.sqrt(n), 100.0 + critical)
    return 1 - float(special.nctdtr(n - 1, shift, critical))
