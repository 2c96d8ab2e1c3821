"""Resuming: the same bytes as an undisturbed run, or a refusal that says why."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bakeoff import data
from bakeoff.errors import RecipeError, ResumeRefused
from bakeoff.results import predictions
from bakeoff.results.store import Run
from bakeoff.training import checkpoint
from bakeoff.training import run as training
from tests.training import runs, tiny
from tests.training.kills import differences, outcome_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return outcome_of(runs.start(tmp_path_factory.mktemp("runs") / "undisturbed"))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended at step 13 of 24, its checkpoints at 9 and 12; tests go on with copies of it."""
    return runs.interrupt(tmp_path_factory.mktemp("runs") / "stopped", at=13).folder


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Run:
    return Run(shutil.copytree(stopped, tmp_path / "run", dirs_exist_ok=True))


def is_the_same(run: Run, reference: dict[str, Any]) -> bool:
    return not differences(reference, outcome_of(run))


def refused(run: Run, *, says: str, kind: type[Exception] = ResumeRefused) -> None:
    before = run.metrics.path.read_bytes()
    with pytest.raises(kind, match=says) as caught:
        runs.resume(run)
    assert getattr(caught.value, "exit_code") == (7 if kind is ResumeRefused else 2)  # noqa: B009
    assert run.metrics.path.read_bytes() == before
    assert not run.summary_path.exists()


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_resumed_run_is_the_undisturbed_one(run: Run, undisturbed: dict[str, Any]) -> None:
    assert sorted(os.listdir(run.checkpoints)) == ["step-12", "step-9"]
    assert run.status() == "interrupted"
    record = training.resume(run, plugin=tiny.NAME)
    assert record.status == "finished"
    assert is_the_same(run, undisturbed)
    assert len(run.read_json(run.environment_path)["resumed"]) == 1


def test_a_row_whose_checkpoint_never_came_is_not_doubled(
    undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoint.save

    def die_at_16(*arguments: Any, step: int, **others: Any) -> None:
        if step == 16:
            raise runs.Killed
        real(*arguments, step=step, **others)

    monkeypatch.setattr(checkpoint, "save", die_at_16)
    with pytest.raises(runs.Killed):
        runs.start(tmp_path / "run")
    monkeypatch.setattr(checkpoint, "save", real)
    run = Run(tmp_path / "run")
    assert [row["step"] for row in run.metrics.rows()] == [8, 16]
    assert sorted(os.listdir(run.checkpoints)) == ["step-12", "step-15"]
    runs.resume(run)
    assert is_the_same(run, undisturbed)


def test_a_finished_run_stays_as_it_is(run: Run) -> None:
    runs.resume(run)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file() and path != run.log_path}
    record = training.resume(run, plugin=tiny.NAME)
    assert record.status == "finished"
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_damaged_newest_checkpoint_costs_steps_and_nothing_else(
    run: Run, undisturbed: dict[str, Any], told: pytest.LogCaptureFixture
) -> None:
    path = run.checkpoints / "step-12" / "state.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    runs.resume(run)
    assert "step-12.corrupt" in told.text
    assert is_the_same(run, undisturbed)


def test_a_run_stopped_before_its_first_checkpoint_starts_over(
    undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture
) -> None:
    def die(*_: object, **__: object) -> None:
        raise runs.Killed

    real = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", die)
    with pytest.raises(runs.Killed):
        runs.start(tmp_path / "run")
    monkeypatch.setattr(checkpoint, "save", real)
    run = Run(tmp_path / "run")
    assert not run.checkpoints.exists()
    assert run.status() == "interrupted"
    runs.resume(run)
    assert "starts from step 0" in told.text
    assert is_the_same(run, undisturbed)


def numbers_of(run: Run) -> dict[str, Any]:
    """Return all numbers of a run: what is left when its recipe's digest is taken away."""
    outcome = outcome_of(run)
    stored = predictions.read(run.predictions("val"))
    outcome["summary"].pop("digest")
    outcome["weights"] = [load_file(run.weights(which)) for which in ("best", "last")]
    outcome["files"] = [torch.tensor(stored.logits), torch.tensor(stored.index)]
    return outcome


@pytest.mark.parametrize("features", [(), ("optimizer=adamw", "ema_decay=0.9", "mixup=0.3")])
def test_an_extended_run_has_the_numbers_of_a_longer_one(features: tuple[str, ...], tmp_path: Path) -> None:
    """With a schedule that does not look at the end, 2 epochs and 2 more are 4, to the bit."""
    features = ("schedule=constant", "schedule.warmup=0", *features)
    longer = numbers_of(runs.start(tmp_path / "a" / "run", "epochs=4", *features))
    run = runs.start(tmp_path / "b" / "run", "epochs=2", *features)
    assert differences(longer, numbers_of(run))
    runs.resume(run, epochs=4)
    assert differences(longer, numbers_of(run)) == []


def test_an_extended_run_is_known_as_one_and_can_be_resumed(tmp_path: Path) -> None:
    """Under a schedule that looks at the end it is another experiment than a longer run."""
    run = runs.start(tmp_path / "run", "epochs=2")
    digest = run.recipe().digest
    runs.resume(run, epochs=4)
    assert len({digest, run.recipe().digest, runs.recipe("epochs=4").digest}) == 3
    assert run.status() == "finished"
    runs.resume(run)
    runs.resume(run, epochs=5)
    assert [row["epoch"] for row in run.metrics.rows()] == [1, 2, 3, 4, 5]


