"""What running side by side gains: one-thread runs of ResNet-20 at once, against the same runs one after another.

    python -m benchmarks.grid [--runs 4] [--epochs 2] [--limit 5000] [--rounds 3] [--report FILE]

Goal C5: on a CPU, side by side gives at least 1.4 times the images a second of one after another.

Protocol: real CIFAR-100, the settings of resnet_20's card, nothing else running. "Side by side" is `launch.grid`, as
many runs at once as there are cores, one thread each. "One after another" is `bakeoff train`, a process a run with all
cores, as a person would start them. Both read test at the end. A round is side by side, one after another, one after
another, side by side; its ratio is of the two sums, so that a machine that drifts favours neither. Time is of the
whole: starting, loading, training, evaluating, saving, test. Images a second are those trained on, over that time.
The numbers of the two differ: threads are part of a result. Written to a report, with machine and versions.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bakeoff.launch import grid
from bakeoff.launch.local import cores
from bakeoff.study import Study
from bakeoff.study.expand import expand
from bakeoff.study.schema import StudyFile
from bakeoff.training import assembly, provenance

MODEL = "resnet_20"


def settings(*, epochs: int, limit: int) -> dict[str, Any]:
    """Return what both ways set beside the model's card."""
    return {"data.name": "cifar100", "data.limit": limit, "epochs": epochs, "device": "cpu", "compile": False}


def study(*, runs: int, epochs: int, limit: int) -> Study:
    """Return a study of so many runs: seeds of two arms that differ in a number that costs nothing."""
    base = {"model": MODEL, **settings(epochs=epochs, limit=limit)}
    seeds = -(-runs // 2)
    content = {"question": "How fast?", "base": base, "arms": {"b": {"optimizer.momentum": 0.8}}, "seeds": seeds}
    return expand(StudyFile.model_validate(content), name="speed", where="speed")


def side_by_side(asked: Study, *, root: Path) -> float:
    """Return the seconds that the grid takes."""
    began = time.perf_counter()
    outcome = grid.run(asked, root=root)
    took = time.perf_counter() - began
    assert all(end.state == "finished" for end in outcome.runs), outcome
    return took


def one_after_another(asked: Study, *, root: Path, epochs: int, limit: int) -> float:
    """Return the seconds that the same runs take as commands."""
    typed = [f"{key}={str(value).lower()}" for key, value in settings(epochs=epochs, limit=limit).items()]
    began = time.perf_counter()
    for recipe in asked.recipes().values():
        own = [f"seed={recipe.seed}", f"optimizer.momentum={recipe.optimizer.model_dump()['momentum']}"]
        command = [sys.executable, "-m", "bakeoff", "train", MODEL, *typed, *own, "threads=auto", "--root", str(root)]
        subprocess.run([*command, "--name", recipe.digest[:12]], check=True, capture_output=True)
    return time.perf_counter() - began


def measure(*, runs: int, epochs: int, limit: int, rounds: int) -> dict[str, Any]:
    """Measure rounds of A B B A."""
    asked = study(runs=runs, epochs=epochs, limit=limit)
    images = len(asked.recipes()) * epochs * limit * (1 - asked.control.trials[0].recipe.data.val_fraction)
    results = []
    for i in range(rounds):
        seconds: dict[str, list[float]] = {"A": [], "B": []}
        for way in "ABBA":
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder)
                work = {
                    "A": lambda root=root: side_by_side(asked, root=root),
                    "B": lambda root=root: one_after_another(asked, root=root, epochs=epochs, limit=limit),
                }
                seconds[way].append(work[way]())
        results.append(seconds)
        print(f"round {i + 1}: " + json.dumps(seconds), flush=True)
    at_once = [2 * images / sum(round_["A"]) for round_ in results]
    in_turn = [2 * images / sum(round_["B"]) for round_ in results]
    ratios = [a / b for a, b in zip(at_once, in_turn, strict=True)]
    return {
        "runs": len(asked.recipes()),
        "epochs": epochs,
        "images_an_epoch": round(images / epochs / len(asked.recipes())),
        "cores": cores(),
        "rounds": results,
        "images_per_s_side_by_side": statistics.median(at_once),
        "images_per_s_one_after_another": statistics.median(in_turn),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the report if there is to be one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--limit", type=int, default=5000, help="training images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--report", type=Path)
    chosen = parser.parse_args(arguments)
    measured = measure(runs=chosen.runs, epochs=chosen.epochs, limit=chosen.limit, rounds=chosen.rounds)
    print(json.dumps(measured, indent=2))
    if chosen.report:
        recipe = study(runs=2, epochs=1, limit=1000).control.trials[0].recipe
        about = provenance.collect(assembly.place(recipe), command=["python", "-m", "benchmarks.grid", *arguments])
        text = json.dumps({"about": about, "measured": measured}, indent=2) + "\n"
        chosen.report.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
