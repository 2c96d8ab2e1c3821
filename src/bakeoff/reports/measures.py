"""Rules that tables and both kinds of pictures share, so that all of them tell one story."""

import math
from collections.abc import Sequence

from bakeoff.results.comparison import Comparison
from bakeoff.results.statistics import Difference, Interval, Spread
from bakeoff.study.schema import Reference

WIDEST = 4  # times as wide as our own numbers a picture may become by those of others
ALIKE = 1.01  # a ratio of costs up to which arms cost the same


def noise_of_two(floor: Spread) -> float:
    """Return the standard deviation of the difference of two runs that differ in the seed alone, a fraction."""
    return math.sqrt(2) * floor.sd


def once_in_twenty(floor: Spread) -> float:
    """Return what the difference of two such runs exceeds about once in twenty, to either side, a fraction."""
    return 1.96 * noise_of_two(floor)


def costs_differ(costs: Sequence[float]) -> bool:
    """Tell whether there is anything to compare: arms that cost the same would stand above each other."""
    return bool(costs) and max(costs) > ALIKE * min(costs)


def near(comparison: Comparison) -> tuple[Reference, ...]:
    """Return the numbers of others that a picture of ours has room for: those of far longer runs would fill it."""
    ends = [end for score in comparison.arms for end in bounds(score.mean, clipped=True) if score.mean is not None]
    ends += [100 * value for score in comparison.arms for value in score.top1.values()]
    if not ends:
        return ()
    low, high = min(ends), max(ends)
    room = (WIDEST - 1) * max(high - low, 1.0)
    return tuple(r for r in comparison.references if low - room <= 100 * r.top1 <= high + room)


def bounds(of: Interval | Difference | None, *, clipped: bool) -> tuple[float, float]:
    """Return the ends of an interval in per cent, as pictures draw it; without one, twice the estimate.

    Args:
        of: what is drawn; None for nothing, at zero.
        clipped: to 0 and 100, which an accuracy cannot leave, although Student's t can.
    """
    if of is None:
        return 0.0, 0.0
    low, high = (100 * (of.estimate if end is None else end) for end in (of.low, of.high))
    return (max(0.0, low), min(100.0, high)) if clipped else (low, high)
