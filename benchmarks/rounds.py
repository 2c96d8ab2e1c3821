"""Rounds of measurements that are compared only where the machine held still."""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

DRIFT = 0.1  # of what a machine does between two equal pieces of work, more than which says nothing


def timed(work: Callable[[], object]) -> float:
    """Return seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alike(one: float, other: float) -> bool:
    """Tell whether the machine was as fast both times."""
    return max(one, other) <= (1 + DRIFT) * min(one, other)


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One contestant's turn in a round, in seconds a step: its work between two equal pieces of raw work."""

    before: float
    seconds: float
    after: float

    @property
    def calm(self) -> bool:
        """Whether the machine was the same before and after."""
        return alike(self.before, self.after)

    @property
    def raw(self) -> float:
        """The raw work's time."""
        return (self.before + self.after) / 2

    @property
    def efficiency(self) -> float:
        """The share of the raw work in the contestant's."""
        return self.raw / self.seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """The turns of all contestants, between two equal pieces of raw work of the yardstick's."""

    before: float
    turns: dict[str, Segment]
    after: float

    @property
    def calm(self) -> bool:
        """Whether the machine was the same at both ends."""
        return alike(self.before, self.after)


def rotated(names: Sequence[str], *, by: int) -> list[str]:
    """Return the names in the order of round number `by`: each is first, second, ... as often as the others."""
    by %= len(names)
    return [*names[by:], *names[:by]]


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Return median, range and number; of nothing, the number alone."""
    found = sorted(values)
    if not found:
        return {"n": 0}
    return {"n": len(found), "median": statistics.median(found), "min": found[0], "max": found[-1]}


def own(rounds: Iterable[Round], name: str) -> list[Segment]:
    """Return a contestant's turns in which its own raw work and the round's agree."""
    return [found.turns[name] for found in rounds if found.calm and name in found.turns and found.turns[name].calm]


def pairs(rounds: Iterable[Round], name: str, *, against: str) -> list[tuple[Segment, Segment]]:
    """Return (its turn, the other's) of the rounds in which the machine held still for both."""
    both = [(r.turns[name], r.turns[against]) for r in rounds if r.calm and {name, against} <= r.turns.keys()]
    return [(one, other) for one, other in both if one.calm and other.calm]


def summary(rounds: Sequence[Round], name: str, *, against: str, images: int) -> dict[str, Any]:
    """Return what a contestant reached, and how many times as fast `against` was in the same rounds.

    Args:
        rounds: all of them, the restless ones included.
        name: whose summary this is.
        against: the contestant that it is held against.
        images: of one step.
    """
    turns = own(rounds, name)
    return {
        "rounds": len(rounds),
        "images_per_s": spread(images / turn.seconds for turn in turns),
        "ms_per_step": spread(1e3 * turn.seconds for turn in turns),
        "raw_ms_per_step": spread(1e3 * turn.raw for turn in turns),
        "efficiency": spread(turn.efficiency for turn in turns),
        "times_as_fast": spread(one.seconds / other.seconds for one, other in pairs(rounds, name, against=against)),
    }
