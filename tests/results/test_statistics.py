"""Each number by another route: SciPy's own tests, enumeration, definitions, tables, simulation."""

import itertools
import math
import time
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bakeoff.results import comparison, statistics
from bakeoff.results.statistics import (
    bootstrap_interval,
    holm,
    mcnemar,
    mean_interval,
    paired_difference,
    pooled_spread,
    probability_better,
    ranks,
    seeds_needed,
)
from tests.results import planted

IMAGES = 10_000
accuracies = st.integers(0, IMAGES).map(lambda correct: correct / IMAGES)


def samples(*, smallest: int = 2, largest: int = 8) -> st.SearchStrategy[list[float]]:
    return st.lists(accuracies, min_size=smallest, max_size=largest)


def draw(*shape: int, seed: int = 0, sd: float = 0.004) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.7, sd, size=shape)


# Means


@given(samples())
def test_the_mean_and_its_interval_are_scipys(values: list[float]) -> None:
    ours = mean_interval(values)
    assert ours.estimate == pytest.approx(np.mean(values))
    if len(set(values)) == 1:
        assert (ours.low, ours.high, ours.sd) == (None, None, 0.0)
        return
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (ours.low, ours.high) == (pytest.approx(low), pytest.approx(high))
    assert ours.sd == pytest.approx(np.std(values, ddof=1))


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    alone = mean_interval([0.5])
    assert (alone.estimate, alone.low, alone.high, alone.n, alone.sd) == (0.5, None, None, 1, None)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


@pytest.mark.parametrize("values", [[0.1] * 3, [0.7] * 10, [0.65 - 0.6, 0.7 - 0.65, 0.8 - 0.75]])
def test_what_differs_by_rounding_has_no_spread(values: list[float]) -> None:
    assert mean_interval(values).low is None
    assert bootstrap_interval(values) == mean_interval(values)


@given(samples())
def test_the_bootstrap_never_warns_and_stays_among_the_values(values: list[float]) -> None:
    """Warnings are errors here: SciPy's about degenerate draws too."""
    drawn = bootstrap_interval(values, draws=200)
    assert drawn.estimate == mean_interval(values).estimate
    if drawn.low is not None and drawn.high is not None:
        assert min(values) - 1e-12 <= drawn.low <= drawn.high <= max(values) + 1e-12


def test_the_bootstrap_is_bca_by_its_definition() -> None:
    """Efron 1987: the bias is that of the draws, the acceleration a sixth of the skewness of the mean."""
    values = np.sort(draw(12, seed=3) ** 8)
    drawn = np.random.default_rng(5).choice(values, size=(200_000, 12)).mean(axis=1)
    bias = stats.norm.ppf((drawn < values.mean()).mean())
    skew = stats.skew(values) / (6 * math.sqrt(len(values)))
    z = bias + stats.norm.ppf([0.025, 0.975])
    low, high = np.quantile(drawn, stats.norm.cdf(bias + z / (1 - skew * z)))
    ours = bootstrap_interval(list(values), draws=100_000)
    width = high - low
    assert ours.low == pytest.approx(low, abs=0.02 * width)
    assert ours.high == pytest.approx(high, abs=0.02 * width)


