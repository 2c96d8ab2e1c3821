"""The training process opens nothing of the test split; whoever reads it is written down."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bakeoff.cli import screen
from bakeoff.data import near_duplicates
from bakeoff.errors import RecipeError
from bakeoff.results import predictions
from bakeoff.training import run as training
from tests.training import runs

# What a process opens, told by the interpreter itself, and by the kernel what it has mapped.
WATCH = """
import json, sys
from pathlib import Path
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)

from bakeoff.recipe import resolve
from bakeoff.training import run as training

recipe = resolve("resnet_20", overrides=sys.argv[2:])
folder = Path(sys.argv[1])

def look():
    mapped = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line]
    found = sorted({path for path in [*opened, *mapped] if not path.endswith((".py", ".pyc", ".so"))})
    opened.clear()
    return found

training.start(recipe, folder)
answer = {"start": look(), "summary": json.loads((folder / "evaluation_summary.json").read_text())}
training.read_test(training.Run(folder), command=["bakeoff", "eval", "x"])
answer["read_test"] = look()
answer["after"] = json.loads((folder / "evaluation_summary.json").read_text())
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def watched(bakeoff_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    overrides = ("data=cifar100", "data.limit=500", "epochs=1", "batch_size=50", "threads=1", "device=cpu")
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(tmp_path_factory.mktemp("watched") / "run"), *overrides, "compile=false"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def of_the_data(opened: list[str], bakeoff_data: Path) -> set[str]:
    """Return the files of the data set, and the entries of the image cache, by name."""
    cache = Path(os.environ["BAKEOFF_CACHE"])
    paths = [Path(path) for path in opened]
    sources = {path.name for path in paths if path.is_relative_to(bakeoff_data)}
    return sources | {path.relative_to(cache).parts[0] for path in paths if cache in path.parents}


def test_training_opens_nothing_of_the_test_split(watched: dict[str, Any], bakeoff_data: Path) -> None:
    opened = of_the_data(watched["start"], bakeoff_data)
    assert any(name.startswith("cifar100-train") for name in opened)  # or nothing would be proved
    assert [name for name in opened if "test" in name] == []
    assert "test" not in watched["summary"]
    assert "test_reads" not in watched["summary"]


def test_a_read_of_the_test_split_opens_it_and_is_written_down(watched: dict[str, Any], bakeoff_data: Path) -> None:
    opened = of_the_data(watched["read_test"], bakeoff_data)
    assert any(name.startswith("cifar100-test") for name in opened)
    assert any(path.endswith("predictions/test.parquet") or ".tmp" in path for path in watched["read_test"])
    assert watched["after"]["test"]["n"] == 10_000
    assert [look["command"] for look in watched["after"]["test_reads"]] == [["bakeoff", "eval", "x"]]
    assert watched["after"]["val"] == watched["summary"]["val"]


def test_a_second_accuracy_leaves_out_near_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where test is numbered as a published list counts, both accuracies come from the same logits."""
    run = runs.start(tmp_path / "run")
    kept = np.array([0, 2, 3, 11], dtype=np.int64)
    monkeypatch.setattr(near_duplicates, "rows", lambda name, labels: kept if name == "digits" else None)
    summary = training.read_test(run, plugin=run.recipe().model.name).summary["test"]
    logits = predictions.read(run.predictions("test"))
    correct = int((logits.logits[kept].argmax(1) == logits.label[kept]).sum())
    assert (summary["clean"]["n"], summary["clean"]["top1_correct"]) == (4, correct)
    assert summary["n"] == len(logits) > 4
    assert f"{summary['n'] - 4} images that ciFAIR lists" in shown(run)


def shown(run: training.Run) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        screen.print_record(run.record())
    return " ".join(out.getvalue().split())


def test_a_run_that_is_not_finished_may_not_look(tmp_path: Path) -> None:
    run = runs.interrupt(tmp_path / "run", at=10)
    with pytest.raises(RecipeError, match="not finished"):
        training.read_test(run, plugin=run.recipe().model.name)
    assert not run.summary_path.exists()
