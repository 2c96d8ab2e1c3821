"""What there is to see of a study at work: an unchanging picture of all its runs, a few times a second."""

import math
from dataclasses import dataclass
from typing import Literal

from bakeoff import catalogue
from bakeoff.recipe import Recipe

State = Literal["waiting", "busy", "running", "finished", "skipped", "failed", "diverged"]
OPEN: tuple[State, ...] = ("waiting", "busy", "running")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One run.

    Args:
        name: of its arm, and of the trial if there are several.
        seed: of the run.
        state: "busy" is at work in another process, "skipped" was finished before.
        epochs: of the recipe.
        epoch: at work on, from 1; 0 before the first.
        progress: fraction that is done.
        val_top1: newest, a fraction; NaN while there is none.
        images_per_s: now, or on average where it has ended.
        speed: multiply-adds a second, as `work` counts them; 0 while that is unknown.
        work: multiply-adds of the whole run, up to a factor that is the same for all runs.
        note: what is to be said of it.
    """

    name: str
    seed: int
    state: State = "waiting"
    epochs: int
    epoch: int = 0
    progress: float = 0.0
    val_top1: float = math.nan
    images_per_s: float = 0.0
    speed: float = 0.0
    work: float = 1.0
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """All runs of a study, in their order.

    Args:
        rows: one a run.
        side_by_side: how many work at once.
    """

    rows: tuple[Row, ...]
    side_by_side: int

    @property
    def total(self) -> int:
        """How many runs there are."""
        return len(self.rows)

    @property
    def done(self) -> int:
        """How many have ended, well or not."""
        return sum(row.state not in OPEN for row in self.rows)

    @property
    def seconds_left(self) -> float | None:
        """How long until the last run ends, those that wait at the mean speed of the others; None while none is known.

        The longest run cannot be divided, and all of them share the places that there are.
        """
        speeds = [row.speed for row in self.rows if row.speed > 0]
        mean = sum(speeds) / len(speeds) if speeds else 0.0
        to_do = [row for row in self.rows if row.state in OPEN]
        if to_do and not mean:
            return None
        each = [row.work * (1 - row.progress) / (row.speed or mean) for row in to_do]
        return max(max(each, default=0.0), sum(each) / max(self.side_by_side, 1))


def work(recipe: Recipe) -> float:
    """Return the multiply-adds of a run, up to a factor that is the same for all runs on one data set."""
    known = catalogue.costs().get(recipe.model.name)
    macs = known.macs if known else 1e8  # a plug-in's: not known before it is built
    return float(macs * recipe.epochs * (recipe.data.limit or 50_000))
