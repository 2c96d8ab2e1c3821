"""What is said of a run whose workers die."""

import signal
from pathlib import Path

import pytest

from bakeoff.launch import entry
from bakeoff.launch.board import Row
from bakeoff.launch.entry import Entry
from bakeoff.launch.jobs import Ended, Job
from tests.launch import grids


@pytest.mark.parametrize(
    ("code", "says"), [(-signal.SIGTERM, "by SIGTERM"), (-40, "by signal 40"), (143, "with exit code 143")]
)
def test_how_they_ended_is_said_of_any_signal(
    code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of real-time signals only the first and the last have names."""
    monkeypatch.setattr(entry, "TRIES", 0)
    folder, recipe = tmp_path / "model" / "run", grids.recipe()
    folder.parent.mkdir()
    of = Entry(recipe=recipe, folder=folder, arms=("a",), row=Row(name="a", seed=0, epochs=2))
    of.end(Ended(job=Job(recipe=recipe, folder=folder, test=True), code=code, error=None, last_words=""))
    assert of.row.state == "failed"
    assert f"that ended {says} and" in str(of.error)
