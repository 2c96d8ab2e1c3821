"""Runs elsewhere: what nodes, drivers and orphans may do to them, with real processes for nodes."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bakeoff.errors import BakeoffError
from bakeoff.launch import attempts, grid, remote
from bakeoff.launch.exchange import Exchange
from bakeoff.launch.executors import Placement
from bakeoff.launch.jobs import Ended, Job, Told, claim
from bakeoff.launch.remote import Remote
from bakeoff.recipe import Recipe
from bakeoff.results import lock, store
from bakeoff.results.store import Run
from bakeoff.training import run as training
from tests.launch import grids
from tests.launch.nodes import Processes
from tests.training import kills

LONG = grids.recipe("data.limit=1438", "epochs=400", "checkpoint_steps=20")
SHORT = grids.recipe("lr=0.02", "epochs=3", "checkpoint_steps=2")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ASK_EVERY_S", 0.2)
    monkeypatch.setattr(remote, "BRING_EVERY_S", 0.5)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Remote]:
    with (
        Processes() as nodes,
        Remote(root=tmp_path / "logs", nodes=nodes, exchange=Exchange(str(tmp_path / "exchange"))) as made,
    ):
        yield made


def job(recipe: Recipe, root: Path, **options: Any) -> Job:
    return Job(
        recipe=recipe, folder=store.folder_of(recipe, root=root), **{"test": True, "plugin": grids.TINY} | options
    )


def wait_for(workers: Remote, wanted: Callable[[Told | Ended], bool], *, seconds: float = 120) -> Told | Ended:
    until, came = time.monotonic() + seconds, []
    while time.monotonic() < until:
        for event in workers.wait(0.1):
            if wanted(event):
                return event
            came.append(event)
    raise AssertionError(came)


def is_end(event: Told | Ended) -> bool:
    return isinstance(event, Ended)


def alone(recipe: Recipe, root: Path) -> dict[str, Any]:
    """Return the outcome of the same run in this process."""
    run = Run(store.folder_of(recipe, root=root))
    training.start(recipe, run.folder)
    training.read_test(run, plugin=grids.TINY)
    return grids.outcome_of(run)


def test_a_run_elsewhere_is_the_same_as_one_here(workers: Remote, tmp_path: Path) -> None:
    wanted = job(SHORT, tmp_path / "logs")
    workers.start(wanted)
    assert (workers.free, workers.side_by_side) == (1, 2)
    assert lock.is_held(claim(wanted.folder))  # for other drivers: somebody is at it
    assert isinstance(workers.nodes, Processes)
    end = wait_for(workers, is_end)
    assert isinstance(end, Ended)
    assert (end.code, end.error) == (0, None)
    assert not lock.is_held(claim(wanted.folder))
    assert not kills.differences(alone(SHORT, tmp_path / "alone"), grids.outcome_of(Run(wanted.folder)))
    assert workers.exchange.attempts(attempts.place_of(wanted.folder)) == []
    assert [path.name for path in wanted.folder.parent.iterdir() if path.is_dir()] == [wanted.folder.name]


def test_a_lost_attempt_leaves_its_checkpoint_to_the_next(workers: Remote, tmp_path: Path) -> None:
    wanted = job(LONG, tmp_path / "logs", test=False)
    workers.start(wanted)
    wait_for(workers, lambda event: isinstance(event, Told) and event.tick["step"] > 40)
    nodes = workers.nodes
    assert isinstance(nodes, Processes)
    time.sleep(2 * attempts.PULSE_S)  # it brings what it has
    nodes.kill(nodes.started[0])
    end = wait_for(workers, is_end)
    assert isinstance(end, Ended)
    assert (end.code, end.error, end.last_words) == (remote.LOST, None, "its node is gone")
    reached = max(int(path.name[5:]) for path in Run(wanted.folder).checkpoints.glob("step-*"))
    assert reached >= 20
    workers.start(wanted)
    assert lock.is_held(Run(wanted.folder).lock_path)  # for whoever would resume it by hand
    told = wait_for(workers, lambda event: isinstance(event, Told))
    assert isinstance(told, Told)
    assert told.tick["step"] >= reached


def test_an_orphan_cannot_write_beside_its_successor(workers: Remote, tmp_path: Path) -> None:
    """Its node is given up but lives: it ends by itself, and nothing of it is ever seen again."""
    wanted = job(LONG, tmp_path / "logs", test=False)
    place = attempts.place_of(wanted.folder)
    workers.start(wanted)
    wait_for(workers, lambda event: isinstance(event, Told) and event.tick["step"] > 20)
    nodes = workers.nodes
    assert isinstance(nodes, Processes)
    orphan = nodes.started[0]
    nodes.given_up.append(orphan)
    wait_for(workers, is_end)
    assert orphan.poll() is None
    workers.start(wanted)
    wait_for(workers, lambda event: isinstance(event, Told))
    assert orphan.wait(timeout=60) == 0
    assert len(workers.exchange.attempts(place)) == 1
    assert workers.stop() == 0
    assert Run(wanted.folder).status() == "interrupted"


@pytest.mark.slow
def test_the_next_driver_takes_over_what_a_killed_one_had_ordered(workers: Remote, tmp_path: Path) -> None:
    wanted = job(LONG, tmp_path / "logs", test=False)
    nodes = workers.nodes
    assert isinstance(nodes, Processes)
    killed = Remote(root=workers.root, nodes=nodes, exchange=workers.exchange)  # never left: as if by SIGKILL
    killed.start(wanted)
    wait_for(killed, lambda event: isinstance(event, Told) and event.tick["step"] > 40)
    time.sleep(2 * attempts.PULSE_S)
    killed._flights[0].claim.close()  # as the kernel does
    workers.start(wanted)
    (taken_over,) = workers.wait(0)
    assert isinstance(taken_over, Ended)
    assert (taken_over.code, taken_over.error) == (0, None)
    assert list(Run(wanted.folder).checkpoints.glob("step-*"))
    assert nodes.started[0].wait(timeout=60) == 0  # the old order is withdrawn
    workers.start(wanted)
    wait_for(workers, lambda event: isinstance(event, Told))


@pytest.mark.slow
def test_stopped_runs_are_saved_and_go_on(workers: Remote, tmp_path: Path) -> None:
    wanted = job(LONG, tmp_path / "logs", test=False)
    workers.start(wanted)
    wait_for(workers, lambda event: isinstance(event, Told) and event.tick["step"] > 5)
    assert workers.stop() == 0
    run = Run(wanted.folder)
    assert run.status() == "interrupted"
    assert list(run.checkpoints.glob("step-*"))


@pytest.mark.slow
def test_whoever_does_not_stop_is_killed_and_counted(
    workers: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "GRACE_S", 0.5)
    wanted = job(LONG, tmp_path / "logs", test=False)
    workers.start(wanted)
    wait_for(workers, lambda event: isinstance(event, Told))
    nodes = workers.nodes
    assert isinstance(nodes, Processes)
    os.killpg(nodes.started[0].pid, signal.SIGSTOP)
    assert workers.stop() == 1
    assert not lock.is_held(claim(wanted.folder))


@pytest.mark.slow
def test_an_error_on_a_node_is_told_of_the_folder_at_home(workers: Remote, tmp_path: Path) -> None:
    wanted = job(grids.recipe("model.fate=strange"), tmp_path / "logs")
    workers.start(wanted)
    end = wait_for(workers, is_end)
    assert isinstance(end, Ended)
    assert end.code == BakeoffError.exit_code
    assert end.error is not None
    assert "nobody expected this" in str(end.error)
    assert str(wanted.folder) in str(end.error)
    assert "bakeoff-attempt" not in str(end.error)


def test_a_run_that_another_holds_is_left_to_it(workers: Remote, tmp_path: Path) -> None:
    wanted = job(SHORT, tmp_path / "logs")
    wanted.folder.parent.mkdir(parents=True)
    with lock.hold(claim(wanted.folder)):
        workers.start(wanted)
        (end,) = workers.wait(0)
    assert isinstance(end, Ended)
    assert end.code == 6
    assert workers.free == 2


def test_nodes_of_another_version_refuse(workers: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "Order", lambda **fields: attempts.Order(**fields | {"version": "0.0.0"}))
    workers.start(job(SHORT, tmp_path / "logs"))
    end = wait_for(workers, is_end)
    assert isinstance(end, Ended)
    assert (end.code, end.error) == (remote.LOST, None)  # another node may have it
    nodes = workers.nodes
    assert isinstance(nodes, Processes)
    assert "0.0.0, as where the study is run" in nodes.said(nodes.started[0])


def test_a_node_that_sees_another_store_says_so(tmp_path: Path) -> None:
    order = attempts.Order(
        job=job(SHORT, tmp_path / "logs").to_line().decode(),
        store=str(tmp_path / "nothing here"),
        attempt="1",
        environment={},
        bring_every_s=1.0,
    )
    with pytest.raises(BakeoffError, match="a store that the driver and all nodes see"):
        attempts.work(order.to_json())


def test_what_is_refused_while_others_are_at_work_is_handed_over_later(tmp_path: Path) -> None:
    class Full(Processes):
        refuses = 0

        def submit(self, order: Any) -> Any:
            if self.refuses:
                self.refuses -= 1
                raise BakeoffError("sbatch", found="a queue that is full", expected="room")
            return super().submit(order)

    with (
        Full() as nodes,
        Remote(root=tmp_path / "logs", nodes=nodes, exchange=Exchange(str(tmp_path / "exchange"))) as made,
    ):
        nodes.refuses = 1
        with pytest.raises(BakeoffError, match="queue that is full"):
            made.start(job(SHORT, tmp_path / "logs"))
        made.start(job(SHORT, tmp_path / "logs"))
        nodes.refuses = 1
        made.start(job(LONG, tmp_path / "logs"))
        assert (made.free, len(nodes.started)) == (0, 1)
        wait_for(made, is_end)
        made.wait(0.1)
        assert len(nodes.started) == 2


@pytest.mark.slow
def test_a_grid_elsewhere_trains_teachers_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.launch.test_teachers import study

    def made(self: Placement, recipes: object, *, root: Path, log: Path) -> Remote:
        return Remote(root=tmp_path / "logs", nodes=nodes, exchange=Exchange(str(tmp_path / "exchange")))

    monkeypatch.setattr(Placement, "open", made)
    of = study()
    with Processes() as nodes:
        outcome = grid.run(of, root=tmp_path / "logs", plugin=grids.TINY)
    assert {end.state for end in outcome.runs} == {"finished"}
    assert len(outcome.runs) == len(of.recipes())
