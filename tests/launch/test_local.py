"""Where workers are put: one a core, or one a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bakeoff.launch import local
from bakeoff.launch.jobs import Job
from bakeoff.launch.local import Local, Place, cores, gpus, places
from tests.launch import grids

ON_CPU = grids.recipe("device=cpu")
ANYWHERE = grids.recipe("device=auto")


@pytest.mark.parametrize(
    ("visible", "found"),
    [("0", ("0",)), ("2,0", ("2", "0")), ("", ()), ("-1", ()), ("1,-1,0", ("1",)), ("GPU-ab", ("GPU-ab",))],
)
def test_what_the_environment_names_is_what_there_is(
    monkeypatch: pytest.MonkeyPatch, visible: str, found: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == found


def test_else_the_driver_program_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == ()
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: One (UUID: GPU-1)'\necho '  MIG 1g'\necho 'GPU 1: One (UUID: GPU-2)'\n")
    program.chmod(0o755)
    assert gpus() == ("0", "1")
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert gpus() == ()


def test_runs_on_the_cpu_share_one_process_that_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    (place,) = places([ON_CPU])
    assert (place.capacity, place.apart) == (cores(), True)
    assert place.environment == {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    assert places([ON_CPU], jobs=7)[0].capacity == 7


def test_runs_of_many_threads_do_not_fight_for_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "cores", lambda: 8)
    assert places([grids.recipe("threads=3"), ON_CPU])[0].capacity == 2
    assert places([grids.recipe("threads=16")])[0].capacity == 1


def test_each_gpu_has_its_processes_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in places([ANYWHERE])] == ["3", "5"]
    side_by_side = places([ANYWHERE, ON_CPU], jobs=2)
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in side_by_side] == ["3", "5", "3", "5"]
    assert not any(place.apart for place in side_by_side)


def test_whoever_does_not_stop_is_killed_and_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "deaf"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(local, "GRACE_S", 0.1)
    with Local([Place(environment={}, capacity=2, apart=True)], log=tmp_path / "log") as workers:
        for name in ("a", "b"):
            workers.start(Job(recipe=ON_CPU, folder=tmp_path / name, test=False))
        assert (workers.stop(), workers.stop()) == (2, 0)


def test_the_driver_loads_no_torch() -> None:
    code = "import sys, bakeoff.launch.grid, bakeoff.cli.board; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False).returncode == 0
