"""How long a piece of work takes: warmed up, repeated, and waited for where a device does it behind our back."""

import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

Clock = Callable[[], float]
Work = Callable[[], object]

WARM_UP = 3  # steps at least, and for a fifth of the time of a measurement: compilers, caches and clocks settle
REPEATS = (3, 10)  # at least, where a step takes long; at most, each then of several steps
CALLS = (20, 1_000_000)  # for latency: each call is timed by itself


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How long a step took.

    Attributes:
        steps_s: seconds a step, a value a repeat.
        steps: that were done in each repeat.
    """

    steps_s: tuple[float, ...]
    steps: int

    @property
    def median_s(self) -> float:
        """Seconds of a step, by the median repeat."""
        return statistics.median(self.steps_s)

    @property
    def p95_s(self) -> float:
        """Seconds within which 95 % of the repeats were done, a step (the nearest rank: nothing in between)."""
        return sorted(self.steps_s)[math.ceil(0.95 * len(self.steps_s)) - 1]


def timed(
    work: Work, *, seconds: float, repeats: tuple[int, int], wait: Work, clock: Clock = time.perf_counter
) -> Timing:
    """Time some work: warm up, see how long a step takes, then repeat it for about so many seconds.

    Args:
        work: one step.
        seconds: how long all repeats take together, unless there have to be more.
        repeats: how many there are at least, and at most.
        wait: returns when the device has done all that it was given.
        clock: tells the seconds.
    """
    began = clock()
    for done in itertools.count(1):
        work()
        wait()
        if done >= WARM_UP and clock() - began >= seconds / 5:
            break
    (one,) = _repeats(work, num=1, steps=1, wait=wait, clock=clock)
    fit = int(seconds / one) if one > 0 else repeats[1]
    num = min(repeats[1], max(repeats[0], fit))
    steps = max(1, fit // num)
    return Timing(steps_s=_repeats(work, num=num, steps=steps, wait=wait, clock=clock), steps=steps)


def _repeats(work: Work, *, num: int, steps: int, wait: Work, clock: Clock) -> tuple[float, ...]:
    times = []
    for _ in range(num):
        began = clock()
        for _ in range(steps):
            work()
        wait()
        times.append((clock() - began) / steps)
    return tuple(times)


def waiter(kind: torch.device) -> Work:
    """Return what waits until a device has done all that it was given; the CPU has, when a call returns."""
    return (lambda: None) if kind.type == "cpu" else (lambda: torch.accelerator.synchronize(kind))
