"""Worker processes on this machine: runs side by side, one a core or one a GPU."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from bakeoff.errors import BakeoffError
from bakeoff.launch.jobs import Ended, Job, Told, restored_error
from bakeoff.recipe import Recipe
from bakeoff.results.files import storage_errors

GRACE_S = 8.0  # within which a run that is asked to stop has saved: all are gone ten seconds after a Ctrl-C
# Of libraries that would start a thread a core in each of many processes; a recipe sets its own number of them.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
LAST_WORDS = 600  # characters of the workers' log that stand in a message


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where one worker process computes.

    Args:
        environment: what is set in its environment.
        capacity: runs at once; above one they are forks of it, see `launch.worker`.
        apart: whether each run is a fork.
    """

    environment: Mapping[str, str]
    capacity: int = 1
    apart: bool = False


def places(recipes: Iterable[Recipe], *, jobs: int | None = None) -> list[Place]:
    """Return where to work on these recipes.

    Args:
        recipes: what there is to do.
        jobs: how many at once, on each GPU where there are some; default: as many as fill the cores, or one a GPU.
    """
    wanted = list(recipes)
    cards = gpus() if any(recipe.device != "cpu" for recipe in wanted) else ()
    if cards:
        each = [card for _ in range(jobs or 1) for card in cards]
        return [Place(environment=ONE_THREAD | {"CUDA_VISIBLE_DEVICES": card}) for card in each]
    threads = max((recipe.threads for recipe in wanted if isinstance(recipe.threads, int)), default=1)
    count = jobs or max(1, cores() // threads)
    if hasattr(os, "pidfd_open"):
        return [Place(environment=ONE_THREAD, capacity=count, apart=True)]
    return [Place(environment=ONE_THREAD) for _ in range(count)]


def gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return tuple(names[: names.index("-1")] if "-1" in names else filter(None, names))
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(str(i) for i, _ in enumerate(text for text in listed.splitlines() if text.startswith("GPU ")))


def cores() -> int:
    """Return how many cores this process may use (containers and taskset included)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(kw_only=True, slots=True)
class _Worker:
    """One place and the process at it, which may be none.

    Args:
        log: where the process writes what it has to say to people.
        process: leader of its own session, so that a terminal's Ctrl-C reaches the driver alone.
        jobs: at work, by name.
        errors: what was said of errors in them.
        said: the beginning of an unfinished message.
        log_before: how long the log was when the process began, in bytes.
    """

    place: Place
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    jobs: dict[str, Job] = field(default_factory=dict)
    errors: dict[str, BakeoffError] = field(default_factory=dict)
    said: bytes = b""
    log_before: int = 0

    @property
    def free(self) -> int:
        """How many more jobs it takes. A process of one run is not used again: a new one is started."""
        is_used = self.process is not None and not self.place.apart
        return 0 if is_used else self.place.capacity - len(self.jobs)

    def start(self, job: Job) -> None:
        """Hand a job to the process, or to a new one where there is none."""
        if self.process is None:
            self.process = self._new_process()
        self.jobs[job.run] = job
        with suppress(BrokenPipeError):  # it has died: `read` will tell
            _pipe(self.process.stdin).write(job.to_line())

    def _new_process(self) -> "subprocess.Popen[bytes]":
        with storage_errors(self.log):
            self.log.parent.mkdir(parents=True, exist_ok=True)
            log = self.log.open("ab")
        # -P: a file that happens to be called torch.py in the current folder is not torch.
        command = [sys.executable, "-P", "-m", "bakeoff.launch.worker", *(["--apart"] if self.place.apart else [])]
        with log:
            self.log_before = log.tell()
            return subprocess.Popen(
                command,
                env={**os.environ, **self.place.environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
            )

    def read(self) -> Iterator[Told | Ended]:
        """Yield what has come; the end of the stream is the end of the process and of what was at work in it."""
        assert self.process is not None
        data = os.read(_pipe(self.process.stdout).fileno(), 1 << 16)
        *lines, self.said = (self.said + data).split(b"\n")
        for message in map(json.loads, lines):
            yield from self._understand(message)
        if not data:
            code = self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                _pipe(pipe).close()
            self.process, self.said = None, b""
            for run in list(self.jobs):
                yield from self._understand({"run": run, "ended": code})

    def _understand(self, message: dict[str, Any]) -> Iterator[Told | Ended]:
        run = message["run"]
        if "tick" in message:
            yield Told(job=self.jobs[run], tick=message["tick"])
        elif "error" in message:
            self.errors[run] = restored_error(message["error"], code=message["code"])
        else:
            yield Ended(
                job=self.jobs.pop(run),
                code=message["ended"],
                error=self.errors.pop(run, None),
                last_words=self._last_words(),
            )

    def _last_words(self) -> str:
        with suppress(OSError), self.log.open("rb") as file:
            file.seek(self.log_before)
            return file.read().decode(errors="replace").strip()[-LAST_WORDS:]
        return ""

    def clear_if_dead(self) -> None:
        """Kill what a process that was killed has left: its forks would train on, unheard."""
        if self.process is None or not self.place.apart:
            return
        if os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            self.kill()  # before anybody waits for it: until then the number of its group is nobody else's

    def ask_to_stop(self) -> None:
        """End the stdin of a process at work, which makes its runs save and stop; others have nothing to save."""
        if self.process is None or not self.jobs:
            self.kill()
        else:
            _pipe(self.process.stdin).close()

    def kill(self) -> None:
        """Kill the process and its forks at once."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


@dataclass(slots=True)
class Local:
    """Workers on this machine, started when there is work for them; stopped, after saving, at the end of the block.

    Args:
        places: one a worker process.
        log: what they write to stderr.
    """

    places: Sequence[Place]
    log: Path
    _workers: list[_Worker] = field(init=False)

    def __post_init__(self) -> None:
        self._workers = [_Worker(place=place, log=self.log) for place in self.places]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def side_by_side(self) -> int:
        """How many jobs there is room for."""
        return sum(place.capacity for place in self.places)

    @property
    def free(self) -> int:
        """How many more jobs can be started."""
        return sum(worker.free for worker in self._workers)

    def start(self, job: Job) -> None:
        """Start a job where there is room for one."""
        next(worker for worker in self._workers if worker.free).start(job)

    def wait(self, timeout_s: float) -> list[Told | Ended]:
        """Return what the workers have told, after `timeout_s` at the latest."""
        alive = {_pipe(worker.process.stdout).fileno(): worker for worker in self._workers if worker.process}
        poller = select.poll()
        for descriptor, worker in alive.items():
            worker.clear_if_dead()
            poller.register(descriptor, select.POLLIN)
        return [event for descriptor, _ in poller.poll(1000 * timeout_s) for event in alive[descriptor].read()]

    def stop(self) -> int:
        """Ask all runs to save and stop; kill those that are still there after `GRACE_S`, and return how many."""
        for worker in self._workers:
            worker.ask_to_stop()
        deadline = time.monotonic() + GRACE_S
        killed: set[str] = set()
        while any(worker.process for worker in self._workers):
            if time.monotonic() > deadline:
                for worker in self._workers:
                    killed.update(worker.jobs)
                    worker.kill()
            self.wait(0.1)
        return len(killed)
