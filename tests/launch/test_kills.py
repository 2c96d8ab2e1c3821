"""The harness of kills.py, and what a person's Ctrl-C does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bakeoff.launch.local import GRACE_S
from bakeoff.results import store
from bakeoff.results.store import Run
from tests.launch import grids, kills


def test_a_grid_whose_driver_and_worker_are_killed_ends_as_if_undisturbed(tmp_path: Path) -> None:
    settings = ("data.limit=1438", "epochs=4", "checkpoint_steps=23")
    result = kills.prove(tmp_path, runs=4, driver=1, workers=1, seed=5, settings=settings, rival=False)
    assert kills.good(result), result


@pytest.mark.parametrize(
    ("device", "runs"), [("cpu", 2), ("auto", 1)], ids=["forks of one process", "a process a run, as where GPUs are"]
)
def test_ctrl_c_saves_every_run_in_the_middle_of_an_epoch(device: str, runs: int, tmp_path: Path) -> None:
    """An epoch takes 1,294 steps, and there is one a run: without the question they would save at its end alone."""
    settings = (
        "data.limit=1438",
        "batch_size=1",
        "model.width=64",
        f"device={device}",
        "epochs=1",
        "checkpoint_steps=1000000",
    )
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.launch.driver", str(tmp_path), str(runs), f"jobs={runs}", *settings],
        cwd=grids.ROOT,
        env={**grids.environment(), "CUDA_VISIBLE_DEVICES": "0"},
        stderr=subprocess.PIPE,
        text=True,
    )
    asked_for = [Run(store.folder_of(r, root=tmp_path)) for r in grids.many(runs, *settings).recipes().values()]
    deadline = time.monotonic() + 120
    while not all(list(run.checkpoints.glob("step-*")) for run in asked_for):  # the first is of before the first step
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = [worker for worker, _ in grids.at_work(tmp_path)]
    driver.send_signal(signal.SIGINT)
    asked = time.monotonic()
    _, said = driver.communicate(timeout=60)
    assert time.monotonic() - asked < 10 > GRACE_S
    assert driver.returncode == 130
    assert "Its runs are saved; the same command goes on" in said
    assert len(workers) == runs
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    for run in asked_for:
        assert run.status() == "interrupted"
        assert 0 < kills.how_far(run.folder) < 1294


@pytest.mark.slow
def test_thirty_runs_five_kills_of_the_driver_and_ten_of_workers(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.launch.kills", "--report", str(report)]
    done = subprocess.run(command, cwd=grids.ROOT, env=grids.environment(), capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert json.loads(report.read_text())["measured"]["finished_and_equal"] == 30
