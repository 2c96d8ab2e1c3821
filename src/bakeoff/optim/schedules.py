"""Learning-rate schedules: progress through the run, in [0, 1], to a multiplier of the peak, in [0, 1].

A schedule knows neither epochs nor steps, so it holds for any length of run. Warm-up rises linearly from
zero; what follows spans the rest of the run, except that milestones are fractions of the whole.
"""

import inspect
import math
from collections.abc import Callable, Sequence

from bakeoff.errors import RecipeError, refuse_unknown

Schedule = Callable[[float], float]


def build(name: str, *, warmup: float = 0.0, **options: object) -> Schedule:
    """Build a schedule.

    Args:
        name: one of `SCHEDULES`.
        warmup: the fraction of the run, in [0, 1), over which the rate rises linearly from zero.
        options: what the schedule of this name takes.

    Raises:
        RecipeError: an unknown name or option, a value out of range.
    """
    refuse_unknown("schedule", [name], SCHEDULES)
    function = SCHEDULES[name]
    refuse_unknown("schedule", options, inspect.getfullargspec(function).kwonlydefaults or ())
    _require(0 <= warmup < 1, "warmup", warmup, "a fraction in [0, 1)")
    curve = function(warmup, **options)
    peak = curve(warmup)

    def schedule(progress: float) -> float:
        assert 0 <= progress <= 1, progress
        return curve(progress) if progress >= warmup else peak * progress / warmup

    return schedule


def _constant(warmup: float) -> Schedule:
    return lambda progress: 1.0


def _multistep(warmup: float, *, milestones: Sequence[float] = (0.5, 0.75), gamma: float = 0.1) -> Schedule:
    """Multiply by gamma at each milestone (He et al. 2015, section 4.2)."""
    _require(all(0 < m < 1 for m in milestones), "milestones", milestones, "fractions in (0, 1)")
    _require(0 <= gamma <= 1, "gamma", gamma, "a factor in [0, 1]")
    return lambda progress: gamma ** sum(progress >= m for m in milestones)


def _cosine(warmup: float, *, final: float = 0.0) -> Schedule:
    """Follow half a cosine from 1 to `final` (Loshchilov and Hutter 2016, without restarts)."""
    _require_fraction("final", final)
    return lambda progress: _between(1.0, final, _half_cosine(_rest(progress, warmup)))


def _onecycle(
    warmup: float, *, peak_at: float = 0.2, start: float = 0.04, final: float = 0.0, anneal: str = "linear"
) -> Schedule:
    """Rise linearly from `start` to 1 at `peak_at`, then fall to `final` (Smith and Topin 2017).

    Differs from torch's OneCycleLR: the rise is always linear, momentum stays, and `final` is a fraction of
    the peak. With anneal="linear" it is the triangle of the speed records.
    """
    _require(0 < peak_at < 1, "peak_at", peak_at, "a fraction in (0, 1)")
    _require_fraction("start", start)
    _require_fraction("final", final)
    shapes: dict[str, Callable[[float], float]] = {"linear": lambda t: t, "cosine": _half_cosine}
    refuse_unknown("schedule.anneal", [anneal], shapes)

    def curve(progress: float) -> float:
        at = _rest(progress, warmup)
        if at < peak_at:
            return _between(start, 1.0, at / peak_at)
        return _between(1.0, final, shapes[anneal]((at - peak_at) / (1 - peak_at)))

    return curve


def _polynomial(warmup: float, *, power: float = 1.0, final: float = 0.0) -> Schedule:
    """Fall from 1 to `final` as (1 - progress) to the power; 1 is a straight line."""
    _require(0 < power < math.inf, "power", power, "a positive number")
    _require_fraction("final", final)
    return lambda progress: _between(final, 1.0, (1 - _rest(progress, warmup)) ** power)


def _rest(progress: float, warmup: float) -> float:
    """Say how far the run is between the end of its warm-up and its end."""
    return (progress - warmup) / (1 - warmup)


def _half_cosine(t: float) -> float:
    return (1 - math.cos(math.pi * t)) / 2


def _between(first: float, last: float, t: float) -> float:
    # In this form both ends are met exactly, and rounding cannot leave the interval.
    return (1 - t) * first + t * last


def _require(holds: bool, key: str, value: object, expected: str) -> None:
    if not holds:
        raise RecipeError(f"schedule.{key}", found=f"{value}", expected=expected)


def _require_fraction(key: str, value: float) -> None:
    _require(0 <= value <= 1, key, value, "a fraction in [0, 1]")


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": _constant,
    "multistep": _multistep,
    "cosine": _cosine,
    "onecycle": _onecycle,
    "polynomial": _polynomial,
}
