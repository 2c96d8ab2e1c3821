"""Subsets: exact totals, fair to every class, the same for ever."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bakeoff.data.images import ImageSet, fingerprint, hold_out, limit
from bakeoff.errors import RecipeError

LABELS = npst.arrays(np.int64, st.integers(1, 120), elements=st.integers(0, 6))
SEEDS = st.integers(0, 2**40)


def counts(labels: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Pictures of each class that occurs in `labels`."""
    classes = np.unique(labels)
    return np.array([np.count_nonzero(labels[index] == name) for name in classes])


def best_spread(sizes: np.ndarray, total: int, low: np.ndarray, high: np.ndarray) -> float:
    """Squared distance from proportion of the best whole-number spread, by trying all of them."""
    ranges = [range(a, b + 1) for a, b in zip(low, high, strict=True)]
    spreads = np.array([spread for spread in product(*ranges) if sum(spread) == total])
    return float(((spreads - sizes * total / sizes.sum()) ** 2).sum(axis=1).min())


@given(LABELS, st.floats(0, 1, exclude_max=True), SEEDS)
def test_hold_out_parts_every_picture_once_and_leaves_each_class_one(
    labels: np.ndarray, fraction: float, seed: int
) -> None:
    train, val = hold_out(labels, fraction=fraction, seed=seed)
    assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(len(labels)))
    assert np.array_equal(train, np.sort(train))
    assert np.array_equal(val, np.sort(val))
    assert train.dtype == val.dtype == np.int64
    sizes = np.unique(labels, return_counts=True)[1]
    assert (counts(labels, train) >= 1).all()
    assert len(val) == min(round(fraction * len(labels)), int((sizes - 1).sum()))


@given(LABELS, st.data(), SEEDS)
def test_limit_gives_the_number_asked_for_with_every_class_in_it(
    labels: np.ndarray, data: st.DataObject, seed: int
) -> None:
    num_images = data.draw(st.integers(1, len(labels)))
    index = limit(labels, num_images=num_images, seed=seed)
    assert index.dtype == np.int64
    assert len(index) == num_images
    assert np.array_equal(index, np.unique(index))
    if num_images >= len(np.unique(labels)):
        assert (counts(labels, index) >= 1).all()


@given(npst.arrays(np.int64, st.integers(3, 14), elements=st.integers(0, 3)), st.data(), SEEDS)
def test_no_other_whole_numbers_are_nearer_to_proportion(labels: np.ndarray, data: st.DataObject, seed: int) -> None:
    sizes = np.unique(labels, return_counts=True)[1]
    num_images = data.draw(st.integers(len(sizes), len(labels)))
    chosen = counts(labels, limit(labels, num_images=num_images, seed=seed))
    reached = float(((chosen - sizes * num_images / len(labels)) ** 2).sum())
    assert reached == pytest.approx(best_spread(sizes, num_images, np.ones_like(sizes), sizes))


@given(SEEDS)
def test_cifar_like_labels_are_held_out_to_the_picture(seed: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(100), 50))
    _, val = hold_out(labels, fraction=0.1, seed=seed)
    assert (np.bincount(labels[val]) == 5).all()


def test_the_same_seed_gives_the_same_pictures_for_ever() -> None:
    labels = np.arange(40) % 4
    assert hold_out(labels, fraction=0.2, seed=7)[1].tolist() == [4, 10, 21, 25, 28, 31, 34, 35]
    assert limit(labels, num_images=6, seed=7).tolist() == [8, 14, 23, 25, 31, 34]


def test_seeds_and_purposes_choose_independently() -> None:
    labels = np.zeros(2000, dtype=np.int64)
    first, second = (hold_out(labels, fraction=0.5, seed=seed)[1] for seed in (0, 1))
    limited = limit(labels, num_images=1000, seed=0)
    # overlap of two independent halves of 2000: mean 500, standard deviation 11
    assert 440 < len(np.intersect1d(first, second)) < 560
    assert 440 < len(np.intersect1d(first, limited)) < 560


