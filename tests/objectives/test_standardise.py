import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bakeoff.objectives.dkd import Decoupled
from bakeoff.objectives.kd import SoftTargets
from bakeoff.objectives.standardise import Standardised, standardise

GENERATOR = torch.Generator().manual_seed(0)
STUDENT, TEACHER = torch.randn(2, 4, 6, generator=GENERATOR, dtype=torch.float64)
TARGETS = torch.eye(6, dtype=torch.float64)[:4]
TERMS = {
    "kd": SoftTargets(temperature=2.0),
    "dkd": Decoupled(temperature=2.0, target_weight=1.0, non_target_weight=8.0, warmup=0.1),
}


def test_values_computed_by_hand() -> None:
    found = standardise(torch.tensor([[1.0, 2.0, 6.0]], dtype=torch.float64))
    spread = math.sqrt((4 + 1 + 9) / 2)
    expected = torch.tensor([[-2, -1, 3]], dtype=torch.float64) / spread
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", TERMS)
@given(scale=st.floats(0.1, 50), shift=st.floats(-20, 20))
def test_scale_and_shift_of_a_row_do_not_matter(name: str, scale: float, shift: float) -> None:
    term = Standardised(TERMS[name])
    before = term(STUDENT, TEACHER, TARGETS, progress=0.5)
    scales = torch.tensor([[scale], [1.0], [2.0], [3.0]], dtype=torch.float64)  # each row its own
    for student, teacher in ((scales * STUDENT + shift, TEACHER), (STUDENT, scales * TEACHER + shift)):
        after = term(student, teacher, TARGETS, progress=0.5)
        for part in term.names:
            torch.testing.assert_close(before[part], after[part])


def test_it_is_the_term_on_standardised_logits() -> None:
    for term in TERMS.values():
        found = Standardised(term)(STUDENT, TEACHER, TARGETS, progress=0.05)
        expected = term(standardise(STUDENT), standardise(TEACHER), TARGETS, progress=0.05)
        assert found == expected
        assert Standardised(term).names == term.names == tuple(found)


def test_equal_logits_have_a_finite_gradient_of_a_usual_size() -> None:
    student = torch.full((4, 6), 3.0, dtype=torch.float64, requires_grad=True)
    loss = Standardised(TERMS["kd"])(student, TEACHER, TARGETS, progress=0.5)["teacher"]
    loss.backward()
    assert student.grad is not None
    assert 0 < student.grad.abs().max() < 100