@given(samples(smallest=3), st.randoms())
def test_the_order_of_seeds_decides_nothing(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert bootstrap_interval(shuffled, draws=100).low == pytest.approx(bootstrap_interval(values, draws=100).low)
    assert mean_interval(shuffled).sd == pytest.approx(mean_interval(values).sd, abs=1e-12)


# Differences


@given(st.data())
def test_the_paired_test_is_scipys(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 8))
    a, b = (data.draw(samples(smallest=n, largest=n)) for _ in range(2))
    counts = {round(IMAGES * x) - round(IMAGES * y) for x, y in zip(a, b, strict=True)}
    ours = paired_difference(a, b)
    if len(counts) == 1:
        assert (ours.low, ours.high, ours.sd) == (None, None, 0.0)
        assert ours.p == (1.0 if counts == {0} else None)
        return
    reference = stats.ttest_rel(a, b)
    assert ours.p == pytest.approx(reference.pvalue)
    interval = reference.confidence_interval(0.95)
    assert (ours.low, ours.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    back = paired_difference(b, a)
    assert (back.p, back.estimate) == (pytest.approx(ours.p), pytest.approx(-ours.estimate))


def test_the_paired_test_is_near_the_one_that_flips_every_sign() -> None:
    """Fisher's randomisation, by enumeration of all 1,024: no assumption of a normal distribution."""
    a, b = draw(10, seed=1), draw(10, seed=2) - 0.003
    between = a - b
    flipped = [abs(np.mean(between * signs)) for signs in itertools.product([-1, 1], repeat=10)]
    share = np.mean(np.array(flipped) >= abs(between.mean()) - 1e-15)
    assert paired_difference(list(a), list(b)).p == pytest.approx(share, abs=0.02)


def test_a_difference_needs_pairs() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_difference([0.5, 0.6], [0.5])
    assert paired_difference([0.6], [0.5]).p is None


def test_two_seeds_that_agree_by_chance_prove_nothing() -> None:
    """On 200 images two differences are equal one time in six: a p of 0 there would call noise a difference."""
    counts = np.random.default_rng(0).binomial(200, 0.7, size=(2_000, 2, 2))
    alike = (counts[:, 0, 0] - counts[:, 1, 0]) == (counts[:, 0, 1] - counts[:, 1, 1])
    assert alike.mean() > 0.02
    ps = [paired_difference(list(a / 200), list(b / 200)).p for a, b in counts]
    called = sum(p is not None and p < 0.05 for p in ps)
    assert planted.holds(called, len(ps), planted.AT_MOST_5)


def by_definition(ps: list[float], alpha: float) -> set[int]:
    """Return what Holm's procedure rejects: from the smallest p on, while p <= alpha / (tests left)."""
    rejected: set[int] = set()
    for i in sorted(range(len(ps)), key=lambda i: ps[i]):
        if ps[i] > alpha / (len(ps) - len(rejected)):
            break
        rejected.add(i)
    return rejected


@given(st.lists(st.integers(0, 100).map(lambda p: p / 100), max_size=9), st.integers(1, 20))
def test_holm_rejects_what_its_definition_rejects(ps: list[float], percent: int) -> None:
    alpha = percent / 100 + 1e-6  # off the grid of p times a count: no tie to round
    corrected = holm(ps)
    assert {i for i, p in enumerate(corrected) if p is not None and p <= alpha} == by_definition(ps, alpha)
    assert all(p is not None and before <= p <= 1 for before, p in zip(ps, corrected, strict=True))


def test_holm_by_its_own_example_and_with_what_was_not_tested() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([None, 0.02, None]) == [None, 0.02, None]
    assert holm([]) == []


def null_calls(correct: Callable[[list[float | None]], list[float | None]], *, n: int, tries: int = 2_000) -> int:
    """Count the studies of four arms, all like the control, in which one is called different."""
    runs = draw(tries, 5, n, seed=n)
    called = 0
    for control, *arms in runs:
        called += any(p is not None and p < 0.05 for p in correct([paired_difference(a, control).p for a in arms]))
    return called


@pytest.mark.parametrize("n", [3, 5])
def test_a_planted_null_is_called_different_in_at_most_a_twentieth(n: int) -> None:
    assert planted.holds(null_calls(holm, n=n), 2_000, planted.AT_MOST_5)


def test_without_the_correction_it_is_called_more_often() -> None:
    assert not planted.holds(null_calls(lambda ps: ps, n=5), 2_000, planted.AT_MOST_5)


# Images


def two_sided(only_a: int, only_b: int) -> float:
    """Sum the binomial with exact fractions: all splits that are as unlikely, or more."""
    n = only_a + only_b
    weights = [Fraction(math.comb(n, k), 2**n) for k in range(n + 1)]
    return float(sum(weight for weight in weights if weight <= weights[only_a]))


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 20), st.integers(0, 20))
def test_mcnemar_is_the_sum_of_a_binomial(only_a: int, only_b: int, both: int, neither: int) -> None:
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, neither])
    ours = mcnemar(a, b)
    assert (ours.only_a, ours.only_b, ours.n) == (only_a, only_b, len(a))
    assert ours.p == pytest.approx(two_sided(only_a, only_b))
    assert mcnemar(b, a).p == ours.p


