"""What the training loop costs around the bare step, how fast it starts, how much memory it needs.

    python -m benchmarks.loop [--rounds 21] [--only efficiency fixed start memory]

Goals:
    C1  fixed cost around the step <= 10 us/image + 0.2 ms/step
    C2  raw step time / training time per step >= 99 % on resnet_20, >= 99.7 % on resnet18
    C7  `bakeoff --help` <= 0.5 s; first optimizer step <= 10 s after the command
    C8  peak memory of a resnet_20 run <= 1.3 GB

Protocol: rounds of raw, ours, raw in one process, nothing else running; a round whose two raws differ by more than
10 % is dropped; medians of ratios inside rounds. "Raw" is the shortest step one can write: one batch, held in memory,
through the same network in the same precision and layout with the same optimizer. "Ours" is the trainer's own epoch,
batches, augmentation, schedule, checks and all, on real CIFAR-100. Before timing, both take 20 steps on the same
batches and must reach the same loss. The result is written to benchmarks/reports/, with machine and versions.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from bakeoff.data.batches import Batch
from bakeoff.data.images import ImageSet
from bakeoff.recipe import resolve
from bakeoff.results.store import Run
from bakeoff.training import assembly, loop, provenance
from bakeoff.training.loop import Parts, Position
from bakeoff.training.run import new_trainer
from bakeoff.training.signals import StopRequest
from bakeoff.training.trainer import Trainer
from benchmarks import shortest, written
from benchmarks.rounds import alike, timed

BATCH = 128


class Bare(nn.Module):
    """Almost no network, so that what remains is the loop."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x[:, :, 0, 0])
        return logits


def bare(*, num_classes: int, in_channels: int) -> nn.Module:
    """Build it, as a plug-in model."""
    assert in_channels == 3
    return Bare(num_classes)


def set_up(
    model: str,
    *,
    steps: int,
    batch_size: int,
    folder: Path,
    threads: int,
    compile: bool,
    other: Sequence[str] = (),
    images: ImageSet | None = None,
) -> Trainer:
    """Return a trainer of `steps` steps an epoch on real CIFAR-100, all augmentation of its card on.

    `other` settings lie over those of here; `images` are trained on instead, all of them.
    """
    settings = [
        "data=cifar100", "protocol=paper", f"data.limit={steps * batch_size}", f"batch_size={batch_size}",
        "epochs=1000", f"threads={threads}", f"compile={str(compile).lower()}", "device=cpu",
        "augment.crop_padding=4", "augment.flip=random", "lr=0.01", "label_smoothing=0", "cutmix=0", *other,
    ]  # fmt: skip
    recipe = resolve(model, overrides=settings, plugins=True)
    share = assembly.load(recipe) if images is None else everything(images)
    parts = assembly.assemble(recipe, share, plugin=model, root=folder)
    return new_trainer(recipe, Run(folder), share, parts, stop=StopRequest(), tell=lambda _: None)


def everything(images: ImageSet) -> assembly.Share:
    """Return a share that trains on all images and validates on none."""
    index, nothing = np.arange(len(images)), np.arange(0)
    return assembly.Share(
        source_fingerprint=images.fingerprint, train_index=index, val_index=nothing, train=images, val=None
    )


def raw_step(parts: Parts, batch: Batch) -> Tensor:
    """Take the shortest step that trains the same."""
    half = parts.device.precision == "bf16"
    return shortest.training_step(parts.model, parts.optimizer, batch.x, batch.targets, half=half)


def one_epoch(trainer: Trainer) -> None:
    """Train one epoch the way a run does, and put the position back."""
    trainer.train_epoch()
    trainer.position.step = trainer.position.epoch * len(trainer.position.losses)


def rounds(trainer: Trainer, *, num: int) -> list[tuple[float, float]]:
    """Return (raw, ours) in seconds a step, of the rounds whose two raws agree."""
    parts, steps = trainer.parts, len(trainer.position.losses)
    batch = next(parts.batches.epoch(0))
    parts.model.train()

    def raw() -> None:
        for _ in range(steps):
            raw_step(parts, batch)

    raw()
    one_epoch(trainer)  # both are warm now
    kept = []
    for _ in range(num):
        before, ours, after = timed(raw), timed(lambda: one_epoch(trainer)), timed(raw)
        if alike(before, after):
            kept.append(((before + after) / 2 / steps, ours / steps))
    return kept


def same_losses(model: str, *, folder: Path, threads: int) -> float:
    """Return the largest relative difference of 20 losses, ours against raw on the same batches."""
    ours, raw = (set_up(model, steps=20, batch_size=32, folder=folder, threads=threads, compile=False) for _ in "12")
    position = Position.at_start(ours.parts)
    for _ in loop.epoch(ours.parts, position):
        pass
    raw.parts.model.train()
    losses = []
    for step, batch in enumerate(raw.parts.batches.epoch(0)):
        for group in raw.parts.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * raw.parts.schedule(step / raw.parts.total_steps)
        losses.append(float(raw_step(raw.parts, batch)))
    differences = [abs(a - b) / b for a, b in zip(position.losses.tolist(), losses, strict=True)]
    return max(differences)


