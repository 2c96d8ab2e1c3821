import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from bakeoff.data.draws import Draws
from bakeoff.data.policies import KERNEL_OF, KERNELS, NUM_BINS, OPERATIONS, Choice, Policy, apply

NUM = 28_000


def draws(num: int = NUM, *, epoch: int = 0) -> Draws:
    return Draws(seed=0, epoch=epoch, index=torch.arange(num))


def some_pixels(num: int, channels: int = 3) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num, 12, 12, channels), dtype=torch.uint8, generator=random)


def test_each_operation_has_its_kernel() -> None:
    assert [KERNELS[place] for place in KERNEL_OF] == list(OPERATIONS.values())


@pytest.mark.parametrize("kind", ["trivial", "rand"])
def test_operations_strengths_and_signs_are_equally_likely(kind: str) -> None:
    policy = Policy(kind=kind, num_ops=2, height=32, width=32)  # type: ignore[arg-type]
    rounds = policy.plan(draws())
    for choice in rounds:
        expected = np.bincount(KERNEL_OF, minlength=len(KERNELS)) * NUM / len(OPERATIONS)
        assert stats.chisquare(np.bincount(choice.kernel), expected).pvalue > 1e-4
        brightness = choice.strength[choice.kernel == KERNEL_OF[list(OPERATIONS).index("brightness")], 0]
        levels, counts = np.unique(brightness, return_counts=True)
        if kind == "rand":
            np.testing.assert_allclose(levels, [-0.27, 0.27], rtol=1e-6)  # level 9 of 0 to 0.9 in 31
            assert stats.chisquare(counts).pvalue > 1e-4
        else:
            np.testing.assert_allclose(levels, np.linspace(-0.99, 0.99, 2 * NUM_BINS - 1), atol=1e-6)
            odds = np.full(2 * NUM_BINS - 1, 0.5 / NUM_BINS)
            odds[NUM_BINS - 1] *= 2  # nothing has no sign
            assert stats.chisquare(counts, odds * counts.sum()).pvalue > 1e-4


def test_rounds_are_independent() -> None:
    first, second = Policy(kind="rand", num_ops=2, height=32, width=32).plan(draws())
    table = np.zeros((len(KERNELS), len(KERNELS)), dtype=int)
    np.add.at(table, (first.kernel, second.kernel), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-4


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_its_images_one_by_one(channels: int) -> None:
    pixels = some_pixels(60, channels)
    before = pixels.clone()
    policy = Policy(kind="trivial", height=12, width=12)
    (choice,) = policy.plan(draws(60))
    assert set(choice.kernel) == set(range(len(KERNELS)))
    together = apply(pixels, choice)
    for i in range(60):
        alone = KERNELS[choice.kernel[i]](pixels[i : i + 1], torch.from_numpy(choice.strength[i : i + 1]))
        assert torch.equal(together[i], alone[0]), i
    assert torch.equal(pixels, before)
    halves = [apply(pixels[rows], choice[rows]) for rows in (slice(0, 17), slice(17, 60))]
    assert torch.equal(torch.cat(halves), together)


def test_a_batch_of_one_operation_works() -> None:
    pixels = some_pixels(4)
    for kernel in range(len(KERNELS)):
        choice = Choice(kernel=np.full(4, kernel), strength=np.zeros((4, 6), dtype=np.float32))
        assert apply(pixels, choice).shape == pixels.shape


def test_a_choice_is_keyed_by_epoch_and_image() -> None:
    policy = Policy(kind="trivial", height=12, width=12)
    (first,), (again,), (later,) = (policy.plan(draws(200, epoch=epoch)) for epoch in (0, 0, 1))
    (some,) = policy.plan(Draws(seed=0, epoch=0, index=torch.tensor([150, 3])))
    np.testing.assert_array_equal(first.strength, again.strength)
    np.testing.assert_array_equal(first.kernel[[150, 3]], some.kernel)
    np.testing.assert_array_equal(first.strength[[150, 3]], some.strength)
    assert (first.kernel != later.kernel).mean() > 0.5
