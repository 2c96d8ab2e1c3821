"""Networks learn what is there to learn, and nothing where there is nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from bakeoff import data
from bakeoff.recipe import resolve
from bakeoff.training import run as training
from tests.training import tiny

BASE = ("threads=1", "device=cpu", "precision=float32", "compile=false")


def train(model: str, folder: Path, *overrides: str) -> dict[str, Any]:
    recipe = resolve(model, overrides=[*BASE, *overrides], recipe="digits", plugins=True)
    record = training.start(recipe, folder)
    training.read_test(training.Run(folder), plugin=model)
    return {**record.summary, "test": training.Run(folder).record().summary["test"]}


@pytest.mark.parametrize(
    ("model", "settings"), [("resnet_20", ("epochs=5",)), (tiny.NAME, ("epochs=20", "model.width=32"))]
)
def test_digits_are_learned(model: str, settings: tuple[str, ...], tmp_path: Path) -> None:
    summary = train(model, tmp_path / "run", *settings)
    assert summary["val"]["top1"] >= 0.95
    assert summary["test"]["top1"] >= 0.93  # other images, never seen
    assert (summary["val"]["n"], summary["test"]["n"]) == (144, 359)


@pytest.mark.parametrize("model", ["resnet_20", tiny.NAME])
def test_shuffled_labels_score_chance(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = data.load

    def shuffled(name: str, *, part: data.Part) -> data.ImageSet:
        images = real(name, part=part)
        return replace(images, labels=np.random.default_rng(1).permutation(images.labels))

    monkeypatch.setattr(data, "load", shuffled)
    test = train(model, tmp_path / "run", "epochs=4")["test"]
    low, high = binom.interval(0.999, test["n"], 0.1)
    assert low <= test["top1_correct"] <= high
