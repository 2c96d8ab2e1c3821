"""What a step of distillation costs beside its two parts: the student's own step, and the teacher's forward pass.

    python -m benchmarks.distill [--objective kd] [--rounds 9] [--steps 5] [--threads 1] [--report FILE]

Goal: a distillation step takes at most 1.05 times the student's step and the teacher's forward pass together.

Protocol: ResNet-56 teaches ResNet-20 on real CIFAR-100, batch 128, all augmentation of the student's card on, not
compiled, nothing else running. What the teacher knows costs nothing: it is a random one. A round is student, teacher,
distillation, distillation, teacher, student, each of the same number of steps; its ratio is of the sums. Rounds in
which a part took more than a tenth longer the second time are dropped. Medians, with machine and versions. Seconds
are those of the process on its processor, so that what a shared host gives to others in between does not count: on the
CPU a step waits for nothing else.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bakeoff.recipe import Recipe, resolve
from bakeoff.training import assembly, loop, provenance
from bakeoff.training.loop import Parts, Position

BATCH = 128
CALM = 0.1  # by which a part may differ between the two halves of a round


def parts_of(recipe: Recipe) -> Parts:
    """Assemble a run."""
    return assembly.assemble(recipe, assembly.load(recipe), plugin=None, root=Path())


def train(parts: Parts) -> None:
    """Train one epoch."""
    for _ in loop.epoch(parts, Position.at_start(parts)):
        pass


def teach(parts: Parts) -> None:
    """Show the teacher a batch as often as an epoch has steps, as the objective does; making it is not its cost."""
    assert parts.teacher is not None
    x = next(iter(parts.batches.epoch(0))).x
    for _ in range(parts.batches.steps_per_epoch):
        with parts.device.autocast():
            parts.teacher(x)


def timed(work: Callable[[], None]) -> float:
    """Return the processor's seconds that work takes, over all threads."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(objective: str, *, rounds: int, steps: int, threads: int) -> dict[str, Any]:
    """Measure rounds of A B C C B A."""
    common = [f"data.limit={steps * BATCH}", f"batch_size={BATCH}", "protocol=paper", "compile=false", "epochs=1"]
    common += [f"threads={threads}", "device=cpu", "lr=0.001"]
    alone = parts_of(resolve("resnet_20", overrides=common))
    taught = parts_of(resolve("resnet_20", overrides=[*common, f"objective={objective}", "teacher=random:resnet_56"]))
    ways: dict[str, Callable[[], None]] = {
        "student": lambda: train(alone),
        "teacher": lambda: teach(taught),
        "distillation": lambda: train(taught),
    }
    for work in ways.values():
        work()
    found = []
    for _ in range(rounds):
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for name in (*ways, *reversed(ways)):
            seconds[name].append(timed(ways[name]))
        found.append(seconds)
        print(json.dumps(seconds), flush=True)
    calm = [s for s in found if all(max(pair) <= (1 + CALM) * min(pair) for pair in s.values())]
    ratios = [sum(s["distillation"]) / (sum(s["student"]) + sum(s["teacher"])) for s in calm]
    return {
        "objective": objective,
        "steps": steps,
        "batch": BATCH,
        "rounds": found,
        "kept": len(calm),
        "ratio": statistics.median(ratios) if ratios else None,
        "ratio_range": [min(ratios), max(ratios)] if ratios else None,
    }


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the report if there is to be one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objective", default="kd", help="of those that look at logits")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", type=Path)
    chosen = parser.parse_args(arguments)
    measured = measure(chosen.objective, rounds=chosen.rounds, steps=chosen.steps, threads=chosen.threads)
    print(json.dumps({key: value for key, value in measured.items() if key != "rounds"}, indent=2))
    if chosen.report:
        device = assembly.place(resolve("resnet_20", overrides=[f"threads={chosen.threads}", "device=cpu"]))
        about = provenance.collect(device, command=["python", "-m", "benchmarks.distill", *arguments])
        chosen.report.write_text(json.dumps({"about": about, "measured": measured}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
