from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff import objectives
from bakeoff.errors import RecipeError
from bakeoff.objectives import OBJECTIVES, TAPS, TAUGHT, Distill, Objective, Taught
from bakeoff.objectives.kd import SoftTargets

CLASSES = 5
STUDENT = [(4, 8, 8), (6, 4, 4)]
TEACHER = [(6, 8, 8), (8, 4, 4)]


class Net(nn.Module):
    """Two stages and a classifier."""

    def __init__(self, *widths: int, taps: bool) -> None:
        super().__init__()
        self.taps = taps
        self.first = nn.Conv2d(3, widths[0], 3, padding=1)
        self.second = nn.Conv2d(widths[0], widths[1], 3, stride=2, padding=1)
        self.head = nn.Linear(widths[1], CLASSES)

    def forward(self, x: Tensor) -> Any:
        first = self.first(x).relu()
        second = self.second(first).relu()
        logits = self.head(second.mean((2, 3)))
        return (logits, (first, second)) if self.taps else logits


class Recorder(nn.Module):
    """A teacher that remembers what it was shown, and whether gradients were on."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.seen: list[tuple[Tensor, bool]] = []

    def forward(self, x: Tensor) -> Taught:
        self.seen.append((x, torch.is_grad_enabled()))
        logits, maps = self.net(x)
        return Taught(logits=logits.float() if logits.dtype == torch.bfloat16 else logits, maps=maps)


def make(name: str, **options: object) -> tuple[Objective, Net, Recorder]:
    torch.manual_seed(0)
    student = Net(4, 6, taps=name in TAPS)
    teacher = Recorder(Net(6, 8, taps=True))
    shapes = (STUDENT, TEACHER) if name in TAPS else None
    objective = objectives.build(name, teacher=teacher if name in TAUGHT else None, shapes=shapes, **options)
    return objective, student, teacher


def batch(num: int = 6) -> tuple[Tensor, Tensor]:
    """Pictures, and targets of which half are mixed."""
    generator = torch.Generator().manual_seed(1)
    one, other = (F.one_hot(torch.randint(CLASSES, (num,), generator=generator), CLASSES).float() for _ in range(2))
    share = torch.tensor([1.0, 0.7] * (num // 2))[:, None]
    return torch.randn(num, 3, 8, 8, generator=generator), share * one + (1 - share) * other


DISTILLATIONS = sorted(TAUGHT)
ALL = [(name, {}) for name in DISTILLATIONS]
ALL += [(name, {"standardise": True}) for name in DISTILLATIONS if name not in TAPS]
each = pytest.mark.parametrize(("name", "options"), ALL, ids=lambda part: str(part))


@each
def test_terms_sum_to_the_loss_and_are_named_beforehand(name: str, options: dict[str, object]) -> None:
    objective, student, _ = make(name, **options, label_smoothing=0.1)
    assert isinstance(objective, Distill)
    x, targets = batch()
    outcome = objective(student, x, targets, progress=0.5)
    assert tuple(outcome.terms) == objective.names
    assert objective.names[0] == "labels"
    assert all(term.shape == () and not term.requires_grad for term in outcome.terms.values())
    torch.testing.assert_close(torch.stack(list(outcome.terms.values())).sum(), outcome.loss.detach())
    assert all(term > 0 for term in outcome.terms.values())
    logits = student(x)[0] if name in TAPS else student(x)
    assert torch.equal(outcome.logits, logits)


@each
def test_the_student_learns_and_the_teacher_does_not(name: str, options: dict[str, object]) -> None:
    objective, student, teacher = make(name, **options)
    assert isinstance(objective, Distill)
    x, targets = batch()
    objective(student, x, targets, progress=0.5).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())
    own = list(objective.parameters())
    assert bool(own) == (name == "fitnets")
    assert all(p.grad is not None for p in own)
    assert not {id(p) for p in own} & {id(p) for p in teacher.parameters()}
    assert teacher not in set(objective.modules())
    ((seen, gradients_on),) = teacher.seen
    assert seen is x
    assert not gradients_on


@each
def test_the_teachers_part_alone_can_be_minimised(name: str, options: dict[str, object]) -> None:
    objective, student, _ = make(name, **options, label_weight=0.0)
    assert isinstance(objective, Distill)
    x, targets = batch()
    optimizer = torch.optim.Adam([*student.parameters(), *objective.parameters()], lr=0.01)
    losses = []
    for _ in range(30):
        outcome = objective(student, x, targets, progress=0.5)
        assert outcome.terms["labels"] == 0
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        losses.append(outcome.loss.item())
    assert losses[-1] < 0.8 * losses[0]


@each
def test_without_the_teachers_weight_it_is_classification(name: str, options: dict[str, object]) -> None:
    objective, student, _ = make(name, **options, label_weight=2.0, teacher_weight=0.0, label_smoothing=0.2)
    x, targets = batch()
    found = objective(student, x, targets, progress=0.5)
    student.taps = False
    plain = objectives.build("classify", label_smoothing=0.2)(student, x, targets, progress=0.5)
    torch.testing.assert_close(found.loss, 2 * plain.loss)
    assert plain.terms == {}


@each
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_under_autocast_losses_are_computed_in_float32(
    name: str, options: dict[str, object], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    objective, student, teacher = make(name, **options)
    assert isinstance(objective, Distill)
    for module in (objective, student, teacher):
        module.to(device)
    x, targets = (tensor.to(device) for tensor in batch())
    exact = objective(student, x, targets, progress=0.5)
    torch.use_deterministic_algorithms(device == "cuda")
    try:
        with torch.autocast(device, dtype=torch.bfloat16):
            found = objective(student, x, targets, progress=0.5)
        found.loss.backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert {found.logits.dtype, found.loss.dtype, *(t.dtype for t in found.terms.values())} == {torch.float32}
    torch.testing.assert_close(found.loss, exact.loss, rtol=0.05, atol=0.05)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())


@pytest.mark.parametrize("name", [name for name in DISTILLATIONS if name not in TAPS])
def test_bfloat16_logits_lose_nothing_more(name: str) -> None:
    """The loss of logits that are bfloat16 is that of the same numbers in float32."""
    logits = (3 * torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(2))).bfloat16()
    taught = Taught(logits=torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(3)))
    objective = objectives.build(name, teacher=lambda _: taught)
    _, targets = batch()
    coarse, fine = (objective(nn.Identity(), z, targets, progress=0.5) for z in (logits, logits.float()))
    assert coarse.loss.dtype == torch.float32
    assert torch.equal(coarse.loss, fine.loss)


@each
def test_nothing_waits_for_the_device(name: str, options: dict[str, object]) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        called: set[str] = set()  # noqa: RUF012

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.called.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    objective, student, _ = make(name, **options)
    x, targets = batch()
    with Watch() as watch:  # type: ignore[no-untyped-call]
        objective(student, x, targets, progress=0.5).loss.backward()
    assert "cross_entropy_loss" in watch.called or "_log_softmax" in watch.called
    assert not watch.called & {"_local_scalar_dense", "nonzero", "masked_select", "unique", "equal"}


def test_a_teacher_that_is_the_student_adds_nothing() -> None:
    for name in sorted(set(DISTILLATIONS) - {"fitnets"}):  # whose regressor stands between
        torch.manual_seed(0)
        student = Net(4, 6, taps=name in TAPS).double()

        def teacher(x: Tensor, student: Net = student) -> Taught:
            out = student(x)
            return Taught(logits=out[0], maps=out[1]) if student.taps else Taught(logits=out)

        shapes = (STUDENT, STUDENT) if name in TAPS else None
        objective = objectives.build(name, teacher=teacher, shapes=shapes)
        x, targets = (tensor.double() for tensor in batch())
        # Louder pictures, since correlations of what hardly varies are pulled to zero by the floor under their divisor.
        terms = dict(objective(student, 30 * x, targets, progress=0.5).terms)
        assert terms.pop("labels") > 0
        assert all(abs(term) < (0.01 if name == "dist" else 1e-10) for term in terms.values()), (name, terms)


def test_one_objective_can_have_a_loss_of_either_kind() -> None:
    from bakeoff.objectives.attention_transfer import AttentionTransfer

    _, student, teacher = make("attention_transfer")
    objective = Distill(
        teacher=teacher,
        logit_term=SoftTargets(temperature=4.0),
        map_term=AttentionTransfer(student=STUDENT, teacher=TEACHER),
        label_weight=1.0,
        teacher_weight=2.0,
    )
    x, targets = batch()
    outcome = objective(student, x, targets)
    assert objective.names == tuple(outcome.terms) == ("labels", "teacher", "attention")
    assert objective.needs_maps
    single = {}
    for name in ("kd", "attention_transfer"):
        built, _, _ = make(name, label_weight=1.0, teacher_weight=2.0)
        student.taps = name in TAPS
        single |= built(student, x, targets).terms
    assert outcome.terms == {name: single[name] for name in objective.names}


@pytest.mark.parametrize("name", [name for name in DISTILLATIONS if name not in TAPS])
def test_standardised_it_does_not_see_the_size_of_logits(name: str) -> None:
    logits, taught = 2 * torch.randn(2, 6, CLASSES, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    targets = batch()[1].double()
    for standardise in (False, True):
        objective = objectives.build(
            name, teacher=lambda _: Taught(logits=taught), label_weight=0.0, standardise=standardise
        )
        one, other = (objective(nn.Identity(), z, targets, progress=0.5).loss for z in (logits, 3 * logits + 1))
        assert torch.isclose(one, other) == standardise


def test_the_progress_of_the_run_reaches_the_loss() -> None:
    objective, student, _ = make("dkd", warmup=0.5)
    x, targets = batch()
    early, late = (objective(student, x, targets, progress=progress).terms for progress in (0.125, 0.75))
    torch.testing.assert_close(4 * early["target"], late["target"])
    assert objective(student, x, targets).terms["non_target"] == 0


def test_options_are_what_they_were_said_to_be() -> None:
    import inspect

    common = {"label_weight": 1.0, "teacher_weight": 1.0, "label_smoothing": 0.0}
    logits = {**common, "standardise": False}
    assert {name: inspect.getfullargspec(made).kwonlydefaults for name, made in OBJECTIVES.items()} == {
        "classify": {"label_smoothing": 0.0, "focal_gamma": 0.0, "class_weights": None},
        "kd": {**logits, "temperature": 4.0, "label_weight": 0.1, "teacher_weight": 0.9},
        "logits": logits,
        "dkd": {**logits, "temperature": 4.0, "target_weight": 1.0, "non_target_weight": 8.0, "warmup": 1 / 12},
        "dist": {**logits, "temperature": 4.0, "inter_weight": 2.0, "intra_weight": 2.0},
        "fitnets": {**common, "stage": 2, "teacher_weight": 100.0},
        "attention_transfer": {**common, "teacher_weight": 1000.0},
    }
    parts = {name: set(inspect.signature(made).parameters) for name, made in OBJECTIVES.items()}
    assert {name for name, given in parts.items() if "teacher" in given} == TAUGHT
    assert {name for name, given in parts.items() if "shapes" in given} == TAPS


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("kd", {"temprature": 2}, r"found 'temprature'; expected one of .*\. Did you mean 'temperature'\?"),
        ("fitnets", {"standardise": True}, "found 'standardise'; expected one of stage, label_weight"),
        ("kd", {"temperature": 0.0}, r"objective\.temperature: found 0.0; expected a number above 0"),
        ("kd", {"label_weight": -1.0}, r"objective\.label_weight: found -1.0; expected a number from 0"),
        ("dist", {"teacher_weight": float("nan")}, r"objective\.teacher_weight: found nan"),
        (
            "dkd",
            {"label_weight": 0.0, "teacher_weight": 0.0},
            r"objective\.label_weight: found 0, and a teacher_weight",
        ),
        ("logits", {"label_smoothing": 1.0}, r"objective\.label_smoothing: found 1.0; expected a fraction in \[0, 1\)"),
        ("fitnets", {"stage": 3}, r"objective\.stage: found 3; expected 1 to 2, the stages that both have"),
    ],
)
def test_mistakes_are_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(name, **options)


def test_what_needs_a_teacher_has_one_and_nothing_else_does() -> None:
    for name in TAUGHT:
        message = rf"objective: found {name} without a teacher; expected a teacher: teacher=RUN\."
        with pytest.raises(RecipeError, match=message):
            objectives.build(name, shapes=(STUDENT, TEACHER))
    with pytest.raises(
        RecipeError, match="objective: found classify with a teacher; expected no teacher, or one of kd"
    ):
        objectives.build("classify", teacher=Recorder(nn.Identity()))
    for name in TAPS:
        with pytest.raises(RecipeError, match=f"objective: found {name} without maps"):
            objectives.build(name, teacher=Recorder(nn.Identity()))
