"""Runs on other machines: each attempt at one is ordered through the exchange, watched, and taken home when it ends.

Only the driver writes the folders of runs. It holds a run's claim while an attempt is under way, and replaces the run's
folder by what an attempt has brought when that has ended or is lost. What a killed driver had ordered is found in the
exchange by the next one, which takes over what was brought and orders anew: nothing is lost, nothing is done twice, and
whoever still works on an old order finds it withdrawn.
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from bakeoff.errors import BakeoffError, RunLocked, StorageError
from bakeoff.launch.attempts import Order, place_of
from bakeoff.launch.exchange import NOTHING, Attempt, Exchange, Progress, progress_of
from bakeoff.launch.jobs import Ended, Job, Told, claim, restored_error
from bakeoff.results import lock
from bakeoff.results.files import storage_errors
from bakeoff.results.store import Run

GRACE_S = 30.0  # within which an attempt that is asked to stop has saved and brought what it has
ASK_EVERY_S = 5.0  # between two looks at how far attempts are
AGAIN_S = 30.0  # after which an order that was refused is handed over again
BRING_EVERY_S = 60.0  # see `Order`; checkpoints of large networks are a hundred megabytes and more
LOST = 137  # the exit code of a run whose node is gone: as if it had been killed
PULSE_S = 0.2
_OURS = "BAKEOFF_"  # how the variables begin that nodes are told of


class Nodes(Protocol):
    """What starts work elsewhere: Ray, Slurm. It knows nothing of runs."""

    @property
    def room(self) -> int:
        """How many attempts it takes at once now."""

    def submit(self, order: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever it calls its tasks
        """Have `attempts.work` done with an order somewhere, and return the task."""

    def ended(self, tasks: Sequence[Any], *, timeout_s: float) -> list[tuple[Any, str]]:
        """Return the tasks that have ended, well or not, and what is said of it; after `timeout_s` at the latest."""

    def kill(self, task: Any) -> None:  # noqa: ANN401
        """End a task at once, or take it out of the queue."""


@dataclass(kw_only=True, slots=True)
class _Flight:
    """An attempt under way."""

    job: Job
    attempt: Attempt
    order: dict[str, Any]
    claim: ExitStack
    task: Any = None
    tick: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class Remote:
    """Runs on nodes that share nothing with this machine but the exchange.

    Args:
        root: the folder of all runs.
        nodes: where attempts are made.
        exchange: where nodes find and leave files.
        at_most: how many attempts at once; None for as many as there is room for.
    """

    root: Path
    nodes: Nodes
    exchange: Exchange
    at_most: int | None = None
    _flights: list[_Flight] = field(default_factory=list)
    _events: list[Told | Ended] = field(default_factory=list)
    _asked_at: float = 0.0
    _refused: _Flight | None = None
    _refused_at: float = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._sweep()

    @property
    def side_by_side(self) -> int:
        """How many attempts there is room for now: nodes come and go."""
        room = self.nodes.room
        return room if self.at_most is None else min(room, self.at_most)

    @property
    def free(self) -> int:
        """How many more jobs can be started."""
        return max(0, self.side_by_side - len(self._flights)) if self._refused is None else 0

    def start(self, job: Job) -> None:
        """Take over what earlier attempts have left, which is to be looked at then; else order the next attempt."""
        place = place_of(job.folder)
        with storage_errors(job.folder):
            job.folder.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            try:
                held.enter_context(lock.hold(claim(job.folder)))
                if job.folder.exists():  # whoever resumes it by hand is told that somebody is at it
                    held.enter_context(lock.hold(Run(job.folder).lock_path))
            except RunLocked as error:
                self._events.append(Ended(job=job, code=error.exit_code, error=error, last_words=""))
                return
            were_further = [_take_over(earlier, job.folder) for earlier in self.exchange.attempts(place)]
            if any(were_further):
                self._events.append(Ended(job=job, code=0, error=None, last_words=""))
                return
            attempt = self.exchange.attempt(place, f"{time.time_ns():020d}-{secrets.token_hex(4)}")
            attempt.bring(job.folder)
            order = self._order(job, attempt).to_json()
            attempt.order(order)
            flight = _Flight(job=job, attempt=attempt, order=order, claim=held.pop_all())
        self._submit(flight)

    def _submit(self, flight: _Flight) -> None:
        """Hand an order over; one that is refused while others are under way is kept for later.

        Raises:
            BakeoffError: it is refused, and nothing else is under way.
        """
        try:
            flight.task = self.nodes.submit(flight.order)
        except BakeoffError:
            if not self._flights:
                flight.attempt.clear()
                flight.claim.close()
                raise
            self._refused, self._refused_at = flight, time.monotonic()
        else:
            self._flights.append(flight)

    def _order(self, job: Job, attempt: Attempt) -> Order:
        """Return what to ask of a node; a teacher that is one of the driver's own runs is offered to it."""
        teacher = self.root / job.recipe.teacher.name if job.recipe.teacher else None
        has_run = teacher is not None and Run(teacher).summary_path.is_file()
        offered = self.exchange.offer(place_of(teacher), teacher) if teacher is not None and has_run else ""
        return Order(
            job=job.to_line().decode(),
            store=self.exchange.url,
            attempt=attempt.name,
            teacher=offered,
            bring_every_s=BRING_EVERY_S,
            environment={name: value for name, value in os.environ.items() if name.startswith(_OURS)},
        )

    def wait(self, timeout_s: float) -> list[Told | Ended]:
        """Return what has been heard of attempts, after `timeout_s` or so; those that have ended are home by then."""
        if (refused := self._refused) and (not self._flights or time.monotonic() - self._refused_at > AGAIN_S):
            self._refused = None
            self._submit(refused)
        ended = self.nodes.ended([flight.task for flight in self._flights], timeout_s=0 if self._events else timeout_s)
        events, self._events = self._events, []
        for task, said in ended:
            events.append(self._land(next(flight for flight in self._flights if flight.task is task), said))
        if time.monotonic() - self._asked_at > ASK_EVERY_S:
            for flight in list(self._flights):
                events.extend(self._ask(flight))
            self._asked_at = time.monotonic()
        return events

    def _sweep(self) -> None:
        """Clear what killed drivers and nodes have left of runs that are no less far without it."""
        for place in self.exchange.places():
            folder = self.root / place
            with suppress(RunLocked, StorageError), lock.hold(claim(folder)):
                for attempt in self.exchange.attempts(place):
                    if attempt.progress() <= progress_of(folder):
                        attempt.clear()

    def _ask(self, flight: _Flight) -> Iterator[Told | Ended]:
        """Yield what an attempt has left word of since it was last asked."""
        if "ended" in flight.attempt.marks():  # whoever runs the tasks need not have noticed yet
            yield self._land(flight, "")
        elif (tick := flight.attempt.told()) and tick != flight.tick:
            flight.tick = tick
            yield Told(job=flight.job, tick=tick)

    def _land(self, flight: _Flight, said: str) -> Ended:
        """Take home what an attempt has brought, and let go of its run."""
        self._flights.remove(flight)
        how, job = flight.attempt.ended(), flight.job
        with flight.claim:
            if how:
                _take_home(flight.attempt, job.folder)
                flight.attempt.clear()
            else:
                _take_over(flight.attempt, job.folder)
        if not how:
            return Ended(job=job, code=LOST, error=None, last_words=said)
        error = restored_error(how["error"], code=how["code"]) if how["error"] else None
        return Ended(job=job, code=how["code"], error=error, last_words=how["last_words"])

    def stop(self) -> int:
        """Ask all attempts to save and end; kill those that have not after `GRACE_S`, and return how many."""
        if self._refused is not None:
            self._refused.attempt.clear()
            self._refused.claim.close()
            self._refused = None
        for flight in self._flights:
            if "begun" in flight.attempt.marks():
                flight.attempt.ask_to_stop()
            else:
                self.nodes.kill(flight.task)
        deadline = time.monotonic() + GRACE_S
        killed: set[str] = set()
        while self._flights and time.monotonic() < deadline + GRACE_S:
            if time.monotonic() > deadline:
                for flight in self._flights:
                    if flight.job.run not in killed and "ended" not in flight.attempt.marks():
                        killed.add(flight.job.run)
                        self.nodes.kill(flight.task)
            self.wait(PULSE_S)
        return len(killed)


def _take_over(attempt: Attempt, folder: Path) -> bool:
    """Take home what an attempt that nobody waits for any more has brought, if it is further; withdraw its order."""
    # What an orphan brings after its order was withdrawn is no whole run.
    is_further = "wanted" in attempt.marks() and attempt.progress() > progress_of(folder)
    if is_further:
        is_further = _take_home(attempt, folder, least=progress_of(folder))
    attempt.clear()
    return is_further


def _take_home(attempt: Attempt, folder: Path, *, least: Progress = NOTHING) -> bool:
    """Replace a run's folder by what an attempt has brought, and tell whether that was done. It is gone an instant.

    It is left as it is where what has come is not as far as `least`: whoever still works may take a checkpoint away.
    """
    arriving, before = (folder.with_name(f".{folder.name}.{what}") for what in ("arriving", "before"))
    for leftover in (arriving, before):
        shutil.rmtree(leftover, ignore_errors=True)
    attempt.fetch(arriving)
    if not arriving.exists() or progress_of(arriving) < least:
        return False
    with storage_errors(folder):
        if folder.exists():
            folder.rename(before)
        arriving.rename(folder)
    shutil.rmtree(before, ignore_errors=True)
    return True
