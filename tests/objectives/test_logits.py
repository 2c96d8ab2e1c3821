import pytest
import torch

from bakeoff.objectives.logits import LogitRegression


def test_a_value_computed_by_hand() -> None:
    student = torch.tensor([[1.0, 2.0], [0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[0.0, 4.0], [3.0, -1.0]], dtype=torch.float64)
    loss = LogitRegression()(student, teacher, torch.zeros_like(teacher))["teacher"]
    loss.backward()
    assert loss.item() == pytest.approx((1 + 4 + 9 + 0) / 4, rel=1e-12)
    torch.testing.assert_close(student.grad, (student.detach() - teacher) / 2)


def test_half_the_number_of_classes_makes_it_the_papers() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 10, generator=generator, dtype=torch.float64)
    paper = sum(float(((s - t) ** 2).sum()) for s, t in zip(student, teacher, strict=True)) / (2 * 6)
    ours = LogitRegression()(student, teacher, torch.zeros_like(teacher))["teacher"]
    assert 10 / 2 * ours.item() == pytest.approx(paper, rel=1e-12)


def test_logits_are_not_centred() -> None:
    teacher = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert LogitRegression()(teacher, teacher, teacher)["teacher"].item() == 0
    assert LogitRegression()(teacher + 2, teacher, teacher)["teacher"].item() == pytest.approx(4)
