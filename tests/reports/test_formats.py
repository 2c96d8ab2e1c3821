"""Numbers on paper: rounded as told, never a lie about zero, a dash where there is nothing."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakeoff.reports import formats

NOTHING = (None, math.nan, pd.NA)


def back(text: str) -> float:
    return float(text.replace(formats.MINUS, "-").replace(",", ""))


@pytest.mark.parametrize("nothing", NOTHING)
def test_nothing_is_a_dash(nothing: float | None) -> None:
    said = [formats.percent(nothing), formats.points(nothing), formats.p_value(nothing), formats.count(nothing)]
    said += [formats.significant(nothing), formats.duration(nothing), formats.interval(nothing, 0.1, 0.2, 3)]
    said += [formats.difference(nothing, nothing, nothing)]
    assert set(said) == {formats.MISSING}


def test_a_mean_has_half_its_interval_and_its_seeds() -> None:
    assert formats.interval(0.665, 0.662, 0.668, 3) == "66.5 ± 0.3 (n = 3)"
    assert formats.interval(0.665, None, math.nan, 1) == "66.5 (n = 1)"


def test_an_interval_that_is_not_zero_is_not_shown_as_zero() -> None:
    assert formats.interval(0.9971, 0.9968, 0.9974, 5) == "99.71 ± 0.03 (n = 5)"


def test_a_difference_has_a_sign_and_its_interval() -> None:
    assert formats.difference(0.0031, -0.0052, 0.0114) == "+0.31 (−0.52 to +1.14)"
    assert formats.difference(-0.01, None, None) == "−1.00"


@given(st.floats(-1, 1))
def test_points_read_back_as_what_they_were(value: float) -> None:
    text = formats.points(value)
    assert back(text) == pytest.approx(100 * value, abs=0.0051)
    assert text[0] in f"+{formats.MINUS}"
    assert "-" not in text
    assert text != f"{formats.MINUS}0.00"


@given(st.floats(1e-9, 1e12))
def test_three_significant_digits_are_kept_without_an_exponent(value: float) -> None:
    text = formats.significant(value)
    assert "e" not in text
    assert back(text) == pytest.approx(value, rel=0.0051)


def test_significant_digits_of_the_usual() -> None:
    assert [formats.significant(value) for value in (0.278324, 40.8, 12345.6, 0, -1.5)] == [
        *("0.278", "40.8", "12,346", "0", "−1.50")
    ]


def test_settings_are_spelled_as_in_a_recipe() -> None:
    values = (None, True, 0.1, 5.0, 1e9, 1e-5, 0.123456789, 3, "sgd", [1, 2])
    assert [formats.setting(value) for value in values] == [
        *("null", "true", "0.1", "5", "1e+09", "1e-05", "0.123456789", "3", "sgd", "[1, 2]")
    ]


def test_a_p_is_never_zero() -> None:
    assert [formats.p_value(p) for p in (0.0, 0.0009, 0.001, 0.0321, 1.0)] == [
        *("< 0.001", "< 0.001", "0.001", "0.032", "1.000")
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3599.6, "1 h 00 min"),
        (3700, "1 h 02 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


@given(st.floats(0, 1e7))
def test_a_duration_is_never_sixty_of_a_unit(seconds: float) -> None:
    assert "60" not in formats.duration(seconds).split(" h")[-1].replace("60.0 s", "60")
