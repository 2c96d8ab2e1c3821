"""The trainer: divergence is named by its step and never saved, the clock counts training, the average is scored."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bakeoff.errors import Diverged, ResumeRefused
from bakeoff.results import predictions
from bakeoff.results.store import Run
from bakeoff.training import checkpoint, rehearsal, trainer
from bakeoff.training import run as training
from bakeoff.training.trainer import Tick
from tests.training import runs, tiny

CPU = torch.device("cpu")


def diverge(folder: Path, *overrides: str, model: str = tiny.POISONED) -> tuple[Run, Diverged]:
    with pytest.raises(Diverged) as caught:
        runs.start(folder, *overrides, model=model)
    assert caught.value.exit_code == 4
    run = Run(folder)
    assert run.status() == "diverged"
    return run, caught.value


def finite(run: Run) -> bool:
    """Tell whether everything that the run has kept is finite."""
    found = checkpoint.newest(run.checkpoints, device=CPU)
    assert found is not None
    kept = [found.state["model"]]
    kept += [load_file(path) for path in run.folder.glob("*.safetensors")]
    return all(bool(tensor.isfinite().all()) for tensors in kept for tensor in tensors.values())


@pytest.mark.parametrize("at", [1, 5, 8, 9, 24])
def test_a_loss_that_is_no_number_stops_the_run_at_its_step(at: int, tmp_path: Path) -> None:
    run, error = diverge(tmp_path / "run", f"model.at={at}")
    assert error.where == f"step {at} of {run.folder}"
    assert error.found == "a loss of nan"
    assert run.read_json(run.divergence_path) == {"step": at, "found": "a loss of nan"}
    found = checkpoint.newest(run.checkpoints, device=CPU)
    assert found is not None
    assert found.step == max(step for step in (0, 3, 6, 8, 9, 12, 15, 16, 18, 21) if step < at)
    assert finite(run)
    assert [row["step"] for row in run.metrics.rows()] == [step for step in (8, 16) if step < at]
    assert not run.summary_path.exists()
    with pytest.raises(ResumeRefused, match="diverged"):
        training.resume(run, plugin=tiny.POISONED)


@pytest.mark.parametrize(
    ("at", "named"),
    [
        (2, 3),  # the gradient spoils the weights, and the next step says so
        (3, 3),  # unless its weights were to be saved
        (8, 8),  # or to be evaluated
    ],
)
@pytest.mark.parametrize("protocol", ["dev", "paper"])
def test_a_gradient_that_is_no_number_never_reaches_a_file(at: int, named: int, protocol: str, tmp_path: Path) -> None:
    if protocol == "paper" and at == 8:
        at = named = 9  # of 288 images
    overrides = (f"model.at={at}", "model.gradient=true", f"protocol={protocol}")
    run, error = diverge(tmp_path / "run", *overrides)
    assert error.where == f"step {named} of {run.folder}"
    assert finite(run)
    assert not run.weights("best").exists()
    assert not run.weights("last").exists()


def test_diverged_weights_do_not_take_the_place_of_the_best(tmp_path: Path) -> None:
    run, _ = diverge(tmp_path / "run", "model.at=16", "model.gradient=true")
    assert run.weights("best").exists()
    assert finite(run)
    assert len(run.metrics.rows()) == 1


@pytest.mark.parametrize("lr", ["1e30", "1e12"])
def test_a_learning_rate_far_too_high_is_divergence_however_it_shows(lr: str, tmp_path: Path) -> None:
    """Finite weights can answer with infinite logits: that is divergence too, not a failed check."""
    run, error = diverge(tmp_path / "run", f"lr={lr}", "schedule=constant", model=tiny.PLAIN)
    assert "lower lr" in error.hint
    assert finite(run)


def test_infinite_logits_of_finite_weights_are_divergence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = trainer.evaluate

    def overflow(*arguments: object, **others: object) -> predictions.Predictions:
        outcome = real(*arguments, **others)  # type: ignore[arg-type]
        outcome.logits[3, 2] = math.inf
        return outcome

    monkeypatch.setattr(trainer, "evaluate", overflow)
    run, error = diverge(tmp_path / "run", model=tiny.NAME)
    assert error.where == f"step 8 of {run.folder}"
    assert not run.weights("best").exists()


def test_what_is_scored_is_the_average_where_there_is_one(tmp_path: Path) -> None:
    run = runs.start(tmp_path / "run", "ema_decay=0.9")
    found = checkpoint.newest(run.checkpoints, device=CPU)
    assert found is not None
    last = load_file(run.weights("last"))
    average = {key.removeprefix("module."): value for key, value in found.state["average"].items()}
    assert all(torch.equal(value, average[key]) for key, value in last.items())
    assert any(not torch.equal(value, found.state["model"][key]) for key, value in last.items())


def test_the_best_weights_are_those_of_the_best_epoch(tmp_path: Path) -> None:
    run = runs.start(tmp_path / "run", "epochs=6", "lr=0.5", "schedule=constant")
    rows = run.metrics.rows()
    best = max(rows, key=lambda row: (row["val/top1"], -row["epoch"]))
    summary = run.read_json(run.summary_path)
    assert summary["selected_on"] == f"val/top1, epoch {best['epoch']}"
    assert summary["val"]["top1"] == best["val/top1"]
    assert summary["val"]["nll"] == best["val/loss"]
    stored = predictions.read(run.predictions("val"))
    assert int((stored.logits.argmax(1) == stored.label).sum()) == summary["val"]["top1_correct"]


def test_the_held_out_images_are_those_of_the_split(tmp_path: Path) -> None:
    run = runs.start(tmp_path / "run", "epochs=1")
    split = run.read_json(run.split_path)
    assert (len(split["train"]), len(split["val"])) == (259, 29)
    assert len({*split["train"], *split["val"]}) == 288
    assert np.array_equal(predictions.read(run.predictions("val")).index, np.arange(29))


def test_the_paper_protocol_trains_on_all_and_keeps_the_last(tmp_path: Path) -> None:
    run = runs.start(tmp_path / "run", "protocol=paper")
    summary = run.read_json(run.summary_path)
    assert (summary["selected_on"], summary["train_images"], "val" in summary) == ("last epoch", 288, False)
    assert run.weights("best").read_bytes() == run.weights("last").read_bytes()
    assert not run.predictions("val").exists()
    assert all("val/top1" not in row for row in run.metrics.rows())


def test_evaluation_stands_apart_from_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_clock, real_evaluate, real_save = trainer.time.perf_counter, trainer.evaluate, checkpoint.save
    elsewhere = [0.0]

    def later(work: object) -> object:
        def call(*arguments: object, **others: object) -> object:
            elsewhere[0] += 1000.0
            return work(*arguments, **others)  # type: ignore[operator]

        return call

    monkeypatch.setattr(trainer.time, "perf_counter", lambda: real_clock() + elsewhere[0])
    monkeypatch.setattr(trainer, "evaluate", later(real_evaluate))
    monkeypatch.setattr(checkpoint, "save", later(real_save))
    run = runs.start(tmp_path / "run")
    assert elsewhere[0] >= 9000
    seconds = [row["seconds"] for row in run.metrics.rows()]
    assert 0 < seconds[0] < seconds[1] < seconds[2] < 1000
    assert run.read_json(run.summary_path)["training_seconds"] == pytest.approx(seconds[2], abs=0.06)


def test_evaluation_comes_every_so_often_and_at_the_end(tmp_path: Path) -> None:
    run = runs.start(tmp_path / "run", "epochs=5", "eval_every=2")
    assert [row["epoch"] for row in run.metrics.rows() if "val/top1" in row] == [2, 4, 5]
    assert [row["epoch"] for row in run.metrics.rows()] == [1, 2, 3, 4, 5]


def test_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_TICK_S", -1.0)
    ticks: list[Tick] = []
    training.start(runs.recipe(), tmp_path / "run", tell=ticks.append)
    assert [tick.step for tick in ticks] == list(range(1, 25))
    assert [tick.epoch for tick in ticks] == [1] * 8 + [2] * 8 + [3] * 8
    assert all(math.isfinite(tick.loss) and tick.images_per_s > 0 and tick.total_steps == 24 for tick in ticks)
    assert math.isnan(ticks[0].val_top1)
    assert 0 <= ticks[-1].val_top1 <= 1
    means = [sum(tick.loss for tick in ticks[i : i + 8]) / 8 for i in (0, 8, 16)]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["train/loss"] for row in rows] == pytest.approx(means)


def test_a_rehearsal_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    report = rehearsal.rehearse(runs.recipe(), root=Path())
    assert (report["steps"], report["train_images"], report["val_images"]) == (24, 259, 29)
    assert report["first_loss"] == pytest.approx(math.log(10), rel=0.35)
    assert os.listdir(tmp_path) == []
