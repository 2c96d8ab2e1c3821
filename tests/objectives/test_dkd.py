import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bakeoff.errors import RecipeError
from bakeoff.objectives.dkd import Decoupled
from bakeoff.objectives.kd import SoftTargets


def make(
    *, temperature: float = 1.0, target_weight: float = 1.0, non_target_weight: float = 1.0, warmup: float = 0.0
) -> Decoupled:
    return Decoupled(
        temperature=temperature, target_weight=target_weight, non_target_weight=non_target_weight, warmup=warmup
    )


def case(seed: int, *, num: int = 5, classes: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 3 * torch.randn(2, num, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (num,), generator=generator)
    return student.requires_grad_(), teacher, F.one_hot(labels, classes).double()


def test_values_computed_by_hand() -> None:
    # At T = 2 the logits 2 log p have the probabilities p. The class is the second.
    student = 2 * torch.log(torch.tensor([[0.5, 0.4, 0.1]], dtype=torch.float64))
    teacher = 2 * torch.log(torch.tensor([[0.1, 0.7, 0.2]], dtype=torch.float64))
    targets = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    found = make(temperature=2.0, target_weight=3.0, non_target_weight=5.0)(student, teacher, targets)
    target = 0.7 * math.log(0.7 / 0.4) + 0.3 * math.log(0.3 / 0.6)
    non_target = 1 / 3 * math.log((1 / 3) / (5 / 6)) + 2 / 3 * math.log((2 / 3) / (1 / 6))
    assert list(found) == ["target", "non_target"] == list(Decoupled.names)
    assert found["target"].item() == pytest.approx(3 * 4 * target, rel=1e-12)
    assert found["non_target"].item() == pytest.approx(5 * 4 * non_target, rel=1e-12)


@given(st.integers(0, 10**6), st.floats(0.5, 10), st.integers(2, 12))
def test_coupled_again_it_is_hintons(seed: int, temperature: float, classes: int) -> None:
    student, teacher, targets = case(seed, classes=classes)
    for s, t, y in zip(student.detach(), teacher, targets, strict=True):
        row = s[None].requires_grad_()
        rest = 1 - float((t / temperature).softmax(0) @ y)
        decoupled = make(temperature=temperature, non_target_weight=rest)(row, t[None], y[None])
        coupled = SoftTargets(temperature=temperature)(row, t[None], y[None])["teacher"]
        total = decoupled["target"] + decoupled["non_target"]
        torch.testing.assert_close(total, coupled, rtol=1e-7, atol=1e-10)
        gradients = [torch.autograd.grad(loss, row)[0] for loss in (total, coupled)]
        torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-10)


def test_a_student_that_says_the_same_has_nothing_to_learn() -> None:
    _, teacher, targets = case(0)
    student = (teacher - 1).requires_grad_()
    loss = torch.stack(list(make(temperature=4.0)(student, teacher, targets).values())).sum()
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(student.grad, torch.zeros_like(teacher))


def test_each_part_sees_only_its_own() -> None:
    student, teacher, targets = case(1)
    is_target = targets.bool()
    moved = torch.where(is_target, student + 2, student)  # another certainty, the same ranking of the others
    before, after = (make()(s, teacher, targets) for s in (student, moved))
    torch.testing.assert_close(before["non_target"], after["non_target"])
    assert not torch.isclose(before["target"], after["target"])


def test_the_heavier_label_of_a_mixture_is_the_class() -> None:
    student, teacher, _ = case(2, num=3, classes=4)
    mixed = torch.tensor([[0.3, 0.7, 0.0, 0.0], [0.0, 0.45, 0.0, 0.55], [0.5, 0.0, 0.5, 0.0]], dtype=torch.float64)
    heavier = F.one_hot(torch.tensor([1, 3, 0]), 4).double()
    found, expected = (make(temperature=4.0)(student, teacher, targets) for targets in (mixed, heavier))
    assert all(torch.equal(found[name], expected[name]) for name in Decoupled.names)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.9, 1.0)])
def test_both_weights_grow_over_the_warmup(progress: float, share: float) -> None:
    student, teacher, targets = case(3)
    found = make(warmup=0.1)(student, teacher, targets, progress=progress)
    full = make(warmup=0.0)(student, teacher, targets, progress=progress)
    for name in Decoupled.names:
        torch.testing.assert_close(found[name], share * full[name])


def test_certain_teachers_and_students_give_finite_numbers() -> None:
    student = torch.tensor([[800.0, 0.0, -800.0], [0.0, 0.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[-800.0, 0.0, 800.0], [900.0, 0.0, 0.0]])
    found = make()(student, teacher, torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    torch.stack(list(found.values())).sum().backward()
    assert all(value.isfinite() for value in found.values())
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(
    ("option", "value"),
    [("temperature", 0.0), ("target_weight", -1.0), ("non_target_weight", math.inf), ("warmup", 1.1), ("warmup", -0.1)],
)
def test_mistakes_are_named(option: str, value: float) -> None:
    with pytest.raises(RecipeError, match=rf"objective\.{option}: found {value}; expected"):
        make(**{option: value})
