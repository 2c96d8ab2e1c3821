import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bakeoff.errors import RecipeError
from bakeoff.objectives.kd import SoftTargets


def pair(seed: int, *, num: int = 5, classes: int = 7, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = scale * torch.randn(2, num, classes, generator=generator, dtype=torch.float64)
    return student.requires_grad_(), teacher


def term(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    return SoftTargets(temperature=temperature)(student, teacher, torch.zeros_like(teacher))["teacher"]


def test_a_value_computed_by_hand() -> None:
    # At T = 2 the logits 2 log p have the probabilities p.
    student = 2 * torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], dtype=torch.float64))
    teacher = 2 * torch.log(torch.tensor([[0.25, 0.5, 0.25], [0.2, 0.6, 0.2]], dtype=torch.float64))
    first = 0.25 * math.log(0.25 / 0.5) + 0.5 * math.log(0.5 / 0.25)
    second = 2 * 0.2 * math.log(0.2 / 0.1) + 0.6 * math.log(0.6 / 0.8)
    assert term(student, teacher, temperature=2.0).item() == pytest.approx(4 * (first + second) / 2, rel=1e-12)


@given(st.integers(0, 10**6), st.floats(0.5, 20))
def test_it_is_the_formula(seed: int, temperature: float) -> None:
    student, teacher = pair(seed)
    exponents = [np.exp(z.detach().numpy() / temperature) for z in (student, teacher)]
    q, p = (e / e.sum(axis=1, keepdims=True) for e in exponents)
    expected = temperature**2 * (p * np.log(p / q)).sum(axis=1).mean()
    assert term(student, teacher, temperature=temperature).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.integers(0, 10**6))
def test_at_temperature_one_it_is_cross_entropy_less_the_teachers_entropy(seed: int) -> None:
    student, teacher = pair(seed)
    p = teacher.softmax(1)
    entropy = -(p * p.log()).sum(1).mean()
    torch.testing.assert_close(term(student, teacher, temperature=1.0), F.cross_entropy(student, p) - entropy)


@given(st.integers(0, 10**6))
def test_at_a_high_temperature_its_gradient_is_that_of_centred_regression(seed: int) -> None:
    student, teacher = pair(seed)
    (gradient,) = torch.autograd.grad(term(student, teacher, temperature=1e5), student)
    centred = [z - z.mean(1, keepdim=True) for z in (student.detach(), teacher)]
    expected = (centred[0] - centred[1]) / student.size(1) / student.size(0)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)


def test_a_student_that_says_the_same_has_nothing_to_learn() -> None:
    _, teacher = pair(0)
    student = (teacher + 3).requires_grad_()  # the same probabilities
    loss = term(student, teacher, temperature=4.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(student.grad, torch.zeros_like(teacher))


def test_certain_teachers_and_students_give_finite_numbers() -> None:
    student = torch.tensor([[500.0, 0.0, -500.0]], requires_grad=True)
    loss = term(student, torch.tensor([[-500.0, 0.0, 500.0]]), temperature=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(1000)
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_is_above_zero(temperature: float) -> None:
    with pytest.raises(RecipeError, match=r"objective\.temperature: found .*; expected a number above 0"):
        SoftTargets(temperature=temperature)
