"""An attempt at a run on some node: fetch what there is of it, take it on in a process here, bring back what comes.

The node works in a folder of its own and shares nothing with anybody but through the exchange (`launch.exchange`).
What trains is a worker process as on one machine (`launch.local`), at work on one run.
"""

import dataclasses
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bakeoff
from bakeoff.errors import BakeoffError, StorageError
from bakeoff.launch.exchange import Attempt, Exchange
from bakeoff.launch.jobs import Ended, Job, error_fields
from bakeoff.launch.local import ONE_THREAD, Local, Place

PULSE_S = 2.0  # between two looks at whether the attempt is still wanted
STOPPED = 143  # the exit code of a run that was asked to stop


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a node is asked to do; it travels as JSON.

    Args:
        job: as `Job.to_line` writes it, with the folder that the driver keeps the run in.
        store: URL of the exchange.
        attempt: its name.
        teacher: what the run's teacher is fetched by; empty where it has none, or one that every node can see.
        bring_every_s: how often what it has saved is brought meanwhile: so much is lost with a node, at most.
        environment: variables of the driver, for what this node's own environment says nothing of.
        version: of the driver's bakeoff.
    """

    job: str
    store: str
    attempt: str
    teacher: str = ""
    bring_every_s: float
    environment: Mapping[str, str]
    version: str = bakeoff.__version__

    def to_json(self) -> dict[str, Any]:
        """Return what `Order(**...)` takes."""
        return dataclasses.asdict(self)


def place_of(folder: Path) -> str:
    """Return what the exchange calls a run's folder."""
    return f"{folder.parent.name}/{folder.name}"


def work(content: Mapping[str, Any]) -> None:
    """Take a run as far as it goes, and leave word of how it ended.

    Args:
        content: an order's.

    Raises:
        BakeoffError: this node cannot do it; another may.
    """
    order = Order(**content)
    asked = Job.from_line(order.job.encode())
    exchange = Exchange(order.store)
    attempt = exchange.attempt(place_of(asked.folder), order.attempt)
    _refuse(order, wanted="wanted" in attempt.marks())
    attempt.tell({})
    os.environ.update({name: value for name, value in order.environment.items() if name not in os.environ})
    with tempfile.TemporaryDirectory(prefix="bakeoff-attempt-") as scratch:
        job = replace(asked, folder=Path(scratch) / place_of(asked.folder))
        attempt.fetch(job.folder)
        if order.teacher:
            exchange.fetch_offered(order.teacher, Path(scratch) / order.teacher.rpartition("/")[0])
        ended = _attend(job, attempt, log=Path(scratch) / "worker.log", bring_every_s=order.bring_every_s)
        if ended is None:
            attempt.clear()  # what came after it was given up
            return
        if isinstance(ended.error, StorageError):  # of this node's disk
            raise ended.error
        attempt.bring(job.folder)
        attempt.end(_told_from_home(ended, here=scratch, home=asked.folder.parents[1]))


def _told_from_home(ended: Ended, *, here: str, home: Path) -> dict[str, Any]:
    """Return how an attempt ended; what it says of its own folder is said of the one that the driver keeps."""
    fields = error_fields(ended.error) if ended.error else {}
    said = {name: text.replace(here, str(home)) for name, text in fields.items()}
    return {"code": ended.code, "error": said, "last_words": ended.last_words.replace(here, str(home))}


def _attend(job: Job, attempt: Attempt, *, log: Path, bring_every_s: float) -> Ended | None:
    """Have a process work on the job, and bring what it saves; None where the attempt is no longer wanted."""
    with Local([Place(environment=ONE_THREAD)], log=log) as worker:
        worker.start(job)
        tick: Mapping[str, Any] = {}
        told = tick
        looked_at = brought_at = time.monotonic()
        while True:
            for event in worker.wait(PULSE_S / 4):
                if isinstance(event, Ended):
                    return event
                tick = event.tick
            if time.monotonic() - looked_at < PULSE_S:
                continue
            looked_at = time.monotonic()
            marks = attempt.marks()
            if "wanted" not in marks:
                return None
            if "stop" in marks:
                worker.stop()
                return Ended(job=job, code=STOPPED, error=None, last_words="")
            if tick != told:
                attempt.tell(tick)
                told = tick
            if looked_at - brought_at >= bring_every_s:
                attempt.bring(job.folder)
                brought_at = time.monotonic()


def _refuse(order: Order, *, wanted: bool) -> None:
    """Refuse what this node cannot do.

    Raises:
        BakeoffError: it sees another store than the driver, or has another version of bakeoff.
    """
    where = f"node {os.uname().nodename}"
    if not wanted:
        found, expected = f"no order in {order.store}", "a store that the driver and all nodes see"
        raise BakeoffError(where, found=found, expected=expected, hint="--store names one.")
    if order.version != bakeoff.__version__:
        found, expected = f"bakeoff {bakeoff.__version__}", f"{order.version}, as where the study is run"
        raise BakeoffError(where, found=found, expected=expected)