def test_a_shorter_extension_is_refused(run: Run) -> None:
    with pytest.raises(RecipeError, match="1 are done"):
        runs.resume(run, epochs=1)
    assert run.recipe().epochs == 3


def test_checkpoints_of_another_run_are_refused(run: Run, tmp_path: Path) -> None:
    other = runs.interrupt(tmp_path / "other", "seed=1", at=13)
    shutil.rmtree(run.checkpoints)
    shutil.copytree(other.checkpoints, run.checkpoints)
    refused(run, says=f"recipe {other.recipe().digest[:8]}")


@pytest.mark.parametrize(
    ("old", "new"), [("lr: 0.1", "lr: 0.2"), ("seed: 0", "seed: 1"), ("batch_size: 32", "batch_size: 16")]
)
def test_an_edited_recipe_is_refused(run: Run, old: str, new: str) -> None:
    text = run.recipe_path.read_text()
    assert old in text
    run.recipe_path.write_text(text.replace(old, new))
    refused(run, says="recipe.yaml was changed")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threads", 3),
        ("device", "cuda"),
        ("precision", "bf16"),
        ("compiled", True),
        ("layout", "contiguous"),
        ("world_size", 2),
    ],
)
def test_another_environment_is_refused(run: Run, key: str, value: object) -> None:
    edit_json(run.environment_path, lambda content: content.update({key: value}))
    refused(run, says=rf"found {key} .*expected {value}")


@pytest.mark.parametrize("package", ["torch", "numpy", "bakeoff", "accelerate"])
def test_other_versions_are_refused(run: Run, package: str) -> None:
    edit_json(run.environment_path, lambda content: content["versions"].update({package: "0.0.1"}))
    refused(run, says=rf"expected .*{package} 0\.0\.1")


def test_a_refused_extension_changes_nothing(run: Run) -> None:
    runs.resume(run)
    with pytest.raises(RecipeError, match="would run code"):
        training.resume(run, epochs=4)
    assert run.status() == "finished"
    edit_json(run.environment_path, lambda content: content.update(threads=2))
    with pytest.raises(ResumeRefused, match="threads"):
        runs.resume(run, epochs=4)
    assert run.status() == "finished"


def test_a_run_that_does_not_know_its_environment_is_refused(run: Run) -> None:
    run.environment_path.unlink()
    refused(run, says="versions")


def test_what_does_not_change_the_numbers_may_change(run: Run, undisturbed: dict[str, Any]) -> None:
    edit_json(run.environment_path, lambda content: content.update(hardware="another", command=["x"], commit="0"))
    runs.resume(run)
    assert is_the_same(run, undisturbed)


def test_removed_checkpoints_are_noticed(run: Run) -> None:
    shutil.rmtree(run.checkpoints)
    refused(run, says="no checkpoint, although epochs are logged")


def test_damaged_checkpoints_are_no_reason_to_start_over(run: Run) -> None:
    for path in run.checkpoints.glob("*/state.pt"):
        path.write_bytes(b"")
    refused(run, says="only damaged checkpoints")


def test_another_split_is_refused(run: Run) -> None:
    edit_json(run.split_path, lambda content: content["train"].pop())
    refused(run, says="another split, or other data")


def test_changed_data_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = data.load
    monkeypatch.setattr(data, "load", lambda name, *, part: replace(real(name, part=part), fingerprint="0" * 64))
    refused(run, says="another split, or other data")


def test_a_model_from_the_command_line_is_not_imported_on_a_file_s_word(run: Run) -> None:
    with pytest.raises(RecipeError, match="would run code"):
        training.resume(run)


def test_a_disk_that_fills_up_stops_the_run_which_goes_on_once_there_is_room(
    undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = runs.recipe()
    monkeypatch.setattr(checkpoint, "KEEP", 100)
    sizes = {
        path.parent.name: path.stat().st_size for path in runs.start(tmp_path / "sizes").checkpoints.glob("*/state.pt")
    }
    assert sizes["step-0"] < sizes["step-3"]  # which has momentum
    limit = (sizes["step-0"] + sizes["step-3"]) // 2
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    arguments = ("train", tiny.NAME, "--recipe", "recipe.yaml", "--name", "run", "--no-test")
    done = subprocess.run(
        [sys.executable, "-m", "bakeoff", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    run = Run(tmp_path / "logs" / tiny.NAME.replace(":", ".") / "run")
    assert done.returncode == 5, done.stderr
    assert re.search(r"step-3: found 'File too large'", done.stderr)
    assert done.stderr.count("step-3") <= 2  # the message, and its line in the log
    assert "Traceback" not in done.stderr
    assert os.listdir(run.checkpoints) == ["step-0"]
    assert run.status() == "interrupted"
    runs.resume(run)
    assert is_the_same(run, undisturbed)


def test_the_global_random_state_does_not_matter(undisturbed: dict[str, Any], run: Run) -> None:
    torch.manual_seed(12345)
    runs.resume(run)
    assert is_the_same(run, undisturbed)