def test_mcnemar_wants_the_same_images() -> None:
    with pytest.raises(ValueError, match="same images"):
        mcnemar(np.ones(3, dtype=bool), np.ones(4, dtype=bool))


@given(samples(smallest=1), samples(smallest=1))
def test_the_probability_of_improvement_is_mann_whitneys(a: list[float], b: list[float]) -> None:
    expected = stats.mannwhitneyu(a, b, method="asymptotic").statistic / (len(a) * len(b)) if len({*a, *b}) > 1 else 0.5
    assert probability_better(a, b) == pytest.approx(expected)
    assert probability_better(b, a) == pytest.approx(1 - expected)


# Spread and power


def test_the_pooled_spread_covers_the_truth_as_often_as_it_says() -> None:
    inside = 0
    for runs in draw(2_000, 4, 3, seed=9):
        spread = pooled_spread(list(runs))
        assert spread is not None
        assert spread.df == 8
        assert spread.sd == pytest.approx(math.sqrt(np.mean(np.var(runs, axis=1, ddof=1))))
        inside += spread.low <= 0.004 <= spread.high
    assert planted.holds(inside, 2_000, planted.IS_95)


def test_the_pooled_spread_takes_groups_of_any_size() -> None:
    spread = pooled_spread([[0.1], [0.1, 0.2], [0.3, 0.4, 0.5], []])
    assert spread is not None
    assert (spread.df, spread.sd) == (3, pytest.approx(math.sqrt((0.005 + 0.02) / 3)))
    assert pooled_spread([[0.1], []]) is None
    assert pooled_spread([[0.5, 0.5]]) == statistics.Spread(sd=0.0, df=1, low=0.0, high=0.0)


# Cohen 1988 and every program since: pairs for 80 % power at 5 % two-sided, by the difference in standard deviations.
@pytest.mark.parametrize(("effect", "pairs"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10), (1.5, 6), (2.0, 5)])
def test_seeds_needed_are_those_of_the_tables(effect: float, pairs: int) -> None:
    assert seeds_needed(effect * 0.004, 0.004) == pairs
    assert seeds_needed(-effect * 0.004, 0.004) == pairs


@given(st.floats(0.12, 30), st.integers(1, 12))
def test_seeds_needed_are_those_of_the_noncentral_t(effect: float, among: int) -> None:
    """The first n of all, counted from 2: starting near the answer skips none."""

    def power(n: int) -> float:
        return float(stats.nct.sf(stats.t.ppf(1 - 0.025 / among, n - 1), n - 1, effect * math.sqrt(n)))

    needed = seeds_needed(effect, 1.0, among=among)
    if needed is None:
        assert power(1_000) < 0.8 + 1e-9
    else:
        assert power(needed) >= 0.8 - 1e-9
        assert needed == 2 or power(needed - 1) < 0.8 + 1e-9


@pytest.mark.parametrize("effect", [0.7, 1.0, 2.0])
def test_as_many_seeds_find_it_four_times_in_five(effect: float) -> None:
    needed = seeds_needed(effect, 1.0)
    assert needed is not None
    for n, enough in ((needed, True), (needed - 1, False)):
        between = np.random.default_rng(n).normal(effect, 1.0, size=(40_000, n))
        t = between.mean(axis=1) / (between.std(axis=1, ddof=1) / math.sqrt(n))
        found = (t > stats.t.ppf(0.975, n - 1)).mean()
        assert found > 0.794 if enough else found < 0.806  # three standard errors about 0.8


@pytest.mark.parametrize(("difference", "sd"), [(0.0, 0.01), (0.01, 0.0), (1e-17, 0.01), (1e-5, 0.01), (0.0, 0.0)])
def test_no_number_of_seeds_where_none_would_do(difference: float, sd: float) -> None:
    assert seeds_needed(difference, sd) is None


def test_a_difference_far_above_the_spread_takes_two_seeds() -> None:
    assert [seeds_needed(0.5, sd) for sd in (1e-3, 1e-6, 1e-11)] == [2, 2, 2]


# Ranks


