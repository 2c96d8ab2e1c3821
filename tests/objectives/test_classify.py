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
