import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as reference

from bakeoff.errors import VerificationFailed
from bakeoff.results import metrics
from bakeoff.results.predictions import Predictions


def predict(
    logits: np.ndarray | list[list[float]], label: np.ndarray | list[int], *, parents: tuple[int, ...] = ()
) -> Predictions:
    logits = np.asarray(logits, dtype=np.float32)
    return Predictions(
        index=np.arange(len(logits)),
        label=np.asarray(label, dtype=np.int64),
        logits=logits,
        classes=tuple(f"class {c}" for c in range(logits.shape[1])),
        superclass_of=parents,
        superclasses=tuple(f"group {p}" for p in range(max(parents) + 1)) if parents else (),
    )


@st.composite
def any_predictions(draw: st.DrawFn) -> Predictions:
    """Draw few levels of logits, for ties, and few images for many classes, so that some classes are absent."""
    num_classes, n = draw(st.integers(2, 12)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.integers(-3, 4, size=(n, num_classes)) * draw(st.sampled_from([0.0, 0.5, 3.0]))
    parents = tuple(c % 3 for c in range(num_classes)) if num_classes > 2 else ()
    return predict(logits, rng.integers(num_classes, size=n), parents=parents)


everywhere = settings(max_examples=60, deadline=None)


@given(any_predictions())
@everywhere
def test_counts_agree_with_sklearn(predictions: Predictions) -> None:
    label, called = predictions.label, predictions.logits.argmax(axis=1)
    summary = metrics.summarise(predictions)
    confusion = metrics.confusion_matrix(predictions)
    known = np.arange(len(predictions.classes))
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(label, called, labels=known))
    assert summary["top1"] == reference.accuracy_score(label, called)
    assert summary["macro_f1"] == pytest.approx(reference.f1_score(label, called, average="macro"))
    recalls = reference.recall_score(label, called, labels=np.unique(label), average=None)
    assert summary["balanced_accuracy"] == pytest.approx(recalls.mean())


@given(any_predictions())
@everywhere
def test_nll_agrees_with_sklearn(predictions: Predictions) -> None:
    exponential = np.exp(predictions.logits.astype(np.float64))
    probability = exponential / exponential.sum(axis=1, keepdims=True)
    known = np.arange(len(predictions.classes))
    expected = reference.log_loss(predictions.label, probability, labels=known)
    assert metrics.nll(predictions) == pytest.approx(expected)


@given(any_predictions(), st.integers(1, 12))
@everywhere
def test_top_k_agrees_with_sorting_image_by_image(predictions: Predictions, k: int) -> None:
    expected = 0
    for logits, label in zip(predictions.logits.tolist(), predictions.label.tolist(), strict=True):
        first = sorted(range(len(logits)), key=lambda c: (-logits[c], c))[:k]
        expected += label in first
    assert metrics.top_correct(metrics.label_ranks(predictions), k=k) == expected


