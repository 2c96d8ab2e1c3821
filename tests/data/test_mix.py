import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from bakeoff.data.draws import generator
from bakeoff.data.mix import Mix, cutmix, mixup, random_box
from bakeoff.errors import RecipeError

NUM, CLASSES = 6, 5


@pytest.fixture
def x() -> torch.Tensor:
    x = torch.randn(NUM, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


@pytest.fixture
def targets() -> torch.Tensor:
    return torch.eye(CLASSES)[torch.tensor([0, 1, 2, 3, 4, 1])]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_mixup_is_torchvisions(x: torch.Tensor, targets: torch.Tensor, share: float) -> None:
    reference = v2.MixUp(num_classes=CLASSES)
    labels = targets.argmax(1)
    params = {"labels": labels, "batch_size": NUM, "lam": share}
    mixed, soft = mixup(x, targets, share=share)
    torch.testing.assert_close(mixed, reference.transform(x, params))
    torch.testing.assert_close(soft, reference.transform(labels, params))


@pytest.mark.parametrize("box", [(0, 8, 0, 12), (2, 5, 3, 11), (4, 4, 0, 12), (7, 8, 11, 12)])
def test_cutmix_is_torchvisions(x: torch.Tensor, targets: torch.Tensor, box: tuple[int, int, int, int]) -> None:
    reference = v2.CutMix(num_classes=CLASSES)
    labels = targets.argmax(1)
    top, bottom, left, right = box
    share = 1 - (bottom - top) * (right - left) / (8 * 12)
    params = {"labels": labels, "batch_size": NUM, "box": (left, top, right, bottom), "lam_adjusted": share}
    mixed, soft = cutmix(x, targets, box=box)
    assert torch.equal(mixed, reference.transform(x, params))
    torch.testing.assert_close(soft, reference.transform(labels, params))


def test_cutmix_shares_labels_by_the_area_that_is_seen() -> None:
    x = torch.arange(NUM).float()[:, None, None, None].expand(NUM, 1, 7, 9).contiguous()
    source = generator(0, "test")
    for _ in range(50):
        box = random_box(source.beta(1.0, 1.0), height=7, width=9, source=source)
        mixed, soft = cutmix(x, torch.eye(NUM), box=box)
        for i in range(NUM):
            own, partner = (mixed[i] == i).float().mean(), (mixed[i] == (i - 1) % NUM).float().mean()
            torch.testing.assert_close(soft[i, i], own)
            torch.testing.assert_close(soft[i, (i - 1) % NUM], partner)


def test_boxes_have_the_expected_area_and_lie_inside() -> None:
    source = generator(0, "test")
    boxes = np.array([random_box(0.75, height=32, width=64, source=source) for _ in range(2000)])
    top, bottom, left, right = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (bottom <= 32).all()
    assert (right <= 64).all()
    whole = (bottom - top == 16) & (right - left == 32)  # not cut: sides times sqrt(1 - 0.75)
    assert abs(whole.mean() - (17 / 32) * (33 / 64)) < 0.04
    top_, bottom_, left_, right_ = random_box(1.0, height=32, width=32, source=source)
    assert (top_, left_) == (bottom_, right_)  # nothing to paste where an image keeps all of itself


@pytest.mark.parametrize("mix", [Mix(), Mix(mixup=0.8), Mix(cutmix=1.0), Mix(mixup=0.2, cutmix=1.0, probability=0.5)])
def test_targets_stay_distributions_and_inputs_stay_untouched(x: torch.Tensor, targets: torch.Tensor, mix: Mix) -> None:
    before = x.clone(), targets.clone()
    for step in range(20):
        mixed, soft = mix(x, targets, seed=0, epoch=0, step=step)
        torch.testing.assert_close(soft.sum(1), torch.ones(NUM))
        assert soft.min() >= 0
        assert mixed.shape == x.shape
        assert mixed.dtype == soft.dtype == torch.float32
        assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, before[0])
    assert torch.equal(targets, before[1])


def kinds(mix: Mix, num: int, x: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    """Count batches left alone, mixed up, cut-mixed, over `num` steps."""
    counts = np.zeros(3, dtype=int)
    for step in range(num):
        mixed, soft = mix(x, targets, seed=0, epoch=0, step=step)
        if mixed is x:
            counts[0] += 1
        else:
            kept = ((mixed == x) | (mixed == x.roll(1, 0))).all()
            counts[2 if kept and soft is not targets else 1] += 1
    return counts


def test_probability_and_switch_are_met(x: torch.Tensor, targets: torch.Tensor) -> None:
    assert kinds(Mix(), 50, x, targets).tolist() == [50, 0, 0]
    assert kinds(Mix(mixup=1.0), 50, x, targets).tolist() == [0, 50, 0]
    assert kinds(Mix(cutmix=1.0), 50, x, targets).tolist() == [0, 0, 50]
    assert kinds(Mix(mixup=1.0, cutmix=1.0, probability=0.0), 50, x, targets).tolist() == [50, 0, 0]
    assert kinds(Mix(mixup=1.0, cutmix=1.0, switch=0.0), 50, x, targets).tolist() == [0, 50, 0]
    assert kinds(Mix(mixup=1.0, cutmix=1.0, switch=1.0), 50, x, targets).tolist() == [0, 0, 50]
    counts = kinds(Mix(mixup=1.0, cutmix=1.0, probability=0.6, switch=0.25), 2000, x, targets)
    assert stats.chisquare(counts, [800, 900, 300]).pvalue > 1e-4


def test_lambda_follows_the_beta_distribution() -> None:
    x, targets = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1), torch.eye(2)
    shares = [
        Mix(mixup=0.4)(x, targets, seed=1, epoch=epoch, step=step)[0][0].item()
        for epoch in range(20)
        for step in range(50)
    ]
    assert stats.kstest(shares, "beta", args=(0.4, 0.4)).pvalue > 1e-4


def test_a_mixture_is_keyed_by_seed_epoch_and_step(x: torch.Tensor, targets: torch.Tensor) -> None:
    mix = Mix(mixup=1.0)
    first = mix(x, targets, seed=0, epoch=0, step=0)[1]
    assert torch.equal(first, mix(x, targets, seed=0, epoch=0, step=0)[1])
    others = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    for seed, epoch, step in others:
        assert not torch.equal(first, mix(x, targets, seed=seed, epoch=epoch, step=step)[1])


@pytest.mark.parametrize(
    "setting",
    [
        {"mixup": -0.1},
        {"cutmix": float("inf")},
        {"mixup": float("nan")},
        {"probability": 1.1},
        {"switch": -1},
    ],
)
def test_impossible_settings_are_named(setting: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=f"mix.{next(iter(setting))}: found {next(iter(setting.values()))}"):
        Mix(**setting)
