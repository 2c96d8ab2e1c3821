"""Export at the command line: what it prints, what it leaves, and its mistakes."""

import json
from pathlib import Path

import pytest

from bakeoff import cli
from bakeoff.serving import onnx
from tests.training import runs, tiny

for _name in onnx.PACKAGES:
    pytest.importorskip(_name, reason="needs the extra bakeoff[export]")

MODEL = f"model={tiny.NAME}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("export") / "logs" / "tiny" / "first"
    runs.start(folder)
    return folder


def test_json_is_what_the_file_says(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    code = cli.run(["export", str(run), MODEL, "--format", "onnx", "--out", str(out), "--images", "9", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert told.pop("folder") == str(out)
    assert told == json.loads((out / "verify.json").read_text(encoding="utf-8"))
    assert told["images"]["num_images"] == 9
    assert {path.name for path in out.iterdir()} == {"model.onnx", "verify.json"}


def test_a_person_reads_what_was_verified(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.run(["export", "first", MODEL, "--root", str(run.parents[1]), "--int8"])
    said = capsys.readouterr().out
    assert code == 0
    for name in ("model.safetensors", "model.onnx", "model.pt2", "model.int8.onnx"):
        assert name in said
    assert "validation images of digits in batches of 1, 7, " in said
    assert "  int8     " in said
    assert str(run / "export") in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{run}", MODEL, "--format", "onx"], 2, "Did you mean 'onnx'?"),
        (["{run}", MODEL, "--format", "safetensors", "--int8"], 2, "onnx among them"),
        (["{run}", MODEL, "--out", "{run}"], 2, "something there already"),
        (["{run}", "epochs=3"], 2, "nothing but model="),
        (["{run}", "--images", "0", MODEL], 2, "--images"),
        (["{run}", "--out", "{run}/other"], 2, "would run code"),
        (["frist", "--root", "{root}"], 2, "Did you mean 'first'?"),
        ([], 2, "RUN"),
    ],
)
def test_mistakes_are_one_message(
    arguments: list[str], code: int, said: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(run=run, root=run.parents[1]) for word in arguments]
    found = cli.run(["export", *words])
    message = capsys.readouterr().err
    assert found == code
    assert said in message
