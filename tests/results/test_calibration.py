import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakeoff.errors import VerificationFailed
from bakeoff.results import calibration, metrics
from bakeoff.results.predictions import Predictions
from tests.results.test_metrics import any_predictions, everywhere, predict


def of_two_classes(confidences: list[float], right: list[bool]) -> Predictions:
    """Call class 0 with the given probabilities, rightly or not."""
    logits = [[float(np.log(p / (1 - p))), 0.0] for p in confidences]
    return predict(logits, [0 if hit else 1 for hit in right])


@given(any_predictions())
@everywhere
def test_its_error_is_the_one_that_metrics_report(predictions: Predictions) -> None:
    assert calibration.reliability(predictions).ece == pytest.approx(metrics.ece(predictions), abs=1e-12)


@given(any_predictions())
@everywhere
def test_every_image_is_in_one_bin_and_confidence_is_in_its_bounds(predictions: Predictions) -> None:
    bins = calibration.reliability(predictions)
    assert bins.images.sum() == len(predictions)
    assert bins.right.sum() == metrics.summarise(predictions)["top1_correct"]
    used = bins.images > 0
    upper = np.arange(1, 16) / 15
    assert (np.isnan(bins.accuracy) == ~used).all()
    assert (bins.mean_confidence[used] <= upper[used] + 1e-12).all()
    assert (bins.mean_confidence[used] > upper[used] - 1 / 15 - 1e-12).all()


@given(any_predictions(), any_predictions())
@everywhere
def test_pooling_counts_all_images_and_never_adds_to_the_error(a: Predictions, b: Predictions) -> None:
    each = [calibration.reliability(a), calibration.reliability(b)]
    together = calibration.pooled(each)
    assert together.images.sum() == len(a) + len(b)
    weighted = (each[0].ece * len(a) + each[1].ece * len(b)) / (len(a) + len(b))
    assert together.ece <= weighted + 1e-12


@given(st.integers(1, 30))
@everywhere
def test_pooling_equals_gives_the_same_diagram(times: int) -> None:
    one = calibration.reliability(of_two_classes([0.6, 0.7, 0.95], [True, False, True]))
    many = calibration.pooled([one] * times)
    np.testing.assert_allclose(many.accuracy, one.accuracy)
    np.testing.assert_allclose(many.mean_confidence, one.mean_confidence)
    assert many.ece == pytest.approx(one.ece)


def test_four_images_by_hand() -> None:
    bins = calibration.reliability(of_two_classes([0.61, 0.62, 0.97, 0.99], [True, False, True, True]))
    assert bins.images.tolist() == [0] * 9 + [2] + [0] * 4 + [2]
    assert bins.accuracy[[9, 14]].tolist() == [0.5, 1.0]
    np.testing.assert_allclose(bins.mean_confidence[[9, 14]], [0.615, 0.98], atol=1e-6)
    assert bins.ece == pytest.approx((2 * 0.115 + 2 * 0.02) / 4, abs=1e-6)


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(VerificationFailed, match="finite"):
        calibration.reliability(predict([[float("nan"), 0.0]], [0]))
    with pytest.raises(ValueError, match="nothing"):
        calibration.pooled([])
