import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bakeoff.errors import RecipeError
from bakeoff.objectives.attention_transfer import AttentionTransfer, attention, pool
from bakeoff.objectives.outcome import Shape


def maps(*shapes: Shape, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(3, *shape, generator=generator, dtype=torch.float64) for shape in shapes)


def test_a_value_computed_by_hand() -> None:
    student = torch.tensor([[[[1.0, 2.0]], [[1.0, 0.0]]]], dtype=torch.float64)  # sums of squares 2, 4
    teacher = torch.tensor([[[[3.0, 0.0]]]], dtype=torch.float64)  # 9, 0: the unit vector (1, 0)
    term = AttentionTransfer(student=[(2, 1, 2)] * 2, teacher=[(1, 1, 2)] * 2)
    found = term((student, student), (teacher, teacher))["attention"].item()
    a, b = 2 / math.sqrt(20), 4 / math.sqrt(20)
    assert found == pytest.approx(2 * ((a - 1) ** 2 + b**2) / 2, rel=1e-12)  # two stages; the mean of two positions


@given(st.integers(0, 10**6), st.floats(0.1, 50))
def test_the_size_and_the_sign_of_maps_do_not_matter(seed: int, scale: float) -> None:
    shapes = [(4, 6, 6), (5, 3, 3)]
    student = maps(*shapes, seed=seed)
    term = AttentionTransfer(student=shapes, teacher=shapes)
    teacher = tuple(-scale * m.roll(1, dims=1) for m in student)
    assert term(student, teacher)["attention"].item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("size", [(8, 8), (4, 4), (4, 8), (1, 1), (3, 3), (5, 7), (8, 3)])
def test_pooling_is_torchs_adaptive_pooling(size: tuple[int, int]) -> None:
    (x,) = maps((2, 8, 8))
    x.requires_grad_()
    weights = torch.randn(3, 2, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = pool(x, size), F.adaptive_avg_pool2d(x, size)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad((out * weights).sum(), x)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("student", "teacher"), [((4, 8, 8), (6, 4, 4)), ((4, 4, 4), (6, 8, 8)), ((4, 8, 4), (6, 4, 7))]
)
def test_the_larger_maps_are_averaged_to_the_smaller(student: Shape, teacher: Shape) -> None:
    ours, theirs = maps(student, teacher)
    size = (min(student[1], teacher[1]), min(student[2], teacher[2]))
    found = AttentionTransfer(student=[student], teacher=[teacher])((ours,), (theirs,))["attention"]
    small = [attention(F.adaptive_avg_pool2d(m, size)) for m in (ours, theirs)]
    torch.testing.assert_close(found, (small[0] - small[1]).square().mean())


def test_all_stages_learn_and_dead_maps_do_no_harm() -> None:
    shapes = [(4, 6, 6), (5, 3, 3)]
    student = tuple(m.requires_grad_() for m in maps(*shapes))
    dead = torch.zeros(3, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    term = AttentionTransfer(student=shapes, teacher=shapes)
    assert not list(term.parameters())
    assert term.names == tuple(term(student, maps(*shapes, seed=1)))
    for first in (student[0], dead):
        term((first, student[1]), maps(*shapes, seed=1))["attention"].backward()
    for m in (*student, dead):
        assert m.grad is not None
        assert m.grad.isfinite().all()
    assert all(m.grad.abs().max() > 0 for m in student if m.grad is not None)


def test_both_have_as_many_stages() -> None:
    with pytest.raises(RecipeError, match="objective: found a student of 3 stages and a teacher of 2; expected"):
        AttentionTransfer(student=[(1, 4, 4)] * 3, teacher=[(1, 4, 4)] * 2)
