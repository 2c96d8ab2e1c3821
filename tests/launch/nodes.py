"""Nodes that are processes of this machine: what Ray and Slurm do for `launch.remote`, without either.

python -m tests.launch.nodes ORDER
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any, Self

from bakeoff.launch import attempts
from tests.launch import grids

Task = subprocess.Popen[bytes]


@dataclass
class Processes:
    """So many processes at once.

    Args:
        room: how many.
        given_up: said to be gone although they go on, as of a node that is cut off.
        started: all there ever were, in their order.
    """

    room: int = 2
    given_up: list[Task] = field(default_factory=list)
    started: list[Task] = field(default_factory=list)
    logs: list[IO[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for task in self.started:
            self.kill(task)
            task.wait()
        for log in self.logs:
            log.close()

    def submit(self, order: Mapping[str, Any]) -> Task:
        command = [sys.executable, "-m", "tests.launch.nodes", json.dumps(dict(order))]
        environment = {name: value for name, value in grids.environment().items() if not name.startswith("BAKEOFF_")}
        log = tempfile.TemporaryFile()  # noqa: SIM115 - read when the process is over
        task = subprocess.Popen(command, cwd=grids.ROOT, env=environment, start_new_session=True, stderr=log)
        self.started.append(task)
        self.logs.append(log)
        return task

    def ended(self, tasks: Sequence[Task], *, timeout_s: float) -> list[tuple[Task, str]]:
        until = time.monotonic() + timeout_s
        while True:
            over = [task for task in tasks if task in self.given_up or task.poll() is not None]
            if over or time.monotonic() > until:
                return [(task, "its node is gone" if task.returncode else "") for task in over]
            time.sleep(0.02)

    def said(self, task: Task) -> str:
        """Return what a process has written to stderr."""
        log = self.logs[self.started.index(task)]
        log.seek(0)
        return log.read().decode()

    def kill(self, task: Task) -> None:
        with suppress(ProcessLookupError):
            os.killpg(task.pid, signal.SIGKILL)  # and what trains beneath it dies of the end of its stdin


if __name__ == "__main__":
    attempts.work(json.loads(sys.argv[1]))
