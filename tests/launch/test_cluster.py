"""Ray's nodes and Slurm's, of which this machine plays both: pytest -m cluster."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bakeoff.errors import BakeoffError, RecipeError
from bakeoff.launch import remote
from bakeoff.launch.cluster import RayNodes
from bakeoff.launch.exchange import Exchange
from bakeoff.launch.executors import Placement
from bakeoff.launch.jobs import Ended, Executor, Job
from bakeoff.launch.remote import Remote
from bakeoff.launch.slurm import SlurmNodes
from bakeoff.results import store
from bakeoff.results.store import Run
from tests.launch import grids, slurm_stand_in
from tests.launch.test_remote import LONG, SHORT, alone, is_end, wait_for
from tests.training import kills


def job(root: Path, recipe: Any = SHORT) -> Job:
    return Job(recipe=recipe, folder=store.folder_of(recipe, root=root), test=True, plugin=grids.TINY)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"executor": "rai"}, "Did you mean 'ray'"),
        ({"address": "auto"}, "--address with --executor local; expected --executor ray"),
        ({"store": "/tmp"}, "--executor ray or slurm"),
        ({"executor": "ray", "slurm": {"partition": "gpu"}}, "expected --executor slurm"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Placement(**options)


def test_slurm_is_missed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="needs bakeoff[cluster]")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecipeError, match="no program srun"):
        Placement(executor="slurm").open([SHORT], root=tmp_path, log=tmp_path)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put programs in the path that answer as Slurm's do, and return the folder of their books."""
    submitted = pytest.importorskip("submitit.slurm.slurm", reason="needs bakeoff[cluster]")
    # One for all jobs of a process, and every stand-in begins to count at 1.
    monkeypatch.setattr(submitted.SlurmJob, "watcher", submitted.SlurmInfoWatcher())
    for name, value in (grids.environment() | slurm_stand_in.install(tmp_path)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "ASK_EVERY_S", 0.2)
    monkeypatch.setattr("bakeoff.launch.slurm.ACCOUNTS_EVERY_S", 0.2)
    return tmp_path / "books"


def scripts(books: Path) -> list[str]:
    return [path.read_text() for path in sorted(books.glob("*.sh"))]


def test_what_is_asked_of_slurm(slurm: Path, tmp_path: Path) -> None:
    asked = {"cpus_per_task": "8", "job_name": "mine", "time": "30"}
    made = SlurmNodes(tmp_path / "slurm", cpus=1, parameters=asked)._executor.parameters
    assert (made["cpus_per_task"], made["job_name"], made["time"]) == (8, "mine", 30)
    with pytest.raises(RecipeError, match="more than once"):
        SlurmNodes(tmp_path / "slurm", cpus=1, parameters={"ntasks_per_node": "2"})


@pytest.mark.parametrize(
    ("each", "room"),
    [((1, 0), 6), ((2, 0), 3), ((4, 0), 1), ((8, 0), 0), ((1, 1), 2), ((1, 0.5), 4), ((1, 0.25), 4), ((3, 0.5), 1)],
)
def test_room_is_counted_on_each_node_that_is_alive(
    each: tuple[float, float], room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="needs bakeoff[cluster]")
    nodes = [({"CPU": 4.0, "GPU": 2.0}, True), ({"CPU": 2.0}, True), ({"CPU": 64.0, "GPU": 8.0}, False), ({}, True)]
    monkeypatch.setattr(ray, "nodes", lambda: [{"Resources": has, "Alive": alive} for has, alive in nodes])
    made = RayNodes(*each)
    assert made.room == room
    if not room:
        with pytest.raises(RecipeError, match="no node that has 8 cores"):
            made.require_room()


@pytest.fixture
def jobs_of_slurm(slurm: Path, tmp_path: Path) -> Iterator[Executor]:
    placement = Placement(executor="slurm", slurm={"partition": "gpu", "gpus_per_node": "1", "reservation": "ours"})
    with placement.open([SHORT], root=tmp_path / "logs", log=tmp_path / "log") as made:
        yield made


@pytest.mark.cluster
def test_a_run_by_slurm_is_the_same_as_one_here(jobs_of_slurm: Remote, slurm: Path, tmp_path: Path) -> None:
    wanted = job(tmp_path / "logs")
    jobs_of_slurm.start(wanted)
    end = wait_for(jobs_of_slurm, is_end)
    assert isinstance(end, Ended)
    assert (end.code, end.error) == (0, None)
    assert not kills.differences(alone(SHORT, tmp_path / "alone"), grids.outcome_of(Run(wanted.folder)))
    (script,) = scripts(slurm)
    for line in ("--partition=gpu", "--gpus-per-node=1", "--reservation=ours", "--no-requeue", "--cpus-per-task=1"):
        assert f"#SBATCH {line}\n" in script
    assert "#SBATCH --time=1440\n" in script


