"""One process a run, whatever becomes of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bakeoff.errors import RunLocked, StorageError
from bakeoff.results import lock

HOLD = """
import sys, time
from pathlib import Path
from bakeoff.results import lock
with lock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(20)
"""
TRY = """
import sys
from pathlib import Path
from bakeoff.errors import BakeoffError
from bakeoff.results import lock
sys.stdin.read(1)
try:
    with lock.hold(Path(sys.argv[1])):
        print("won", flush=True)
        sys.stdin.read()
except BakeoffError as error:
    print(error.exit_code, error, flush=True)
"""
ASK = """
import sys, time
from pathlib import Path
from bakeoff.results import lock
print("up", flush=True)
while True:
    lock.is_held(Path(sys.argv[1]))
    time.sleep(0.0005)
"""


def python(code: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_process_is_refused_by_the_name_of_the_first_until_that_dies(tmp_path: Path) -> None:
    path = tmp_path / "run" / ".lock"
    path.parent.mkdir()
    with python(HOLD, path) as holder:
        assert line_of(holder) == "held"  # and it ends by itself, should this test fail
        assert lock.is_held(path)
        with pytest.raises(RunLocked, match=f"process {holder.pid} at work") as caught, lock.hold(path):
            pass
        assert caught.value.exit_code == 6
        assert caught.value.where == str(path.parent)
        assert lock.is_held(path)  # being refused has not let it go
        holder.send_signal(signal.SIGKILL)
    assert path.exists()  # with the dead one's name in it, which locks nothing
    assert not lock.is_held(path)
    with lock.hold(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_of_many_starters_at_once_one_wins(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    starters = [python(TRY, path) for _ in range(6)]
    for starter in starters:  # all are up and wait for this
        assert starter.stdin is not None
        starter.stdin.write("xx")
        starter.stdin.flush()
    answers = [line_of(starter) for starter in starters]
    assert answers.count("won") == 1
    winner = starters[answers.index("won")].pid
    losers = [answer for answer in answers if answer != "won"]
    assert all(answer.startswith("6 ") for answer in losers)
    assert sum(f"process {winner} " in answer for answer in losers) >= len(losers) - 1
    for starter in starters:
        starter.communicate(timeout=30)


def test_within_one_process_it_is_one_holder_too(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with lock.hold(path), pytest.raises(RunLocked, match=f"process {os.getpid()} "), lock.hold(path):
        pass
    with lock.hold(path):
        pass


def test_it_is_released_by_an_error(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with pytest.raises(KeyError), lock.hold(path):
        raise KeyError
    assert not lock.is_held(path)


def test_asking_makes_nothing_and_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert not lock.is_held(path)
    assert not path.exists()
    assert not lock.is_held(tmp_path / "nowhere" / ".lock")
    with lock.hold(path):
        assert lock.is_held(path)
        assert lock.is_held(path)


def test_a_child_of_the_holder_does_not_keep_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with lock.hold(path):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
    try:
        until = time.monotonic() + 5  # the kernel lets the parent go on some microseconds before it closes files
        while lock.is_held(path) and time.monotonic() < until:
            time.sleep(0.001)
        assert not lock.is_held(path)
    finally:
        child.kill()
        child.wait()


def test_a_number_in_the_file_that_is_longer_than_ours_does_not_stay(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.write_text("99999999999999\n")
    with lock.hold(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_place_where_no_lock_can_be_is_a_refusal_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"), lock.hold(tmp_path / "nowhere" / ".lock"):
        pass


def test_asking_does_not_stand_in_the_way_of_a_start(tmp_path: Path) -> None:
    """A list of runs may be asked for at any moment, also that in which a run begins."""
    path = tmp_path / ".lock"
    path.touch()
    with python(ASK, path) as asker:
        try:
            assert line_of(asker) == "up"
            until = time.monotonic() + 1
            while time.monotonic() < until:
                with lock.hold(path):
                    pass
        finally:
            asker.kill()
