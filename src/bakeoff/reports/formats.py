"""Numbers as people read them: per cent on paper, a true minus sign, digits that mean something.

Everything here takes the raw value of a table (a fraction, a number of seconds) and takes None, NaN and pandas' NA for
"nothing to say", which is a dash.
"""

import json
from collections.abc import Iterable, Mapping

import pandas as pd

from bakeoff.reports.words import Words
from bakeoff.study import Study

MINUS = "\N{MINUS SIGN}"
MISSING = "\N{EN DASH}"
Number = float | int | None


def is_missing(value: object) -> bool:
    """Tell whether a cell has nothing to say."""
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def percent(value: Number, *, digits: int = 1) -> str:
    """Return a fraction in per cent without its sign, such as "66.5"."""
    return MISSING if value is None or is_missing(value) else _signless_zero(100 * value, digits)


def points(value: Number, *, digits: int = 2) -> str:
    """Return a difference of two fractions in percentage points with its sign, such as "+0.31"."""
    if value is None or is_missing(value):
        return MISSING
    text = _signless_zero(100 * value, digits)
    return text if text.startswith(MINUS) else f"+{text}"


def interval(mean: Number, low: Number, high: Number, n: Number) -> str:
    """Return a mean with half its interval, such as "66.5 ± 0.3 (n = 3)"; one value has no interval.

    A second digit after the point is shown where half the interval would be 0.0 without it.
    """
    if mean is None or is_missing(mean) or n is None or is_missing(n):
        return MISSING
    if low is None or high is None or is_missing(low) or is_missing(high):
        return f"{percent(mean)} (n = {n})"
    half = (high - low) / 2
    digits = 1 if 100 * half >= 0.05 or half == 0 else 2
    return f"{percent(mean, digits=digits)} ± {percent(half, digits=digits)} (n = {n})"


def difference(estimate: Number, low: Number, high: Number) -> str:
    """Return a difference in points with its interval, such as "+0.31 (−0.52 to +1.14)"."""
    if is_missing(low) or is_missing(high):
        return points(estimate)
    return f"{points(estimate)} ({points(low)} to {points(high)})"


def p_value(p: Number) -> str:
    """Return a p: "0.032"; one below a thousandth is "< 0.001"."""
    if p is None or is_missing(p):
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(value: Number) -> str:
    """Return a whole number with commas, such as "10,000"."""
    return MISSING if value is None or is_missing(value) else f"{round(value):,}"


def significant(value: Number, *, digits: int = 3) -> str:
    """Return a number with so many significant digits and never an exponent, such as "0.278" or "12,300"."""
    if value is None or is_missing(value):
        return MISSING
    if value == 0:
        return "0"
    places = max(0, digits - 1 - int(f"{value:e}".partition("e")[2]))
    return f"{value:,.{places}f}".replace("-", MINUS)


def duration(seconds: Number) -> str:
    """Return a time in its two largest units, such as "1 h 02 min", "12 min 03 s" or "4.2 s"."""
    if seconds is None or is_missing(seconds):
        return MISSING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def setting(value: object) -> str:
    """Return a setting as a recipe spells it: null, true, 0.1, 1e+09, a word."""
    if isinstance(value, float) and float(short := f"{value:g}") == value:
        return short
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def changes(settings: Mapping[str, tuple[object, object]]) -> str:
    """Return what was changed, such as "epochs 200 → 8, seeds 5 → 3"."""
    return ", ".join(f"{key} {setting(before)} → {setting(now)}" for key, (before, now) in settings.items())


def departures(study: Study, words: Words) -> str:
    """Return how the study differs from its file, as a sentence; empty where it does not."""
    if not study.scaled:
        return ""
    return words("scaled" if study.is_smaller else "departed", changes=changes(study.scaled))


def names(of: Iterable[str]) -> str:
    """Return names as a list; they may hold commas themselves."""
    return "; ".join(of)


def _signless_zero(value: float, digits: int) -> str:
    """Format with a true minus sign; what rounds to zero has none."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", MINUS)
