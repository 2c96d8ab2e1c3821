"""Runs that were never trained: folders as training leaves them, with accuracies that a test has chosen.

For tests of tables and pages, which read folders only. Their logits are made so that top-1 comes out as asked.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bakeoff.recipe import Recipe
from bakeoff.record import Record
from bakeoff.results import metrics, predictions, store
from bakeoff.results.predictions import Predictions
from bakeoff.results.store import Run
from bakeoff.study import Study
from bakeoff.study.expand import expand
from bakeoff.study.schema import StudyFile

MODELS = ("resnet_20", "ecanet20_fixed_k3", "ecanet20_fixed_k5", "ecanet20_fixed_k7", "ecanet20_adaptive")
ENVIRONMENT = {
    "versions": {"bakeoff": "0.1.0", "torch": "2.15.0", "numpy": "2.4.6", "accelerate": "1.15.0"},
    "device": "cpu",
    "precision": "bf16",
    "threads": 1,
    "compiled": False,
    "world_size": 1,
    "hardware": "A processor, 2 cores",
    "platform": "Linux",
    "python": "3.11.7",
    "commit": "0123456789abcdef",
    "command": ["bakeoff", "study", "run"],
    "started": "2026-01-01T00:00:00+00:00",
}


def study(name: str = "made", **changes: Any) -> Study:
    """Return a study of five arms and three seeds, or with other keys of its file; `typed` lays settings over it."""
    typed = changes.pop("typed", ())
    arms = {model.removeprefix("ecanet20_"): {"model": model} for model in MODELS[1:]}
    content = {"question": "Does attention help?", "base": {"model": MODELS[0], "epochs": 5}, "control": "none"}
    content |= {"arms": arms, "changes": ["model"], "seeds": 3, **changes}
    return expand(StudyFile.model_validate(content), name=name, where=name, typed=typed)


def runs(
    of: Study,
    root: Path,
    *,
    top1: Mapping[str, float] | None = None,
    spread: float = 0.005,
    images: int = 200,
    classes: int = 10,
    test: bool = True,
    missing: Collection[tuple[str, int]] = (),
    diverged: Collection[tuple[str, int]] = (),
    half: Collection[tuple[str, int]] = (),
    names: Collection[str] = (),
) -> dict[str, Record]:
    """Write the folder of every run, and return the records by digest.

    Args:
        top1: accuracy by arm; 0.6 for those that it does not name.
        spread: standard deviation over seeds.
        images: of each split.
        classes: how many, called "class 0" and so on unless `names` names them; five of them are a superclass.
        test: whether test was read.
        missing: (arm, seed) of runs without a folder.
        diverged: (arm, seed) of runs that left the finite numbers after two epochs.
        half: (arm, seed) of runs that were interrupted after two epochs.
    """
    called = tuple(names) or tuple(f"class {i}" for i in range(classes))
    found = {}
    for arm in of.arms:
        for trial, seed, recipe in of.runs(arm):
            if (arm.name, seed) in missing:
                continue
            key = f"{arm.name} {trial.name} {seed}"
            draw = np.random.default_rng([ord(letter) for letter in key])
            wanted = float(np.clip((top1 or {}).get(arm.name, 0.6) + draw.normal(0, spread), 0, 1))
            run = store.create(recipe, store.folder_of(recipe, root=root))
            ended = (arm.name, seed) not in (*diverged, *half)
            _write(run, recipe, top1=wanted, images=images, classes=called, draw=draw, test=test, ended=ended)
            if (arm.name, seed) in diverged:
                run.write_json(run.divergence_path, {"step": 7, "found": "a loss of nan"})
            found[recipe.digest] = run.record()
    return found


def _write(
    run: Run, recipe: Recipe, *, top1: float, images: int, classes: tuple[str, ...], draw: Any, test: bool, ended: bool
) -> None:
    run.write_json(run.environment_path, ENVIRONMENT)
    rows = list(_rows(recipe, top1=top1, draw=draw))[: None if ended else 2]
    run.metrics.path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if not ended:
        return
    known = {"resnet_20": (0.278324, 0.0408)}.get(recipe.model.name, (0.278351, 0.0408))
    summary: dict[str, Any] = {
        "model": recipe.model.name,
        "run": run.folder.name,
        "digest": recipe.digest,
        "fingerprint": recipe.model.name.replace("adaptive", "fixed_k3"),
        "protocol": recipe.protocol,
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        "steps": recipe.epochs * 70,
        "train_images": 9000,
        "selected_on": f"val/top1, epoch {recipe.epochs}",
        "params_m": known[0],
        "macs_g": known[1],
        "training_seconds": 100.0 + recipe.seed,
    }
    for part in ("val", "test") if test else ("val",):
        said = _predictions(part, recipe, top1=top1, images=images, classes=classes, draw=draw)
        predictions.write(said, run.predictions(part))
        summary[part] = metrics.report(said)
    if test:
        summary["test_reads"] = [{"at": "2026-01-01T00:00:00+00:00", "command": ["bakeoff", "study", "run"]}]
    run.write_json(run.summary_path, summary)


def _rows(recipe: Recipe, *, top1: float, draw: Any) -> Iterator[dict[str, Any]]:
    for epoch in range(1, recipe.epochs + 1):
        progress = epoch / recipe.epochs
        accuracy = float(np.clip(top1 * progress**0.5 + draw.normal(0, 0.003), 0, 1))
        yield {
            "epoch": epoch,
            "step": epoch * 70,
            "lr": 0.1 * (1 - progress) + 1e-4,
            "train/loss": 4.6 * math.exp(-2 * progress),
            "val/loss": 4.6 * math.exp(-1.5 * progress),
            "val/top1": accuracy,
            "val/top5": min(1.0, accuracy + 0.2),
            "seconds": 12.0 * epoch,
            "images_per_s": 750.0 + float(draw.normal(0, 10)),
        }


def _predictions(
    part: str, recipe: Recipe, *, top1: float, images: int, classes: tuple[str, ...], draw: Any
) -> Predictions:
    """Return logits of which a share of `top1`, to the nearest image, is right."""
    num = len(classes)
    label = np.arange(images) % num
    said = label.copy()
    wrong = draw.choice(images, size=images - round(images * top1), replace=False)
    said[wrong] = (label[wrong] + draw.integers(1, num, size=len(wrong))) % num
    logits = draw.normal(size=(images, num)).astype(np.float32)
    logits[np.arange(images), said] = logits.max(axis=1) + draw.gamma(2.0, size=images).astype(np.float32) + 0.1
    superclasses = tuple(f"super {i}" for i in range(-(-num // 5)))
    return Predictions(
        index=np.arange(images),
        label=label,
        logits=logits,
        classes=classes,
        superclass_of=tuple(i // 5 for i in range(num)),
        superclasses=superclasses,
        split=part,
        recipe_digest=recipe.digest,
    )
