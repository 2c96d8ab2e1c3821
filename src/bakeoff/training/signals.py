"""SIGTERM and SIGINT ask a run to save and stop; a second one stops it at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(slots=True)
class StopRequest:
    """Whether, and by which signal, the run was asked to stop."""

    signal_number: int = 0

    def __bool__(self) -> bool:
        return self.signal_number != 0


@contextmanager
def listen() -> Iterator[StopRequest]:
    """Collect a request to stop for as long as the block runs."""
    request = StopRequest()

    def handle(number: int, _: FrameType | None) -> None:
        if request:
            os._exit(128 + number)  # a person who asks twice means now
        request.signal_number = number

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
