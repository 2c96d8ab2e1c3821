"""One process a run: an flock that the kernel releases with its holder, however it dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bakeoff.errors import RunLocked
from bakeoff.results.files import storage_errors

TRIES = 20  # within 0.2 s


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the run's lock.

    Raises:
        RunLocked: another process holds it; the message names that process.
    """
    with storage_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _take(descriptor):
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise RunLocked(
                str(path.parent),
                found=f"process {holder} at work on this run",
                expected="a run that no other process holds",
                hint="Wait for it, or stop it: it saves a checkpoint on SIGTERM.",
            )
        with storage_errors(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    """Take the lock. Whoever only asks `is_held` has it for some microseconds, so one refusal means nothing."""
    for attempt in range(TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.001 * attempt)
        else:
            return True
    return False


def is_held(path: Path) -> bool:
    """Tell whether some process holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