@st.composite
def studies(draw: st.DrawFn) -> list[dict[int, float]]:
    """Draw a few arms with or without a difference between them; some lack a seed."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    arms = []
    for _ in range(draw(st.integers(1, 6))):
        middle, n = draw(st.sampled_from([0.5, 0.5, 0.6, 0.7])), draw(st.sampled_from([1, 2, 3, 5, 5, 5]))
        arms.append({seed: round(float(random.normal(middle, 0.004)), 4) for seed in range(n)})
    return arms


@given(studies(), st.randoms())
def test_ranks_do_not_depend_on_the_order_of_arms(scores: list[dict[int, float]], random: object) -> None:
    order = list(range(len(scores)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = ranks([scores[i] for i in order], fewest=3)
    assert shuffled == [ranks(scores, fewest=3)[i] for i in order]


@given(studies(), st.permutations(range(5)))
def test_ranks_depend_neither_on_a_constant_nor_on_what_seeds_are_called(
    scores: list[dict[int, float]], names: list[int]
) -> None:
    moved = [{names[seed]: value + 0.25 for seed, value in by_seed.items()} for by_seed in scores]
    assert ranks(moved, fewest=3) == ranks(scores, fewest=3)


@given(studies())
def test_a_rank_is_one_plus_how_many_are_separably_better(scores: list[dict[int, float]]) -> None:
    found = ranks(scores, fewest=3)
    for by_seed, rank in zip(scores, found, strict=True):
        assert (rank is None) == (len(by_seed) < 3)
    able = [rank for rank in found if rank is not None]
    assert not able or min(able) == 1
    assert all(rank <= len(able) for rank in able)


def test_arms_that_are_not_separable_share_a_rank() -> None:
    noise = draw(3, 5, seed=4, sd=0.0005) - 0.7
    good, also, bad = (dict(enumerate(middle + of)) for middle, of in zip((0.8, 0.8, 0.7), noise, strict=True))
    assert ranks([bad, good, also], fewest=3) == [3, 1, 1]
    assert ranks([good, good, good], fewest=3) == [1, 1, 1]
    assert ranks([good, dict(list(bad.items())[:2])], fewest=3) == [1, None]
    assert ranks([], fewest=3) == []


def test_not_separable_does_not_carry_over() -> None:
    """The hole that the docstring names: the third mean ranks before the second, since nothing is known of it."""
    steady, behind = dict.fromkeys(range(4), 0.80), {0: 0.7901, 1: 0.7899, 2: 0.7902, 3: 0.7898}
    wild = {0: 0.60, 1: 0.95, 2: 0.65, 3: 0.92}
    assert ranks([steady, behind, wild], fewest=3) == [1, 2, 1]


# Speed: generous bounds, that a loop over SciPy's distributions would miss many times over.


def test_many_arms_take_no_time() -> None:
    differences = np.linspace(1e-4, 0.05, 300)
    assert fastest(lambda: [seeds_needed(difference, 0.005) for difference in differences]) < 0.2
    scores = [dict(enumerate(values)) for values in draw(50, 5)]
    assert fastest(lambda: ranks(scores, fewest=3)) < 0.5


def fastest(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(3):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


# Whole studies: the short version of `python -m tests.results.planted`


@pytest.mark.parametrize("truth", planted.TRUTHS, ids=lambda truth: truth.name)
def test_what_is_planted_is_found_and_nothing_else(truth: planted.Truth) -> None:
    shares = planted.measure(truth, tries=20, seed=0)
    assert set(planted.bounds(truth)) & set(shares) == {key for key, share in shares.items() if "holds" in share}
    assert [key for key, share in shares.items() if not share.get("holds", True)] == []


def test_the_proof_fails_where_nothing_is_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    many = next(truth for truth in planted.TRUTHS if truth.equal == 12)
    monkeypatch.setattr(comparison.statistics, "holm", lambda ps: ps)
    shares = planted.measure(many, tries=30, seed=0)
    assert not shares["an equal arm called different"]["holds"]
    assert not shares["an equal arm ranked worse"]["holds"]


def test_the_proof_fails_where_nothing_is_found() -> None:
    assert not planted.holds(20, 30, planted.AT_LEAST_90)
    assert not planted.holds(23, 30, planted.IS_95)
    assert planted.holds(30, 30, planted.IS_95)