def efficiency(*, num: int, folder: Path, threads: int) -> dict[str, Any]:
    """Measure C2."""
    result: dict[str, Any] = {}
    # Steps for a second or two a segment: the machine's own drift is slower than that.
    for model, steps in (("resnet_20", 8), ("resnet18", 2)):
        difference = same_losses(model, folder=folder, threads=threads)
        trainer = set_up(model, steps=steps, batch_size=BATCH, folder=folder, threads=threads, compile=False)
        kept = rounds(trainer, num=num)
        if not kept:
            result[model] = {"rounds": 0}
            continue
        ratios = [raw / ours for raw, ours in kept]
        result[model] = {
            "rounds": len(kept),
            "raw_ms_per_step": 1e3 * statistics.median(raw for raw, _ in kept),
            "ours_ms_per_step": 1e3 * statistics.median(ours for _, ours in kept),
            "images_per_s": BATCH / statistics.median(ours for _, ours in kept),
            "efficiency": statistics.median(ratios),
            "efficiency_range": [min(ratios), max(ratios)],
            "largest_relative_loss_difference_20_steps": difference,
        }
        print(model, json.dumps(result[model]), flush=True)
    return result


def fixed(*, num: int, folder: Path) -> dict[str, Any]:
    """Measure C1 on one thread: the loop around an almost empty network, at two batch sizes."""
    points: dict[int, list[float]] = {}
    for batch_size in (32, 512):
        trainer = set_up(
            "benchmarks.loop:bare", steps=20_000 // batch_size, batch_size=batch_size, folder=folder, threads=1,
            compile=False,
        )  # fmt: skip
        kept = rounds(trainer, num=num)
        points[batch_size] = [1e6 * (ours - raw) for raw, ours in kept]
    if not all(points.values()):
        return {"rounds": [len(points[b]) for b in (32, 512)]}
    small, large = (statistics.median(points[b]) for b in (32, 512))
    per_image = (large - small) / (512 - 32)
    result = {
        "rounds": [len(points[b]) for b in (32, 512)],
        "us_per_image": per_image,
        "ms_per_step": (small - 32 * per_image) / 1e3,
    }
    print("fixed", json.dumps(result), flush=True)
    return result


def start(*, num: int, folder: Path) -> dict[str, Any]:
    """Measure C7: the wall clock of real commands."""
    command = [sys.executable, "-m", "bakeoff"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    helps = [timed(lambda: subprocess.run([*command, "--help"], check=True, **quiet)) for _ in range(num)]  # type: ignore[call-overload]
    firsts = []
    for i in range(num):
        settings = ["compile=false", "checkpoint_steps=1", "--root", str(folder), "--name", f"start-{i}"]
        began = time.perf_counter()
        process = subprocess.Popen([*command, "train", "resnet_20", *settings], **quiet)  # type: ignore[call-overload]
        while not (folder / "resnet_20" / f"start-{i}" / "checkpoints" / "step-1").exists():
            assert process.poll() is None
            time.sleep(0.01)
        firsts.append(time.perf_counter() - began)
        process.kill()
        process.wait()
    result = {
        "n": num,
        "help_s": statistics.median(helps),
        "help_range_s": [min(helps), max(helps)],
        "first_step_s": statistics.median(firsts),
        "first_step_range_s": [min(firsts), max(firsts)],
    }
    print("start", json.dumps(result), flush=True)
    return result


def memory(*, folder: Path) -> dict[str, Any]:
    """Measure C8: the peak resident set of a whole run, test included, one epoch on all of CIFAR-100."""
    result = {}
    for compiled in ("false", "true"):
        settings = ["epochs=1", f"compile={compiled}", "--root", str(folder), "--name", f"memory-{compiled}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "bakeoff", "train", "resnet_20", *settings], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        result[f"compile={compiled}"] = {"n": 1, "peak_gb": usage.ru_maxrss * 1024 / 1e9}
    print("memory", json.dumps(result), flush=True)
    return result


def main(arguments: Sequence[str]) -> None:
    """Measure what is asked for and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=["start", "memory", "efficiency", "fixed"])
    chosen = parser.parse_args(arguments)
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        probe = set_up("resnet_20", steps=1, batch_size=BATCH, folder=folder, threads=threads, compile=False)
        about = provenance.collect(probe.parts.device, command=["python", "-m", "benchmarks.loop", *arguments])
        measure: dict[str, Callable[[], dict[str, Any]]] = {
            "start": lambda: start(num=chosen.starts, folder=folder),
            "memory": lambda: memory(folder=folder),
            "efficiency": lambda: efficiency(num=chosen.rounds, folder=folder, threads=threads),
            "fixed": lambda: fixed(num=chosen.rounds, folder=folder),
        }
        report = written.dated("loop")
        measured: dict[str, Any] = {}
        for name in chosen.only:
            measured[name] = measure[name]()
            written.write(report, about=about, measured=measured)  # after each: a failure in the next loses nothing
    print(report)


if __name__ == "__main__":
    main(sys.argv[1:])
