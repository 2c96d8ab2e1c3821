"""One run of a study: what is asked, what its folder says, what its workers told."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGKILL, Signals

from bakeoff.errors import BakeoffError, DataError, Diverged, RunLocked
from bakeoff.launch.board import OPEN, Row, State
from bakeoff.launch.jobs import Ended, Told, claim
from bakeoff.recipe import Recipe
from bakeoff.record import Record
from bakeoff.results import lock
from bakeoff.results.store import Run, record_of

TRIES = 5  # of a run whose worker dies again and again without getting any further
SIGNALLED = 128  # exit codes from here on are of runs that a signal asked to stop


@dataclass(kw_only=True, slots=True)
class Entry:
    """One run, at work on or not.

    Args:
        recipe: what is asked.
        folder: where it is kept.
        arms: names of the arms that it belongs to.
        row: as the board shows it; its state is the entry's.
        teacher: the run of this study that has to be finished before.
        test: whether test is to be read: it is the arm's only trial, or the chosen one.
        record: as last read; None while there is none.
        started: whether a worker of ours was at it.
        reached: how far it was when a worker was last gone.
        tries: how many workers in turn got no further.
        since: when, and at which progress, its worker first told of itself.
        error: why it failed or diverged.
    """

    recipe: Recipe
    folder: Path
    arms: tuple[str, ...]
    row: Row
    teacher: "Entry | None" = None
    test: bool = False
    record: Record | None = None
    started: bool = False
    reached: tuple[int, ...] = ()
    tries: int = 0
    since: tuple[float, float] | None = None
    error: BakeoffError | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it waits for nothing but a free worker; where its teacher has failed, it fails too."""
        if self.row.state != "waiting" or self.teacher is None:
            return self.row.state == "waiting"
        if self.teacher.is_open:
            self._set("waiting", note="its teacher is not trained yet")
            return False
        if self.teacher.error is not None:
            where, found = f"teacher {self.teacher.folder}", f"a run that {self.teacher.row.state}"
            self._fail(DataError(where, found=found, expected="a finished run"))
            return False
        return True

    @property
    def is_open(self) -> bool:
        """Whether anything is still to be done, here or by others."""
        return self.row.state in OPEN

    def look(self) -> None:
        """Read from the run's folder how it stands."""
        run = Run(self.folder)
        try:
            if lock.is_held(claim(self.folder)) or lock.is_held(run.lock_path):
                self._set("busy", note="another process is at work on it")
            elif not run.recipe_path.is_file():
                self._set("waiting")
            else:
                self._judge(run)
        except BakeoffError as error:
            self._fail(error)

    def _judge(self, run: Run) -> None:
        self.record = record = record_of(self.recipe, run)
        if record.status == "finished":
            self._judge_finished(record)
        elif record.status == "diverged":
            what = run.read_json(run.divergence_path)
            where, found = f"step {what.get('step')} of {self.folder}", str(what.get("found"))
            self._fail(Diverged(where, found=found, expected="finite numbers"))
        else:
            self._set("busy" if record.status == "running" else "waiting")

    def _judge_finished(self, record: Record) -> None:
        rate = float(record.rows[-1].get("images_per_s") or 0.0) if record.rows else 0.0
        top1 = float(record.summary.get("val", {}).get("top1", math.nan))
        self.row = replace(self.row, epoch=self.row.epochs, progress=1.0, val_top1=top1, images_per_s=rate)
        if self.test and "test" not in record.summary:
            self._set("waiting", note="test is to be read")
        else:
            self._set("finished" if self.started else "skipped")

    def ask_for_test(self) -> None:
        """Have test read at the run's end, or now if that was before."""
        self.test = True
        if self.record is not None and self.row.state in ("finished", "skipped"):
            self._judge_finished(self.record)

    def start(self) -> None:
        """Note that a worker is at it."""
        self.started, self.since = True, None
        self._set("running")

    def tell(self, told: Told) -> None:
        """Take over what its worker tells of its progress."""
        tick, now = told.tick, time.monotonic()
        progress = tick["step"] / tick["total_steps"]
        if self.since is None:
            self.since = (now, progress)
        began, before = self.since
        speed = (progress - before) * self.row.work / (now - began) if now > began else 0.0
        self.row = replace(
            self.row,
            epoch=tick["epoch"],
            progress=progress,
            val_top1=self.row.val_top1 if math.isnan(tick["val_top1"]) else tick["val_top1"],
            images_per_s=tick["images_per_s"],
            speed=speed or self.row.speed,
        )

    def end(self, ended: Ended) -> None:
        """Take over how its worker ended. An error is final; whoever was killed or told to stop is started again."""
        self.look()
        if self.row.state == "waiting":
            self._count_try(ended)
        if 0 < ended.code < SIGNALLED and not isinstance(ended.error, RunLocked):
            self._fail(ended.error or self._strange(f"a worker that ended with exit code {ended.code}", ended))

    def _count_try(self, ended: Ended) -> None:
        reached = self._how_far()
        self.tries = 1 if reached > self.reached else self.tries + 1
        self.reached = reached
        if self.tries > TRIES:
            found = f"{self.tries} workers in turn that ended {_how(ended.code)} and got no further"
            self._fail(self._strange(found, ended))

    def _how_far(self) -> tuple[int, ...]:
        """Return how far the run is, as something that grows: its newest checkpoint, whether it is finished."""
        run = Run(self.folder)
        numbers = [path.name.partition("-")[2] for path in run.checkpoints.glob("step-*")]
        return max((int(number) for number in numbers if number.isdigit()), default=-1), run.summary_path.exists()

    def _strange(self, found: str, ended: Ended) -> BakeoffError:
        hint = f"The workers' log ends: {ended.last_words}" if ended.last_words else ""
        if ended.code == -SIGKILL:
            hint = "The system kills so when memory is short: try fewer runs at once (--jobs 1)."
        return BakeoffError(str(self.folder), found=found, expected="one that takes the run to its end", hint=hint)

    def _set(self, state: State, *, note: str = "") -> None:
        self.row = replace(self.row, state=state, note=note)

    def _fail(self, error: BakeoffError) -> None:
        self.error = error
        self._set("diverged" if isinstance(error, Diverged) else "failed", note=str(error))


def _how(code: int) -> str:
    """Say how a process ended; of real-time signals only the first and the last have names."""
    if code >= 0:
        return f"with exit code {code}"
    return f"by {Signals(-code).name}" if -code in set(Signals) else f"by signal {-code}"
