from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy import stats

from bakeoff.data.augment import Augment
from bakeoff.data.draws import Draws
from bakeoff.errors import RecipeError

NUM = 20_000
SIZE = {"height": 32, "width": 32}


def draws(*, epoch: int = 0, num: int = NUM) -> Draws:
    return Draws(seed=0, epoch=epoch, index=torch.arange(num))


def test_nothing_is_done_unless_asked_for() -> None:
    pixels = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8)
    plan = Augment().plan(draws(num=8), **SIZE)
    assert (plan.corner, plan.flip, plan.rounds, plan.boxes) == (None, None, (), ())
    assert torch.equal(Augment()(pixels.clone(), plan), pixels)


def test_every_crop_is_equally_likely() -> None:
    corner = Augment(crop_padding=2).plan(draws(), **SIZE).corner
    assert corner is not None
    counts = (corner[:, 0] * 5 + corner[:, 1]).bincount(minlength=25)
    assert len(counts) == 25
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_half_of_the_images_are_flipped_anew_each_epoch() -> None:
    flips = [Augment(flip="random").plan(draws(epoch=epoch), **SIZE).flip for epoch in range(2)]
    assert all(flip is not None and stats.binomtest(int(flip.sum()), NUM).pvalue > 1e-4 for flip in flips)
    assert flips[0] is not None
    assert flips[1] is not None
    assert stats.binomtest(int((flips[0] != flips[1]).sum()), NUM).pvalue > 1e-4


def test_alternate_flips_show_each_image_both_ways_in_any_two_epochs() -> None:
    flips = [Augment(flip="alternate").plan(draws(epoch=epoch), **SIZE).flip for epoch in range(5)]
    assert flips[0] is not None
    assert stats.binomtest(int(flips[0].sum()), NUM).pvalue > 1e-4
    for first, second in pairwise(flips):
        assert first is not None
        assert second is not None
        assert (first != second).all()


@pytest.mark.parametrize("side", [1, 7, 8, 40])
def test_cutout_is_a_square_around_a_random_pixel(side: int) -> None:
    (box,) = Augment(cutout=side).plan(draws(), height=32, width=24).boxes
    top, bottom, left, right = box.T
    assert int(min(top.min(), left.min())) == 0
    assert int(bottom.max()) == 32
    assert int(right.max()) == 24
    for first, last, length in ((top, bottom, 32), (left, right, 24)):
        # by the definition: for every centre the square, cut off at the border, equally likely
        expected = np.zeros((length + 1, length + 1))
        for centre in range(length):
            start = centre - side // 2
            expected[max(start, 0), min(start + side, length)] += NUM / length
        counts = np.zeros_like(expected)
        np.add.at(counts, (first.numpy(), last.numpy()), 1)
        assert (counts[expected == 0] == 0).all()
        if (possible := expected > 0).sum() > 1:
            assert stats.chisquare(counts[possible], expected[possible]).pvalue > 1e-4


def test_erased_rectangles_follow_the_paper() -> None:
    (box,) = Augment(erase=0.3).plan(draws(), height=64, width=64).boxes
    top, bottom, left, right = box.double().T
    tall, wide = bottom - top, right - left
    erased = tall > 0
    assert stats.binomtest(int(erased.sum()), NUM, 0.3).pvalue > 1e-4
    for first, last in ((top, bottom), (left, right)):
        assert (first >= 0).all()
        assert (last <= 64).all()
    share = (tall * wide / 64**2)[erased]
    aspect = (tall / wide)[erased]
    assert 0.015 < share.min() < 0.025
    assert 0.31 < share.max() < 0.345
    assert 0.25 < aspect.min() < 0.34
    assert 2.9 < aspect.max() < 3.9
    # sides are whole pixels, so the distributions are met within their rounding
    assert stats.kstest(share.numpy(), "uniform", args=(0.02, 0.31)).statistic < 0.02
    low, high = np.log(0.3), np.log(3.3)
    assert stats.kstest(aspect.log().numpy(), "uniform", args=(low, high - low)).statistic < 0.02
    assert abs((top[erased] / (64 - tall[erased]).clamp(min=1)).mean() - 0.5) < 0.02


def test_erase_always_and_on_narrow_images() -> None:
    (box,) = Augment(erase=1.0).plan(draws(), height=4, width=60).boxes
    top, bottom, left, right = box.T
    assert ((top >= 0) & (top < bottom) & (bottom <= 4)).all()
    assert ((left >= 0) & (left < right) & (right <= 60)).all()


@pytest.mark.parametrize("policy", ["trivial", "rand"])
def test_a_plan_for_some_images_is_part_of_the_plan_for_all(policy: Literal["trivial", "rand"]) -> None:
    augment = Augment(crop_padding=4, flip="random", cutout=8, erase=0.5, policy=policy)
    index = torch.tensor([70, 3, 999, 12])
    whole = augment.plan(draws(num=1000), **SIZE)
    some = augment.plan(Draws(seed=0, epoch=0, index=index), **SIZE)
    assert whole.corner is not None
    assert whole.flip is not None
    assert torch.equal(whole.corner[index], some.corner)
    assert torch.equal(whole.flip[index], some.flip)
    assert len(some.rounds) == (2 if policy == "rand" else 1)
    for a, b in zip(whole.rounds, some.rounds, strict=True):
        np.testing.assert_array_equal(a.strength[index.numpy()], b.strength)
    for a, b in zip(whole.boxes, some.boxes, strict=True):
        assert torch.equal(a[index], b)


@pytest.mark.parametrize(
    "setting",
    [
        {"crop_padding": -1},
        {"crop_mode": "edge"},
        {"flip": "vertical"},
        {"cutout": -2},
        {"erase": 1.5},
        {"erase": float("nan")},
        {"policy": "auto"},
        {"rand_ops": 0},
        {"rand_magnitude": 31},
    ],
)
def test_impossible_settings_are_named(setting: dict[str, Any]) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(RecipeError, match=rf"augment\.{name}: found .*{value}.*; expected "):
        Augment(**setting)


def test_settings_that_do_not_suit_the_images_are_named() -> None:
    with pytest.raises(RecipeError, match=r"augment\.crop_padding: found 8 px; expected less than .* 8 px"):
        Augment(crop_padding=8).check(height=8, width=12, channels=1)
    Augment(crop_padding=8, crop_mode="zero").check(height=8, width=12, channels=1)
    with pytest.raises(RecipeError, match=r"augment\.policy: found images of 4 channels"):
        Augment(policy="rand").check(height=8, width=12, channels=4)
