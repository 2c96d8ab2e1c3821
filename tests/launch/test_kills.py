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


def test_ctrl_c_saves_every_run_and_leaves_nobody_behind(tmp_path: Path) -> None:
    """Where a GPU is named each run has a process of its own; elsewhere it is a fork, as in all other tests."""
    settings = ("epochs=2000", "device=auto", "checkpoint_steps=1000000")
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.launch.driver", str(tmp_path), "1", *settings],
        cwd=grids.ROOT,
        env={**grids.environment(), "CUDA_VISIBLE_DEVICES": "0"},
        stderr=subprocess.PIPE,
        text=True,
    )
    recipe = next(iter(grids.many(1, *settings).recipes().values()))
    run = Run(store.folder_of(recipe, root=tmp_path))
    deadline = time.monotonic() + 120
    while len(run.metrics.rows()) < 2:
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (worker, _), *_ = grids.at_work(tmp_path)
    driver.send_signal(signal.SIGINT)
    asked = time.monotonic()
    _, said = driver.communicate(timeout=60)
    assert time.monotonic() - asked < GRACE_S
    assert driver.returncode == 130
    assert "the same command goes on" in said
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert run.status() == "interrupted"
    steps = sorted(int(path.name[5:]) for path in run.checkpoints.glob("step-*"))
    assert steps[-1] == max(run.metrics.rows()[-1]["step"], steps[-1]) > 0


@pytest.mark.slow
def test_thirty_runs_five_kills_of_the_driver_and_ten_of_workers(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.launch.kills", "--report", str(report)]
    done = subprocess.run(command, cwd=grids.ROOT, env=grids.environment(), capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert json.loads(report.read_text())["measured"]["finished_and_equal"] == 30
