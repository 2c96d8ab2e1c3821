import math
from dataclasses import FrozenInstanceError

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bakeoff import objectives
from bakeoff.errors import RecipeError
from bakeoff.objectives.classify import balanced_weights, classify

IDENTITY = nn.Identity()


def test_a_value_computed_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], dtype=torch.float64))
    targets = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    outcome = objectives.build("classify")(IDENTITY, logits, targets)
    by_hand = (0.5 * math.log(2) + 0.5 * math.log(4) - math.log(0.8)) / 2
    assert outcome.loss.item() == pytest.approx(by_hand, rel=1e-12)


def test_a_smoothed_value_computed_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64))
    targets = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    outcome = objectives.build("classify", label_smoothing=0.3)(IDENTITY, logits, targets)
    by_hand = 0.8 * math.log(2) + 0.2 * math.log(4)  # 1 - 0.3 + 0.1, and twice 0.1
    assert outcome.loss.item() == pytest.approx(by_hand, rel=1e-12)


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(2, 9), st.floats(0, 0.9), st.integers(0, 10**6))
def test_one_hot_targets_are_labels(num: int, classes: int, smoothing: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(num, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (num,), generator=generator)
    objective = objectives.build("classify", label_smoothing=smoothing)
    outcome = objective(IDENTITY, logits, F.one_hot(labels, classes).double())
    torch.testing.assert_close(outcome.loss, F.cross_entropy(logits, labels, label_smoothing=smoothing))


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_the_loss_of_a_mixture_is_the_mixture_of_losses(seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    one, other = (F.one_hot(torch.randint(5, (4,), generator=generator), 5).double() for _ in range(2))
    objective = objectives.build("classify", label_smoothing=0.1)
    losses = [objective(IDENTITY, logits, t).loss for t in (one, other, share * one + (1 - share) * other)]
    torch.testing.assert_close(losses[2], share * losses[0] + (1 - share) * losses[1])


def test_it_runs_the_model_and_the_gradient_reaches_it() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(6, 3), torch.randn(4, 6)
    targets = torch.full((4, 3), 1 / 3)
    outcome = objectives.build("classify")(model, x, targets)
    assert torch.equal(outcome.logits, model(x))
    assert outcome.loss.shape == ()
    outcome.loss.backward()
    expected = (model(x).softmax(1) - targets).T @ x / 4
    torch.testing.assert_close(model.weight.grad, expected)


def test_the_loss_is_computed_in_the_precision_of_the_targets() -> None:
    torch.manual_seed(0)
    model, targets = nn.Linear(6, 3), torch.full((4, 3), 1 / 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outcome = objectives.build("classify")(model, torch.randn(4, 6), targets)
    assert outcome.logits.dtype == outcome.loss.dtype == torch.float32


def test_an_outcome_cannot_be_changed() -> None:
    outcome = objectives.Outcome(logits=torch.zeros(1, 2), loss=torch.zeros(()))
    with pytest.raises(FrozenInstanceError):
        outcome.loss = torch.ones(())  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("clasify", {}, r"objective: found 'clasify'; expected one of classify, kd, .*\. Did you mean 'classify'\?"),
        ("classify", {"smoothing": 0.1}, r"found 'smoothing'; expected one of label_smoothing"),
        ("classify", {"label_smoothing": 1.0}, r"objective\.label_smoothing: found 1.0"),
        ("classify", {"label_smoothing": -0.1}, r"objective\.label_smoothing"),
    ],
)
def test_mistakes_are_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        objectives.build(name, **options)


def test_weights_and_focal_factor_computed_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], dtype=torch.float64))
    targets = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    objective = classify(focal_gamma=2.0, class_weights=torch.tensor([2.0, 0.5, 1.0]))
    first = 2 * 0.5 * 0.5**2 * math.log(2) + 0.5 * 0.5 * 0.75**2 * math.log(4)
    second = 0.5 * 0.2**2 * -math.log(0.8)
    assert objective(IDENTITY, logits, targets).loss.item() == pytest.approx((first + second) / 2, rel=1e-9)


def noise(seed: int, *, num: int = 6, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        3 * torch.randn(num, classes, generator=generator, dtype=torch.float64),
        torch.randint(classes, (num,), generator=generator),
    )


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 0.5))
def test_weights_are_those_of_torch(seed: int, smoothing: float) -> None:
    """Torch divides by the weights of a batch, we by its size: what a picture counts does not hang on the others."""
    logits, labels = noise(seed)
    weights = torch.rand(5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1
    ours = classify(class_weights=weights.float().double(), label_smoothing=smoothing)
    sums = F.cross_entropy(logits, labels, weight=weights.float().double(), label_smoothing=smoothing, reduction="none")
    assert ours(IDENTITY, logits, F.one_hot(labels, 5).double()).loss.item() == pytest.approx(sums.mean().item())


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(0.5, 5))
def test_a_focal_factor_takes_from_what_is_known(seed: int, gamma: float) -> None:
    logits, labels = noise(seed, num=1)
    targets = F.one_hot(labels, 5).double()
    p = logits.softmax(dim=1)[0, labels[0]].item()
    plain, focal = (classify(focal_gamma=g)(IDENTITY, logits, targets).loss.item() for g in (0.0, gamma))
    assert focal == pytest.approx((1 - p) ** gamma * plain, rel=1e-6, abs=1e-12)


def test_a_picture_that_is_known_for_sure_has_a_gradient() -> None:
    logits = torch.tensor([[1000.0, 0.0]], dtype=torch.float64, requires_grad=True)
    objectives.build("classify", focal_gamma=0.5)(IDENTITY, logits, torch.tensor([[1.0, 0.0]]).double()).loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_balanced_weights_count_classes_alike() -> None:
    counts = torch.tensor([60, 30, 0, 10])
    weights = balanced_weights(counts)
    assert (weights * counts)[counts > 0].tolist() == pytest.approx([100 / 3] * 3)
    assert weights[2] == 0
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)


def test_a_negative_gamma_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"focal_gamma"):
        objectives.build("classify", focal_gamma=-1.0)
