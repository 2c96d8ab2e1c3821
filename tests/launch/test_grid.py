"""One grid in which everything happens that can happen to a run, with real worker processes."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from bakeoff.errors import BakeoffError, Diverged, RecipeError, StorageError
from bakeoff.launch import entry, grid
from bakeoff.launch.board import OPEN, Board
from bakeoff.launch.executors import Placement
from bakeoff.launch.grid import End, Outcome
from bakeoff.launch.jobs import claim
from bakeoff.results import lock, store
from bakeoff.results.comparison import compare
from bakeoff.results.store import Run
from bakeoff.study import Study
from bakeoff.training import run as training
from bakeoff.training import trainer
from tests.launch import grids
from tests.training import kills
from tests.training.runs import Killed, stop_at

ARMS = {
    "fresh": grids.recipe("lr=0.01"),
    "half": grids.recipe("lr=0.02", "checkpoint_steps=2"),
    "owes test": grids.recipe("lr=0.03"),
    "done": grids.recipe("lr=0.04"),
    "extended": grids.recipe("lr=0.05", "epochs=1"),
    "wrong": grids.recipe("data.val_fraction=0.0001"),
    "strange": grids.recipe("model.fate=strange"),
    "exit": grids.recipe("model.fate=exit"),
    "killed": grids.recipe("model.fate=killed"),
    "another's": grids.recipe("lr=0.06"),
    "diverging": grids.recipe("lr=1e30"),
    "no room": grids.recipe(model="resnet_20"),
}
TRIED = {"tuned": {"lr=1e-6": ["lr=1e-6"], "lr=0.05": ["lr=0.05"]}}


class Story:
    """What was there before, what the grid told meanwhile, and what it returned."""

    def __init__(self, root: Path) -> None:
        self.root, self.study = root, grids.study(ARMS, tried=TRIED)
        self.boards: list[Board] = []
        self.prepare()
        self.before = self.stamps("done")
        with ExitStack() as self.other_driver:
            self.other_driver.enter_context(lock.hold(claim(self.folder("another's"))))
            self.outcome: Outcome = grid.run(
                self.study, root=root, placement=Placement(jobs=2), tell=self.tell, plugin=grids.TINY
            )

    def tell(self, board: Board) -> None:
        """Look at the board; once nothing else is left, do what the other driver's worker would."""
        self.boards.append(board)
        if [row.name for row in board.rows if row.state in OPEN] == ["another's"]:
            training.start(ARMS["another's"], self.folder("another's"))
            training.read_test(Run(self.folder("another's")), plugin=grids.TINY)
            self.other_driver.close()

    def prepare(self) -> None:
        (self.root / "resnet_20").write_text("a file where a folder has to be")
        for name in ("owes test", "done", "extended"):
            training.start(ARMS[name], self.folder(name))
        training.read_test(Run(self.folder("done")), plugin=grids.TINY)
        training.resume(Run(self.folder("extended")), epochs=2, plugin=grids.TINY)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer, "_TICK_S", -1.0)
            with pytest.raises(Killed):
                training.start(ARMS["half"], self.folder("half"), tell=stop_at(7))

    def folder(self, arm: str) -> Path:
        return store.folder_of(ARMS[arm], root=self.root)

    def stamps(self, arm: str) -> dict[str, int]:
        files = sorted(path for path in self.folder(arm).rglob("*") if path.is_file())
        return {str(path): path.stat().st_mtime_ns for path in files}

    def end(self, arm: str) -> End:
        return next(end for end in self.outcome.runs if end.arms == (arm,))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(grids.ROOT))
        patch.setattr(entry, "TRIES", 1)
        return Story(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs that `training.start` made in this process."""
    return tmp_path_factory.mktemp("alone")


def looks(folder: Path) -> int:
    return len(Run(folder).read_json(Run(folder).summary_path).get("test_reads", []))


@pytest.mark.parametrize("arm", ["fresh", "half"])
def test_a_run_of_the_grid_is_the_same_as_one_alone(story: Story, alone: Path, arm: str) -> None:
    folder = store.folder_of(ARMS[arm], root=alone)
    training.start(ARMS[arm], folder)
    training.read_test(Run(folder), plugin=grids.TINY)
    assert story.end(arm).state == "finished"
    ours, theirs = grids.outcome_of(Run(folder)), grids.outcome_of(Run(story.folder(arm)))
    assert kills.differences(ours, theirs) == []
    assert looks(story.folder(arm)) == 1


def test_a_half_trained_run_was_resumed_not_begun_again(story: Story) -> None:
    log = Run(story.folder("half")).log_path.read_text()
    assert "Resuming" in log
    assert "at step 6 of 10" in log


def test_test_is_read_where_only_that_is_missing(story: Story) -> None:
    assert story.end("owes test").state == "finished"
    assert looks(story.folder("owes test")) == 1
    log = Run(story.folder("owes test")).log_path.read_text()
    assert log.count("epoch 1,") == 1  # it was not trained again


def test_what_is_done_is_left_alone(story: Story) -> None:
    assert story.end("done").state == "skipped"
    assert story.stamps("done") == story.before


def test_a_run_that_another_driver_is_at_is_waited_for_and_not_run_twice(story: Story) -> None:
    states = [row.state for board in story.boards for row in board.rows if row.name == "another's"]
    assert set(states) == {"busy", "skipped"}
    assert states == sorted(states)
    assert looks(story.folder("another's")) == 1
    assert "resumed" not in Run(story.folder("another's")).record().environment


@pytest.mark.parametrize(
    ("arm", "state", "code", "kind", "says"),
    [
        ("extended", "failed", 2, RecipeError, "another recipe"),
        ("wrong", "failed", 2, RecipeError, "data.val_fraction"),
        ("strange", "failed", 1, BakeoffError, "RuntimeError: nobody expected this"),
        ("exit", "failed", 1, BakeoffError, "exit code 9"),
        ("killed", "failed", 1, BakeoffError, "SIGKILL"),
        ("diverging", "diverged", 4, Diverged, "lower lr"),
        ("no room", "failed", 5, StorageError, "resnet_20"),
    ],
)
def test_what_cannot_end_well_is_listed_and_stops_nobody_else(
    story: Story, arm: str, state: str, code: int, kind: type[BakeoffError], says: str
) -> None:
    end = story.end(arm)
    assert (end.state, end.exit_code, type(end.error)) == (state, code, kind)
    assert says in str(end.error)
    assert (end in story.outcome.failed) == (state == "failed")


def test_of_an_arm_that_chooses_only_the_chosen_trial_reads_test_and_only_then(story: Story) -> None:
    low, high = (end for end in story.outcome.runs if end.arms == ("tuned",))
    assert (low.state, high.state) == ("finished", "finished")
    assert (looks(low.folder), looks(high.folder)) == (0, 1)
    trained = [Run(end.folder).summary_path.stat().st_mtime_ns for end in (low, high)]
    assert trained[0] < trained[1]  # the winner's was written once more when both were known


def test_the_comparison_finds_them(story: Story) -> None:
    found, unreadable = store.records_of(story.study.recipes().values(), root=story.root)
    assert ["another recipe" in str(error) for error in unreadable] == [True]  # the one that was extended
    comparison = compare(story.study, found)
    assert comparison.diverged == (("diverging", 0),)
    assert set(comparison.arm("fresh").top1) == {0}


def test_the_board_tells_how_far_all_is(story: Story) -> None:
    first, last = story.boards[0], story.boards[-1]
    assert (first.total, first.side_by_side) == (len(ARMS) + 2, 2)
    assert (last.done, last.total, last.seconds_left) == (last.total, last.total, 0)
    assert {row.state for row in last.rows} == {"finished", "skipped", "failed", "diverged"}
    for board in story.boards:
        assert sum(row.state == "running" for row in board.rows) <= 2
    fresh = next(row for row in last.rows if row.name == "fresh")
    assert (fresh.progress, fresh.epoch, fresh.epochs) == (1.0, 2, 2)
    assert 0 < fresh.val_top1 <= 1


def test_a_second_time_nothing_is_left_to_do_and_no_process_starts(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = {name: ARMS[name] for name in ("fresh", "half", "owes test", "done", "another's", "diverging")}
    again: Study = grids.study(finished, tried=TRIED)
    monkeypatch.setattr("subprocess.Popen", None)
    before = [story.stamps(name) for name in finished]
    outcome = grid.run(again, root=story.root)
    states = [end.state for end in outcome.runs]
    assert states == ["skipped"] * 5 + ["diverged"] + ["skipped"] * 2
    assert [story.stamps(name) for name in finished] == before


def test_no_worker_is_left(story: Story) -> None:
    assert not list(grids.at_work(story.root))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
