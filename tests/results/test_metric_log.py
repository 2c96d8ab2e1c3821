"""The metric log: no acknowledged row is lost, whatever kills the writer."""

import json
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bakeoff.errors import StorageError
from bakeoff.results.metric_log import MetricLog

ROWS: list[dict[str, Any]] = [{"step": 8 * i, "epoch": i, "train/loss": 2.0 / i, "name": "é"} for i in range(1, 5)]


@pytest.fixture
def log(tmp_path: Path) -> MetricLog:
    log = MetricLog(tmp_path / "metrics.jsonl")
    for row in ROWS:
        log.append(row)
    return log


def test_rows_come_back_in_order_each_a_line(log: MetricLog) -> None:
    assert log.rows() == ROWS
    assert [json.loads(line) for line in log.path.read_text().splitlines()] == ROWS


def test_no_log_is_no_rows(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "metrics.jsonl")
    assert log.rows() == []
    log.roll_back(3)
    assert not log.path.exists()


def test_a_last_line_cut_anywhere_is_dropped(log: MetricLog) -> None:
    whole = log.path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for length in range(start, len(whole)):
        log.path.write_bytes(whole[:length])
        assert log.rows() == ROWS[:-1], length


def test_a_log_with_a_cut_line_goes_on_after_a_roll_back(log: MetricLog) -> None:
    log.path.write_bytes(log.path.read_bytes()[:-5])
    log.roll_back(24)
    log.append(ROWS[3])
    assert log.rows() == ROWS


@pytest.mark.parametrize("last", [b"\x00\x00\x00\n", b'{"step": 3\n', b"\xff\n", b"[]\n", b'{"epoch": 1}\n', b"\n"])
def test_a_last_line_that_is_no_row_is_dropped(log: MetricLog, last: bytes) -> None:
    with log.path.open("ab") as file:
        file.write(last)
    assert log.rows() == ROWS


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("bad", [b"", b'{"step": 16, "epo', b"\xff\xff", b"3", b'{"epoch": 2}', b'{"step": "2"}'])
def test_a_bad_line_inside_is_named_by_its_number(log: MetricLog, number: int, bad: bytes) -> None:
    lines = log.path.read_bytes().split(b"\n")
    lines[number - 1] = bad
    damaged = b"\n".join(lines)
    log.path.write_bytes(damaged)
    for use in (log.rows, lambda: log.roll_back(1000)):
        with pytest.raises(StorageError, match=f"metrics.jsonl, line {number}:"):
            use()
    assert log.path.read_bytes() == damaged


def test_two_rows_run_together_are_named(log: MetricLog) -> None:
    """What a writer would leave that goes on behind a torn line."""
    text = log.path.read_bytes().split(b"\n")
    log.path.write_bytes(b"\n".join([text[0], text[1][:10] + text[2], text[3], b""]))
    with pytest.raises(StorageError, match="line 2:"):
        log.rows()


@pytest.mark.parametrize(("step", "kept"), [(0, 0), (7, 0), (8, 1), (23, 2), (24, 3), (32, 4), (1000, 4)])
def test_a_roll_back_drops_what_lies_beyond(log: MetricLog, step: int, kept: int) -> None:
    log.roll_back(step)
    assert log.rows() == ROWS[:kept]


def test_a_roll_back_does_not_touch_the_bytes_that_stay(log: MetricLog) -> None:
    before = log.path.read_bytes()
    log.roll_back(24)
    assert before.startswith(log.path.read_bytes())


def test_numbers_that_are_none_are_null(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "metrics.jsonl")
    log.append({"step": 1, "a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.0, "e": None})
    assert log.rows() == [{"step": 1, "a": None, "b": None, "c": None, "d": 0.0, "e": None}]
    json.loads(log.path.read_text(), parse_constant=pytest.fail)


def test_a_row_is_one_write_and_on_the_disk_before_the_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, calls = MetricLog(tmp_path / "metrics.jsonl"), []
    write, fsync = os.write, os.fsync
    monkeypatch.setattr(os, "write", lambda file, data: (calls.append(bytes(data)), write(file, data))[1])
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append(b"fsync"), fsync(file))[1])
    big = {"step": 1, "text": "x" * 100_000}
    log.append(big)
    assert calls == [json.dumps(big).encode() + b"\n", b"fsync"]


APPEND = """
import sys
from pathlib import Path
from bakeoff.results.metric_log import MetricLog
log = MetricLog(Path(sys.argv[1]))
first = len(log.rows())
log.roll_back(first)
for i in range(first + 1, 10**9):
    log.append({"step": i, "text": "x" * 3000})
    print(i, flush=True)
"""


def test_no_acknowledged_row_is_lost_to_a_kill(tmp_path: Path) -> None:
    log, rng, acknowledged = MetricLog(tmp_path / "metrics.jsonl"), random.Random(1), 0
    for _ in range(10):
        with subprocess.Popen([sys.executable, "-c", APPEND, log.path], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(rng.randint(1, 40)):
                acknowledged = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            rest = child.stdout.read().split("\n")[:-1]  # said before the kill came
            acknowledged = int(rest[-1]) if rest else acknowledged
        assert child.returncode == -signal.SIGKILL
        steps = [row["step"] for row in log.rows()]
        assert steps == list(range(1, len(steps) + 1))
        assert len(steps) - acknowledged in (0, 1)
    assert acknowledged > 10


FILL = """
import resource, sys
from pathlib import Path
from bakeoff.errors import StorageError
from bakeoff.results.metric_log import MetricLog
log = MetricLog(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for i in range(1, 5):
    try:
        log.append({"step": i, "text": "x" * 300})
    except StorageError as error:
        print(error.exit_code, error)
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print([row["step"] for row in log.rows()])
log.roll_back(i - 1)
log.append({"step": i})
print([row["step"] for row in log.rows()])
"""


def test_a_row_for_which_there_is_no_room_is_said_and_goes_on_once_there_is(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    done = subprocess.run([sys.executable, "-c", FILL, str(path)], stdout=subprocess.PIPE, text=True, check=True)
    message, torn, after = done.stdout.splitlines()
    assert message.startswith(f"5 {path}: found room for ")
    assert (torn, after) == ("[1, 2]", "[1, 2, 3]") or (torn, after) == ("[1, 2, 3]", "[1, 2, 3, 4]")


def test_a_log_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(StorageError, match=r"metrics\.jsonl"):
        MetricLog(tmp_path / "metrics.jsonl").rows()