@pytest.mark.cluster
def test_a_job_that_slurm_kills_is_made_again(jobs_of_slurm: Remote, slurm: Path, tmp_path: Path) -> None:
    wanted = job(tmp_path / "logs", LONG)
    jobs_of_slurm.start(wanted)
    wait_for(jobs_of_slurm, lambda event: not is_end(event) and event.tick["step"] > 20)
    subprocess.run(["scancel", "1"], check=True)
    end = wait_for(jobs_of_slurm, is_end)
    assert isinstance(end, Ended)
    assert end.code == remote.LOST
    assert end.last_words.startswith("Slurm says CANCELLED.")
    jobs_of_slurm.start(wanted)
    wait_for(jobs_of_slurm, lambda event: not is_end(event))
    assert len(scripts(slurm)) == 2


@pytest.mark.cluster
def test_what_waits_in_the_queue_is_taken_out_of_it(jobs_of_slurm: Remote, slurm: Path, tmp_path: Path) -> None:
    (slurm / "full").touch()
    jobs_of_slurm.start(job(tmp_path / "logs"))
    began = time.monotonic()
    assert jobs_of_slurm.stop() == 0
    assert time.monotonic() - began < remote.GRACE_S
    assert json.loads((slurm / "1.json").read_text())["state"] == "CANCELLED"


@pytest.mark.cluster
def test_what_slurm_refuses_is_said(slurm: Path, tmp_path: Path) -> None:
    nodes = SlurmNodes(tmp_path / "slurm", cpus=1, parameters={"partition": "nowhere"})
    workers = Remote(root=tmp_path / "logs", nodes=nodes, exchange=Exchange(str(tmp_path / "exchange")))
    with workers, pytest.raises(BakeoffError, match="invalid partition"):
        workers.start(job(tmp_path / "logs"))


@pytest.mark.cluster
def test_a_study_on_ray_survives_nodes_and_drivers(tmp_path: Path) -> None:
    """The 24 runs of one study, with a node killed twice and the driver once, against the local executor's."""
    pytest.importorskip("ray", reason="needs bakeoff[cluster]")
    command = [sys.executable, "-m", "tests.launch.cluster_kills"]
    done = subprocess.run(command, cwd=grids.ROOT, env=grids.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["finished_and_equal"], result["folders"], len(result["killed"])) == (24, 24, 3)
    assert result["seconds_of_study"] < 300


@pytest.mark.cluster
def test_a_cluster_of_this_machine_listens_on_loopback_only_and_is_silent(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs bakeoff[cluster]")
    settings = ["data.limit=200", "epochs=2", "batch_size=32", "threads=1", "device=cpu", "precision=float32"]
    command = [sys.executable, "-m", "tests.launch.driver", str(tmp_path), "2", "executor=ray", *settings]
    driver = subprocess.Popen(
        command, cwd=grids.ROOT, env=grids.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    addresses: set[str] = set()
    while driver.poll() is None:
        addresses.update(listening(driver.pid))
        time.sleep(0.2)
    out, err = driver.communicate()
    assert driver.returncode == 0, err
    assert [line.split()[0] for line in out.splitlines()] == ["finished"] * 2
    assert addresses
    assert all(address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1") for address in addresses), addresses
    assert not [process for process in psutil.process_iter(["name"]) if process.info["name"] == "raylet"]


def listening(process: int) -> Iterator[str]:
    """Yield the addresses at which a process and all beneath it wait for others."""
    try:
        family = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            found = member.net_connections(kind="inet")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        yield from (one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN)


@pytest.mark.cluster
def test_a_signal_saves_the_runs_of_a_cluster(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs bakeoff[cluster]")
    settings = ["data.limit=1438", "epochs=400", "checkpoint_steps=20"]
    command = [sys.executable, "-m", "tests.launch.driver", str(tmp_path), "2", "jobs=2", "executor=ray", *settings]
    driver = subprocess.Popen(command, cwd=grids.ROOT, env=grids.environment(), stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while len(list(tmp_path.glob(".exchange/*/*/*/*/run/checkpoints/step-*"))) < 2:
        assert driver.poll() is None
        assert time.monotonic() < until
        time.sleep(0.2)
    driver.send_signal(signal.SIGTERM)
    _, err = driver.communicate(timeout=90)
    assert driver.returncode == 143, err
    assert "the same command goes on with them" in err
    runs = store.list_runs(tmp_path)
    assert [run.status() for run in runs] == ["interrupted"] * 2
    assert all(list(run.checkpoints.glob("step-*")) for run in runs)


@pytest.mark.cluster
def test_nobody_at_the_address_is_said_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs bakeoff[cluster]")
    with pytest.raises(RecipeError, match="Ray cluster that answers"):
        Placement(executor="ray", address="127.0.0.1:9").open([SHORT], root=tmp_path, log=tmp_path)
