"""Distillation from outside: a teacher, a student, its controls; and every mistake a message before training starts."""

import json
from pathlib import Path

import pytest
import torch

from bakeoff.results.store import Run, list_runs
from tests.cli.test_cli import bakeoff

PLAIN = ("augment.crop_padding=0", "augment.flip=none")
SMALL = (
    "data=digits",
    "data.limit=300",
    "batch_size=32",
    "device=cpu",
    "compile=false",
    "threads=1",
    "protocol=paper",
    *PLAIN,
)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher, and a study of its student."""
    folder = tmp_path_factory.mktemp("distill")
    trained = bakeoff(
        "train", "resnet_20", *SMALL, "epochs=8", "lr=0.1", "batch_size=16", "--name", "teacher", cwd=folder
    )
    assert trained.returncode == 0, trained.stderr
    done = bakeoff(
        *("distill", "resnet_20", "--teacher", "teacher", "objective=dkd", "temperature=2"),
        *(*SMALL, "epochs=1", "lr=0.02", "--json"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    (folder / "told.json").write_text(done.stdout)
    return folder


def test_a_student_is_trained_beside_its_controls(taught: Path) -> None:
    told = json.loads((taught / "told.json").read_text())
    assert set(told["arms"]) == {"student alone", "dkd", "label smoothing"}
    records = {
        run.recipe().objective.name: run.record() for run in list_runs(taught / "logs") if run.folder.name != "teacher"
    }
    summary = records["dkd"].summary["teacher"]
    assert summary["name"] == "resnet_20/teacher"
    assert summary["temperature"] == 2
    report = (taught / told["folder"] / "report.md").read_text()
    assert "## Teachers" in report
    assert "resnet\\_20/teacher" in report or "resnet_20/teacher" in report


def test_the_distilled_run_alone_goes_on_and_tells_of_its_teacher(taught: Path) -> None:
    settings = ("objective=kd", "teacher=teacher", *SMALL, "lr=0.02")
    done = bakeoff("train", "resnet_20", *settings, "epochs=1", "--name", "alone", cwd=taught)
    assert done.returncode == 0, done.stderr
    assert "  teacher  resnet_20/teacher: " in done.stdout
    again = bakeoff("resume", "alone", "epochs=2", cwd=taught)
    assert again.returncode == 0, again.stderr
    assert Run(taught / "logs" / "resnet_20" / "alone").record().status == "finished"
    dry = bakeoff("train", "resnet_20", *settings, "--dry-run", "--json", cwd=taught)
    assert dry.returncode == 0, dry.stderr
    assert json.loads(dry.stdout)["teacher"]["name"] == "resnet_20/teacher"


@pytest.mark.parametrize(
    ("teacher", "settings", "code", "said"),
    [
        ("techer", (), 2, "Did you mean 'teacher'?"),
        ("teacher.pth", (), 3, "a pickle"),
        ("teacher", ("temperature=0",), 2, "greater than 0"),
        ("teacher", ("objective=kdd",), 2, "Did you mean 'kd'?"),
        ("teacher", ("objective=classify",), 2, "an objective that does"),
        ("teacher", ("teacher=other",), 2, "--teacher RUN"),
        ("teacher", ("objective=fitnets", "objective.stage=9"), 2, "objective.stage"),
        ("random:resnet_21", (), 2, "resnet_21"),
        ("random:resnet_20", ("model=resnet_32",), 2, "another model"),
        ("dull", (), 3, "10 standard errors"),
    ],
)
def test_mistakes_are_one_message(teacher: str, settings: tuple[str, ...], code: int, said: str, taught: Path) -> None:
    torch.save({"state": torch.zeros(2)}, taught / "teacher.pth")
    if teacher == "dull":
        trained = bakeoff("train", "resnet_20", *SMALL, "epochs=1", "lr=1e-9", "--name", "dull", cwd=taught)
        assert trained.returncode == 0, trained.stderr
    before = len(list_runs(taught / "logs"))
    done = bakeoff("distill", "resnet_20", "--teacher", teacher, *SMALL, "epochs=1", *settings, cwd=taught)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(list_runs(taught / "logs")) == before
