"""Trackers show a run and change nothing of it: TensorBoard for real, others by a module that misbehaves on request."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accelerate import tracking
from accelerate.utils import LoggerType

from bakeoff.results.store import Run
from bakeoff.training import rehearsal, trackers
from tests.training import runs

Ask = Callable[[str], None]
Install = Callable[..., Path]

# What stands in for wandb: it writes down what it is told. A fault is put in place of one of the comments.
WANDB = """
import json, pathlib, sys, threading
said = pathlib.Path(__file__).with_name("said.jsonl")

def note(**what):
    with said.open("a") as file:
        file.write(json.dumps(what) + "\\n")

class Config:
    def update(self, values, **_):
        note(config=values)

class Run:
    def log(self, values, step=None, **_):
        # at a row
        note(step=step, values=values)

    def finish(self):
        # at the end
        note(finish=True)

config = Config()

def init(**arguments):
    # at init
    note(init=arguments)
    return Run()

# at import
"""


@pytest.fixture
def plain(tmp_path: Path) -> Run:
    """Return a run that was not tracked."""
    return runs.start(tmp_path / "plain")


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    return lambda names: monkeypatch.setenv(trackers.VARIABLE, names)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install the module, as far as Python and Accelerate can tell; return the file of what it is told."""

    def install(*, at: str = "", fault: str = "") -> Path:
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "wandb.py").write_text(WANDB.replace(f"# {at}", fault) if at else WANDB, encoding="utf-8")
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "wandb", raising=False)
        monkeypatch.setattr(tracking, "_available_trackers", [LoggerType.TENSORBOARD, LoggerType.WANDB])
        return folder / "said.jsonl"

    return install


def weights(run: Run) -> list[bytes]:
    return [run.weights(which).read_bytes() for which in ("best", "last")]


def numbers(run: Run) -> list[dict[str, Any]]:
    """Return the rows of the metric log without what a clock says."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in run.metrics.rows()]


def events(run: Run) -> dict[str, list[tuple[int, Any]]]:
    """Read TensorBoard's files: tag -> (step, value) of every event, without the repairs that its own reader makes."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    read: dict[str, list[tuple[int, Any]]] = {}
    for path in sorted((run.folder / "trackers" / "tensorboard").glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                read.setdefault(value.tag, []).append((event.step, value.tensor.float_val[0]))
    return read


def logged(run: Run) -> dict[str, list[tuple[int, Any]]]:
    """Return the same of the metric log."""
    rows = run.metrics.rows()
    tags = {key for row in rows for key in row if key != "step"}
    return {tag: [(row["step"], pytest.approx(row[tag], rel=1e-6)) for row in rows if tag in row] for tag in tags}


def warnings(told: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in told.records if record.levelname == "WARNING"]


def test_none_is_asked_for_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(trackers.VARIABLE, raising=False)
    assert trackers.wanted() == ()
    assert not (runs.start(tmp_path / "plain").folder / "trackers").exists()


def test_names_are_read_from_the_environment(ask: Ask) -> None:
    ask(" tensorboard, wandb,,tensorboard ")
    assert trackers.wanted() == ("tensorboard", "wandb")


def test_tensorboard_has_every_row_once_and_the_run_has_the_same_bits(tmp_path: Path, plain: Run, ask: Ask) -> None:
    ask("tensorboard")
    run = runs.start(tmp_path / "tracked")
    assert events(run) == logged(run)
    assert len(events(run)["val/top1"]) == run.recipe().epochs
    assert weights(run) == weights(plain)
    assert numbers(run) == numbers(plain)
    assert run.recipe().digest == plain.recipe().digest


def test_a_resumed_run_has_no_row_twice(tmp_path: Path, plain: Run, ask: Ask) -> None:
    ask("tensorboard")
    run = runs.interrupt(tmp_path / "killed", at=12)
    assert len(events(run)["epoch"]) == 1
    runs.resume(run)
    assert events(run) == logged(run)
    assert numbers(run) == numbers(plain)
    assert weights(run) == weights(plain)


def test_a_run_may_be_tracked_from_its_resumption_on(tmp_path: Path, ask: Ask) -> None:
    run = runs.interrupt(tmp_path / "killed", at=12)
    ask("tensorboard")
    runs.resume(run)
    assert events(run) == logged(run)


def test_another_tracker_is_told_settings_rows_and_the_end(tmp_path: Path, ask: Ask, install: Install) -> None:
    said = install()
    ask("wandb")
    run = runs.start(tmp_path / "tracked")
    init, config, *rows, end = map(json.loads, said.read_text().splitlines())
    assert init["init"]["project"] == "bakeoff"
    assert init["init"]["name"].endswith("/tracked")
    assert config["config"]["digest"] == run.recipe().digest
    assert config["config"]["optimizer.lr"] == run.recipe().optimizer.lr
    assert [{"step": row["step"], **row["values"]} for row in rows] == run.metrics.rows()
    assert end == {"finish": True}


@pytest.mark.parametrize(
    ("at", "fault"),
    [
        ("at import", "raise RuntimeError('no licence')"),
        ("at init", "raise ConnectionError('no network')"),
        ("at init", "sys.exit('log in first')"),
        ("at a row", "raise OSError('gone')"),
        ("at the end", "raise OSError('gone')"),
    ],
)
def test_what_a_tracker_raises_is_one_warning(
    at: str, fault: str, tmp_path: Path, plain: Run, ask: Ask, install: Install, told: pytest.LogCaptureFixture
) -> None:
    install(at=at, fault=fault)
    ask("wandb,tensorboard")
    run = runs.start(tmp_path / "tracked")
    (warning,) = warnings(told)
    assert "wandb" in warning
    assert weights(run) == weights(plain)
    assert events(run) == logged(run)  # the other tracker goes on


@pytest.mark.parametrize("at", ["at init", "at a row", "at the end"])
def test_a_tracker_that_hangs_is_left_behind(
    at: str,
    tmp_path: Path,
    plain: Run,
    ask: Ask,
    install: Install,
    told: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(at=at, fault="threading.Event().wait()")
    ask("wandb,tensorboard")
    monkeypatch.setattr(trackers, "CLOSE_S", 2.0)
    started = time.monotonic()
    run = runs.start(tmp_path / "tracked")
    assert time.monotonic() - started < 30
    (warning,) = warnings(told)
    assert "wandb did not finish within 2 s" in warning
    assert weights(run) == weights(plain)
    assert events(run) == logged(run)


@pytest.mark.parametrize(("name", "said"), [("swanlab", "not installed"), ("tensorbord", "There is no tracker")])
def test_a_tracker_that_is_not_there_is_one_warning(
    name: str, said: str, tmp_path: Path, plain: Run, ask: Ask, told: pytest.LogCaptureFixture
) -> None:
    ask(name)
    run = runs.start(tmp_path / "tracked")
    (warning,) = warnings(told)
    assert said in warning
    assert weights(run) == weights(plain)
    assert not (run.folder / "trackers").exists()


def test_a_dry_run_is_not_tracked(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    ask("tensorboard")
    monkeypatch.setattr(trackers, "open", lambda *_, **__: pytest.fail("opened"))
    assert rehearsal.rehearse(runs.recipe(), root=Path())["first_loss"] > 0
