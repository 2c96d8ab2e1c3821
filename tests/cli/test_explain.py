"""Explain from outside: a page and its figures, beside the run or where they were asked for; mistakes as messages."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_cli import bakeoff

SETTINGS = (
    *("data=digits", "data.limit=300", "batch_size=32", "device=cpu", "compile=false", "threads=1"),
    *("augment.crop_padding=0", "augment.flip=none"),
)
TINY = "tests.training.tiny:staged"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, one that never began, and pictures."""
    folder = tmp_path_factory.mktemp("explain")
    done = bakeoff("train", TINY, *SETTINGS, "epochs=1", "--name", "first", "--no-test", cwd=folder)
    assert done.returncode == 0, done.stderr
    run = folder / "logs" / TINY.replace(":", ".") / "first"
    begun = run.with_name("begun")
    begun.mkdir()
    (begun / "recipe.yaml").write_bytes((run / "recipe.yaml").read_bytes())
    inbox = folder / "inbox"
    inbox.mkdir()
    for name, level in {"a.png": 10, "b.jpg": 200}.items():
        Image.fromarray(np.full((20, 12, 3), level, dtype=np.uint8)).save(inbox / name)
    (inbox / "notes.txt").write_text("no picture")
    (inbox / "broken.png").write_bytes(b"no picture either")
    return folder


def explain(folder: Path, *arguments: str, model: bool = True) -> tuple[int, str, str]:
    done = bakeoff("explain", *arguments, *([f"model={TINY}"] if model else []), cwd=folder)
    return done.returncode, done.stdout, done.stderr


def test_the_gallery_of_a_run(folder: Path) -> None:
    code, out, error = explain(folder, "first", "--num", "4")
    assert code == 0, error
    place = Path("logs") / TINY.replace(":", ".") / "first" / "explain"
    assert f"  page     {place / 'index.html'}" in out
    page = (folder / place / "index.html").read_text()
    assert "The most confident mistakes" in page
    figures = json.loads((folder / place / "explain.json").read_text())
    assert figures["split"] == "val"
    mistakes = figures["sections"][0]
    assert mistakes["kind"] == "mistakes"
    assert len(mistakes["pictures"]) == 4
    for picture in mistakes["pictures"]:
        assert picture["label"] != picture["guesses"][0]["class"]
        assert len(picture["nearest"]) == 5
        assert picture["name"] in page


def test_own_pictures_where_they_are_asked_for(folder: Path) -> None:
    code, out, error = explain(folder, "first", "inbox", "--class", "3", "--near", "2", "--out", "shown", "--json")
    assert code == 0, error
    told = json.loads(out)
    assert told["page"] == "shown/index.html"
    assert told["skipped"] == {".txt": 1}
    assert [note for note in told["notes"] if "broken.png" in note]
    (section,) = told["sections"]
    assert [picture["name"] for picture in section["pictures"]] == ["inbox/a.png", "inbox/b.jpg"]
    for picture in section["pictures"]:
        assert picture["looked"][-1]["class"] == "3"
        assert len(picture["nearest"]) == 2
    written = json.loads((folder / "shown" / "explain.json").read_text())
    assert {**written, "page": told["page"]} == told
    assert "inbox/a.png" in (folder / "shown" / "index.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "expected a run"),
        (("begun",), 2, "not finished"),
        (("third",), 2, "no such run"),
        (("first", "--class", "eleven"), 2, "one of the run's 10 classes"),
        (("first", "--num", "0"), 2, "command line"),
        (("first", "lr=3"), 2, "nothing but model="),
        (("first", "nowhere.png"), 3, "nothing there"),
        (("first", "inbox/notes.txt"), 3, "none can be read"),
        (("first", "inbox/broken.png"), 3, "none can be read"),
    ],
)
def test_mistakes_are_one_message(folder: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    found, _, error = explain(folder, *arguments)
    assert found == code, error
    assert message in " ".join(error.split())
    assert "Traceback" not in error


def test_a_run_alone_may_not_name_code(folder: Path) -> None:
    code, _, error = explain(folder, "first", model=False)
    assert code == 2
    assert "which would run code" in " ".join(error.split())
