"""The harness of kills.py, run as people run it; its own last line says what came out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def kills(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.kills", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, done.stderr)  # pytest shows it where the test fails
    assert done.returncode == 0
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_killed_runs_end_as_if_undisturbed_and_incomplete_resumes_do_not() -> None:
    answer = kills("--points", "20", "--seed", "7", "--controls", "6")
    assert (answer["points"], answer["equal"]) == (20, 20)
    assert (answer["controls"], answer["differing"]) == (6, 6)


@pytest.mark.slow
def test_killed_distillations_end_as_if_undisturbed() -> None:
    answer = kills("--points", "160", "--seed", "3", "--distillation")
    assert (answer["points"], answer["equal"]) == (160, 160)


@pytest.mark.slow
def test_hundreds_of_kills_and_every_operation_of_a_save() -> None:
    answer = kills("--points", "200", "--seed", "1", "--controls", "21", "--every-operation")
    assert (answer["points"], answer["equal"]) == (200, 200)
    assert (answer["controls"], answer["differing"]) == (21, 21)
    assert answer["operations_equal"] == answer["operations"] >= 15