@given(any_predictions())
@everywhere
def test_ece_agrees_with_the_definition_bin_by_bin(predictions: Predictions) -> None:
    exponential = np.exp(predictions.logits.astype(np.float64))
    confidence = (exponential / exponential.sum(axis=1, keepdims=True)).max(axis=1)
    right = predictions.logits.argmax(axis=1) == predictions.label
    expected = 0.0
    for m in range(1, 16):
        inside = (confidence > (m - 1) / 15) & (confidence <= m / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    # 1/3, 1/5 ... lie on the edge of a bin, where the last bit decides
    if np.abs(confidence * 15 - np.round(confidence * 15)).min() > 1e-9:
        assert metrics.ece(predictions) == pytest.approx(expected)


@given(any_predictions(), st.randoms(use_true_random=False))
@everywhere
def test_the_order_of_images_changes_nothing(predictions: Predictions, random: object) -> None:
    order = list(range(len(predictions)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = predict(predictions.logits[order], predictions.label[order], parents=predictions.superclass_of)
    ours, theirs = metrics.summarise(predictions), metrics.summarise(shuffled)
    for name, value in ours.items():
        assert theirs[name] == (pytest.approx(value) if name in ("nll", "ece") else value)


@given(any_predictions(), st.floats(-50, 50, width=16))
@everywhere
def test_a_constant_added_to_an_images_logits_changes_nothing(predictions: Predictions, by: float) -> None:
    moved = predict(predictions.logits + np.float32(by), predictions.label, parents=predictions.superclass_of)
    for name, value in metrics.summarise(predictions).items():
        tolerance = {"rel": 1e-4, "abs": 1e-6}
        assert metrics.summarise(moved)[name] == (value if value is None else pytest.approx(value, **tolerance))


@given(any_predictions())
@everywhere
def test_counts_add_up(predictions: Predictions) -> None:
    summary = metrics.summarise(predictions)
    confusion = metrics.confusion_matrix(predictions)
    rows = metrics.table(confusion, predictions.classes)
    assert sum(row.n for row in rows) == sum(row.predicted for row in rows) == summary["n"] == len(predictions)
    assert sum(row.correct for row in rows) == summary["top1_correct"]
    if predictions.superclasses:
        groups = metrics.table(metrics.merge(confusion, predictions), predictions.superclasses)
        assert sum(row.n for row in groups) == len(predictions)
        assert sum(row.correct for row in groups) == summary["superclass_correct"]
        assert summary["superclass_top1"] >= summary["top1"]  # type: ignore[operator]
    json.dumps(summary, allow_nan=False)


def test_by_hand() -> None:
    probability = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    predictions = predict(np.log(probability), [0, 1, 1, 2], parents=(0, 0, 1))
    summary = metrics.summarise(predictions)
    assert summary["n"] == 4
    assert summary["top1_correct"] == 3
    assert summary["nll"] == pytest.approx(-np.log([0.7, 0.3, 0.8, 0.4]).mean())
    # confidences 0.7, 0.6, 0.8, 0.4, each alone in its bin but for 0.6: (8/15, 9/15]
    assert summary["ece"] == pytest.approx((0.3 + 0.6 + 0.2 + 0.6) / 4)
    assert summary["balanced_accuracy"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert summary["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert summary["superclass_correct"] == 4
    assert summary["top5"] is None
    assert metrics.merge(metrics.confusion_matrix(predictions), predictions).tolist() == [[3, 0], [0, 1]]


def test_a_constant_network_is_right_on_its_first_class_only() -> None:
    predictions = predict(np.zeros((20, 10)), np.arange(20) % 10)
    summary = metrics.summarise(predictions)
    assert summary["top1_correct"] == 2
    assert summary["top5_correct"] == 10
    assert summary["nll"] == pytest.approx(math.log(10))
    assert summary["ece"] == pytest.approx(0)


def test_top5_means_nothing_up_to_five_classes() -> None:
    assert metrics.summarise(predict(np.eye(5), range(5)))["top5"] is None  # type: ignore[arg-type]
    assert metrics.summarise(predict(np.eye(6), range(6)))["top5"] == 1  # type: ignore[arg-type]


def test_no_superclasses_have_no_accuracy() -> None:
    summary = metrics.summarise(predict(np.eye(6), range(6)))  # type: ignore[arg-type]
    assert summary["superclass_top1"] is None
    assert summary["superclass_correct"] is None


def test_an_absent_class_has_no_recall_and_counts_for_nothing() -> None:
    predictions = predict(np.eye(4)[[0, 1, 1]], [0, 1, 0])
    rows = metrics.table(metrics.confusion_matrix(predictions), predictions.classes)
    assert (rows[3].n, rows[3].recall, rows[3].precision, rows[3].f1) == (0, None, None, None)
    assert (rows[1].n, rows[1].predicted, rows[1].precision) == (1, 2, 0.5)
    summary = metrics.summarise(predictions)
    assert summary["balanced_accuracy"] == pytest.approx((1 / 2 + 1) / 2)


def test_wilson_agrees_with_scipy() -> None:
    for correct, n in [(0, 1), (1, 1), (0, 10), (3, 10), (10, 10), (6650, 10_000), (9_999, 10_000)]:
        interval = binomtest(correct, n).proportion_ci(confidence_level=0.95, method="wilson")
        assert metrics.wilson(correct, n) == pytest.approx((interval.low, interval.high), abs=1e-12)
        assert 0 <= metrics.wilson(correct, n)[0] <= correct / n <= metrics.wilson(correct, n)[1] <= 1


def test_huge_logits_stay_finite() -> None:
    predictions = predict([[3e38, -3e38], [-3e38, 3e38]], [0, 1])
    assert metrics.nll(predictions) == 0
    assert metrics.ece(predictions) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_diverged_network_has_no_accuracy(bad: float) -> None:
    logits = np.zeros((5, 3))
    logits[3, 1] = bad
    with pytest.raises(VerificationFailed, match="logits of 1 images, first 3"):
        metrics.summarise(predict(logits, [0] * 5))


def test_nothing_has_no_accuracy() -> None:
    with pytest.raises(VerificationFailed, match="no images"):
        metrics.summarise(predict(np.zeros((0, 3)), []))
