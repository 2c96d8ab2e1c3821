import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bakeoff.errors import RecipeError
from bakeoff.objectives.dist import Correlation, mean_correlation


def pair(seed: int, *, num: int = 6, classes: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 2 * torch.randn(2, num, classes, generator=generator, dtype=torch.float64)
    return student.requires_grad_(), teacher


def terms(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> dict[str, Tensor]:
    term = Correlation(temperature=temperature, inter_weight=1.0, intra_weight=1.0)
    return term(student, teacher, torch.zeros_like(teacher))


@given(st.integers(0, 10**6), st.floats(0.5, 8))
def test_it_is_pearsons_correlation(seed: int, temperature: float) -> None:
    student, teacher = pair(seed)
    exponents = [np.exp(z.detach().numpy() / temperature) for z in (student, teacher)]
    q, p = (e / e.sum(axis=1, keepdims=True) for e in exponents)
    rows = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)]
    columns = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q.T, p.T, strict=True)]
    term = Correlation(temperature=temperature, inter_weight=2.0, intra_weight=3.0)
    found = term(student, teacher, torch.zeros_like(teacher))
    assert list(found) == ["inter", "intra"] == list(Correlation.names)
    # The reference has no floor under its divisor.
    assert found["inter"].item() == pytest.approx(2 * temperature**2 * np.mean(rows), rel=1e-4, abs=1e-4)
    assert found["intra"].item() == pytest.approx(3 * temperature**2 * np.mean(columns), rel=1e-4, abs=1e-4)


def test_a_value_computed_by_hand() -> None:
    a = torch.tensor([[1.0, 2.0, 3.0], [1.0, 0.0, 1.0]], dtype=torch.float64)
    b = torch.tensor([[2.0, 2.0, 5.0], [0.0, 3.0, 0.0]], dtype=torch.float64)
    first = 3 / math.sqrt(2 * 6)  # (-1, 0, 1) and (-1, -1, 2)
    assert mean_correlation(a, b, dim=1).item() == pytest.approx((first - 1) / 2, rel=1e-7)
    assert mean_correlation(a.T, b.T, dim=0).item() == pytest.approx((first - 1) / 2, rel=1e-7)


@given(st.integers(0, 10**6), st.floats(0.5, 10), st.floats(-5, 5))
def test_scale_and_shift_of_a_row_do_not_matter(seed: int, scale: float, shift: float) -> None:
    a, b = (z.detach() for z in pair(seed))
    torch.testing.assert_close(mean_correlation(scale * a + shift, b, dim=1), mean_correlation(a, b, dim=1))
    assert mean_correlation(scale * b + shift, b, dim=1).item() == pytest.approx(1, abs=1e-6)
    assert mean_correlation(-scale * b + shift, b, dim=1).item() == pytest.approx(-1, abs=1e-6)


def test_a_student_that_says_the_same_has_nothing_to_learn() -> None:
    _, teacher = pair(0)
    student = (teacher + 1).requires_grad_()
    found = terms(student, teacher, temperature=4.0)
    (found["inter"] + found["intra"]).backward()
    assert found["inter"].item() == pytest.approx(0, abs=1e-5)
    assert found["intra"].item() == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(student.grad, torch.zeros_like(teacher), rtol=0, atol=1e-5)


def test_the_order_of_the_batch_does_not_matter() -> None:
    student, teacher = pair(1)
    order = torch.randperm(len(teacher), generator=torch.Generator().manual_seed(0))
    before, after = terms(student, teacher), terms(student[order], teacher[order])
    for name in Correlation.names:
        torch.testing.assert_close(before[name], after[name])


@pytest.mark.parametrize("num", [1, 3])
def test_equal_numbers_have_a_finite_gradient(num: int) -> None:
    student = torch.zeros(num, 4, requires_grad=True)
    found = terms(student, torch.randn(num, 4, generator=torch.Generator().manual_seed(0)))
    (found["inter"] + found["intra"]).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_one_image_says_nothing_of_a_class() -> None:
    student, teacher = pair(2, num=1)
    terms(student, teacher)["intra"].backward()
    torch.testing.assert_close(student.grad, torch.zeros_like(teacher))


@pytest.mark.parametrize("option", ["temperature", "inter_weight", "intra_weight"])
def test_mistakes_are_named(option: str) -> None:
    options = {"temperature": 1.0, "inter_weight": 1.0, "intra_weight": 1.0, option: -1.0}
    with pytest.raises(RecipeError, match=rf"objective\.{option}: found -1.0; expected"):
        Correlation(**options)
