"""`bakeoff doctor` from outside: the page, the list, JSON, and every mistake one message."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bakeoff import cli
from bakeoff.data import doctor as doctors
from tests.cli.test_cli import bakeoff


def put(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    few = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(few).resize((32, 32)).save(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a set: a leak, a broken file, a class with a name that wants to be markup."""
    for number in range(24):
        label = ("plain", "[bold]<img src=x onerror=alert(1)>[/i]")[number % 2].replace("/", "|")
        put(tmp_path / "my set" / "train" / label / f"{number}.png", number)
    put(tmp_path / "my set" / "test" / "plain" / "leak.png", 0)
    (tmp_path / "my set" / "train" / "plain" / "broken.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_examines_writes_a_page_and_says_what_to_type(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", "folder:my set"]) == 0
    said = capsys.readouterr().out
    assert "2 things to mend" in said
    assert "1 of 26 pictures cannot be read" in said
    assert "  next     bakeoff doctor 'folder:my set' --fix clean.csv" in said
    page = (here / "doctor-my-set" / "health.html").read_text()
    assert "[bold]&lt;img src=x onerror=alert(1)&gt;[|i]" in page
    assert "<img src=x" not in page


def test_json_and_a_clean_list(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["doctor", "folder:my set", "--json", "--fix", "clean.csv", "--out", "seen"]
    assert cli.run(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pictures"] == {"train": 25, "test": 1}
    kinds = {finding["kind"]: finding for finding in told["findings"]}
    assert kinds["equal_across_parts"]["cases"][0]["pictures"] == [
        {"name": "train/plain/0.png", "part": "train", "label": "plain"},
        {"name": "test/plain/leak.png", "part": "test", "label": "plain"},
    ]
    assert told["fixed"]["left_out"] == {"cannot be read": 1, "a copy of one that stays": 1}
    with (here / "clean.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == told["fixed"]["kept"] == 24
    assert Path(told["page"]) == Path("seen/health.html")
    assert cli.run(["doctor", "csv:clean.csv"]) == 0
    said = capsys.readouterr().out
    assert "mend" not in said
    assert "  next     bakeoff train MODEL data=csv:clean.csv" in said
    assert cli.run(command) == 5
    assert "nothing is overwritten" in json.loads(capsys.readouterr().out)["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["folder:nowhere"], 3, "no such folder"),
        (["csv:nowhere.csv"], 3, "nowhere.csv"),
        (["digit"], 2, "Did you mean 'digits'?"),
        ([], 2, "command line"),
        (["digits", "cifar10"], 2, "2 names"),
        (["digits", "size=3"], 2, "an unknown key 'size'"),
        (["digits", "data.image_colum=x"], 2, "Did you mean 'data.image_column'?"),
        (["folder:my set", "--out", "my set/page"], 2, "outside of the data set"),
        (["folder:my set", "--fix", "my set/clean.csv"], 2, "outside of the data set"),
        (["parquet:my set", "--out", "my set/page"], 2, "outside of the data set"),
        (["digits", "--fix", "clean.csv"], 2, "pictures are no files"),
    ],
)
def test_mistakes_are_one_message(
    arguments: list[str], code: int, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(here.rglob("*"))
    assert cli.run(["doctor", *arguments]) == code
    assert said in capsys.readouterr().err
    assert sorted(here.rglob("*")) == before


def test_nothing_is_opened_before_a_place_in_the_set_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(doctors, "examine", lambda name, **_: opened.append(name))
    assert cli.run(["doctor", "folder:my set", "--out", "my set/page"]) == 2
    assert "outside of the data set" in capsys.readouterr().err
    assert not opened


def test_the_columns_of_a_table_can_be_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = [path.read_bytes() for path in sorted(here.rglob("*.png")) if path.stat().st_size]
    columns = {"front": files, "back": files[::-1], "kind": ["a", "b"] * (len(files) // 2) + ["a"] * (len(files) % 2)}
    pq.write_table(pa.table(columns), here / "set.parquet")
    assert cli.run(["doctor", "parquet:set.parquet"]) == 3
    assert "data.image_column" in capsys.readouterr().err
    named = ["data.image_column=front", "data.label_column=kind"]
    assert cli.run(["doctor", "parquet:set.parquet", *named, "--json"]) == 0
    assert sum(json.loads(capsys.readouterr().out)["pictures"].values()) == len(files)


def test_as_a_process_it_ends_with_0(here: Path) -> None:
    done = bakeoff("doctor", "folder:my set", "--json", cwd=here)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"]["plain"] == {"train": 13, "test": 1}
    assert "Traceback" not in done.stderr
