import pytest
import torch
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.objectives.fitnets import Hints
from bakeoff.objectives.outcome import Shape


def maps(*shapes: Shape, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(4, *shape, generator=generator, dtype=torch.float64) for shape in shapes)


def test_a_value_computed_by_hand() -> None:
    hints = Hints(stage=1, student=[(1, 1, 2)], teacher=[(1, 1, 2)]).double().eval()
    conv, norm, _ = hints.regressor
    with torch.no_grad():
        conv.weight.fill_(3)
        conv.bias.fill_(-1)
        norm.eps = 0.0
        norm.running_mean.fill_(1)
        norm.running_var.fill_(4)
    student = torch.tensor([[[[2.0, 0.0]]]], dtype=torch.float64)  # 3x - 1: 5, -1; (x - 1) / 2: 2, -1; ReLU: 2, 0
    teacher = torch.tensor([[[[5.0, 0.5]]]], dtype=torch.float64)
    assert hints((student,), (teacher,))["hints"].item() == pytest.approx((9 + 0.25) / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("student", "teacher", "kind", "kernel", "stride"),
    [
        ((3, 8, 8), (5, 8, 8), nn.Conv2d, (1, 1), (1, 1)),
        ((3, 8, 8), (5, 4, 4), nn.Conv2d, (3, 3), (2, 2)),
        ((3, 4, 4), (5, 8, 8), nn.ConvTranspose2d, (4, 4), (2, 2)),
        ((3, 7, 7), (5, 4, 4), nn.Conv2d, (4, 4), (1, 1)),
        ((3, 8, 8), (5, 2, 2), nn.Conv2d, (7, 7), (1, 1)),
        ((3, 8, 6), (5, 4, 6), nn.Conv2d, (5, 1), (1, 1)),
    ],
)
def test_the_regressor_takes_one_size_to_the_other(
    student: Shape, teacher: Shape, kind: type, kernel: tuple[int, int], stride: tuple[int, int]
) -> None:
    hints = Hints(stage=1, student=[student], teacher=[teacher]).double()
    conv = hints.regressor[0]
    assert type(conv) is kind
    assert (conv.kernel_size, conv.stride) == (kernel, stride)
    ours, theirs = maps(student, teacher)
    assert hints.regressor(ours).shape == theirs.shape
    assert hints((ours,), (theirs,))["hints"].shape == ()


def test_only_its_stage_is_compared_and_student_and_regressor_learn() -> None:
    shapes = [(2, 8, 8), (3, 4, 4), (4, 2, 2)]
    hints = Hints(stage=2, student=shapes, teacher=shapes).double()
    student = tuple(m.requires_grad_() for m in maps(*shapes))
    hints(student, maps(*shapes, seed=1))["hints"].backward()
    assert [m.grad is not None for m in student] == [False, True, False]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in hints.parameters())


def test_it_can_be_learnt() -> None:
    hints = Hints(stage=1, student=[(4, 4, 4)], teacher=[(4, 4, 4)]).double()
    (student,) = maps((4, 4, 4))
    teacher = hints.regressor(student).detach()  # what some regressor foretells
    assert hints((student,), (teacher,))["hints"].item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("stage", [0, 3])
def test_a_stage_is_one_that_both_have(stage: int) -> None:
    message = rf"objective\.stage: found {stage}; expected 1 to 2, the stages that both have"
    with pytest.raises(RecipeError, match=message):
        Hints(stage=stage, student=[(1, 4, 4)] * 3, teacher=[(1, 4, 4)] * 2)


@pytest.mark.parametrize("teacher", [(16, 16, 16), (16, 5, 4), (16, 4, 5)])
def test_maps_that_no_convolution_takes_there_are_refused(teacher: Shape) -> None:
    shape = "x".join(map(str, teacher))
    with pytest.raises(RecipeError, match=rf"found a student whose maps are 8x4x4, and a teacher's of {shape}"):
        Hints(stage=1, student=[(8, 4, 4)], teacher=[teacher])