def test_equal_remainders_favour_no_class() -> None:
    labels = np.arange(40) % 4
    chosen = sum(counts(labels, limit(labels, num_images=6, seed=seed)) for seed in range(400))
    assert chosen.sum() == 2400
    assert (abs(chosen - 600) < 60).all()  # 1 + Bernoulli(1/2) each: standard deviation 10


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(RecipeError, match=r"\[0, 1\)"):
        hold_out(np.arange(4), fraction=fraction, seed=0)


@pytest.mark.parametrize("num_images", [0, -1, 5])
def test_a_limit_beyond_what_there_is_is_refused(num_images: int) -> None:
    with pytest.raises(RecipeError, match="1 to the 4"):
        limit(np.arange(4), num_images=num_images, seed=0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(RecipeError, match="seed"):
        limit(np.arange(4), num_images=2, seed=-1)


def small_set() -> ImageSet:
    pixels = np.arange(5 * 2 * 3 * 3, dtype=np.uint8).reshape(5, 2, 3, 3)
    labels = np.array([0, 1, 0, 1, 1])
    return ImageSet(
        images=pixels.transpose(0, 3, 1, 2),
        labels=labels,
        classes=("a", "b"),
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
        fingerprint=fingerprint(pixels, labels, ("a", "b")),
    )


def test_take_is_a_part_of_the_same_memory() -> None:
    whole = small_set()
    part = whole.take(np.array([4, 0, 0]))
    assert len(part) == 3
    assert part.images is whole.images
    assert part.labels.tolist() == [1, 0, 0]
    assert np.array_equal(part.pixels(np.arange(3)), whole.pixels(np.array([4, 0, 0])))
    assert part.pixels(np.arange(3)).flags.c_contiguous
    assert not np.shares_memory(part.pixels(np.arange(3)), whole.images)
    assert len(whole.take(np.array([], dtype=np.int64))) == 0


def test_a_part_of_a_part() -> None:
    whole = small_set()
    part = whole.take(np.array([4, 2, 0])).take(np.array([2, 1]))
    assert part.labels.tolist() == whole.labels[[0, 2]].tolist()
    assert np.array_equal(part.pixels(np.array([1])), whole.pixels(np.array([2])))


def test_fingerprints_tell_subsets_orders_pixels_labels_and_names_apart() -> None:
    whole = small_set()
    pixels = np.ascontiguousarray(whole.images.transpose(0, 2, 3, 1))
    other_pixels = pixels.copy()
    other_pixels[3, 1, 2, 0] ^= 1
    prints = [
        whole.fingerprint,
        whole.take(np.array([0, 1])).fingerprint,
        whole.take(np.array([1, 0])).fingerprint,
        fingerprint(other_pixels, whole.labels, whole.classes),
        fingerprint(pixels, whole.labels[::-1], whole.classes),
        fingerprint(pixels, whole.labels, ("a", "c")),
    ]
    assert len(set(prints)) == len(prints)
    assert whole.fingerprint == small_set().fingerprint


@given(st.integers(1, 60), st.integers(1, 5), st.floats(0, 0.6), st.integers(0, 10**6))
def test_groups_stay_together(num: int, classes: int, fraction: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels, groups = random.integers(0, classes, num), random.integers(0, max(1, num // 2), num)
    train, held = hold_out(labels, fraction=fraction, seed=seed, groups=groups)
    assert sorted([*train, *held]) == list(range(num))
    assert not set(groups[train]) & set(groups[held])
    assert set(labels[train]) == set(labels)  # every class keeps a picture to train on
    assert len(held) <= round(fraction * num)


def test_groups_of_one_are_no_groups() -> None:
    labels = np.repeat(np.arange(4), 25)
    plain, grouped = (hold_out(labels, fraction=0.2, seed=5, groups=groups) for groups in (None, np.arange(100)))
    assert np.array_equal(plain[1], grouped[1])


def test_a_group_that_is_too_large_stays_where_it_is() -> None:
    labels = np.repeat([0, 1], 50)
    groups = np.where(np.arange(100) % 50 < 46, labels, 10 + np.arange(100))  # 46 of each class are one group
    train, held = hold_out(labels, fraction=0.2, seed=0, groups=groups)
    assert np.bincount(labels[train]).tolist() == [46, 46]
    assert np.bincount(labels[held]).tolist() == [4, 4]
