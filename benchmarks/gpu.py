"""What one GPU trains: images a second, one run and several, and the time to an accuracy.

    python -m benchmarks.gpu [--minutes 10] [--report FILE] [--rehearse]

Goals, on an H200:
    G1  resnet18 >= 60,000 images/s; resnet_20 >= 200,000 at batch 128, >= 500,000 in eight runs together
    G2  75 % in <= 2.5 s; resnet18, 200 epochs, in <= 170 s; an epoch of every network, in all, in <= one hour

Protocol: rounds of raw, ours, raw in one process, nothing else running; a round whose two raws differ by more than 10 %
is dropped; medians of ratios inside rounds. "Raw" is the step alone, in the same way, on one batch that lies on the
device; "ours" is the trainer's own epoch, batches, augmentation, schedule and checks. The ways are steps launched
kernel by kernel, as a CUDA graph, as a graph without deterministic kernels, and as a graph of a compiled network;
before timing, 20 steps as a graph must have the losses of 20 launched ones. Speed is measured on noise of CIFAR-100's
shape, so it needs no pictures; the time to an accuracy needs them.

Eight runs are measured in two ways: as processes, as a study starts them, which take turns on the device unless
NVIDIA's MPS runs; and as eight graphs on streams of one process, step about, which shows what the device could do.

A network of the zoo is measured over some steps at its card's settings and batch 128, and reckoned to an epoch of
50,000 images. What there is no time for is left out, and named. The report is written after each piece, so that a cut
leaves what was measured. `--rehearse` does all of it on the CPU, tiny, to see that it runs: its numbers say nothing.
"""

import argparse
import gc
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch

from bakeoff import catalogue
from bakeoff.data import images as splits
from bakeoff.recipe import resolve
from bakeoff.results.store import Run
from bakeoff.training import assembly, loop, provenance
from bakeoff.training import run as training
from bakeoff.training.loop import Position
from bakeoff.training.trainer import Trainer
from benchmarks import written
from benchmarks.loop import one_epoch, set_up
from benchmarks.rounds import Segment, spread, timed

IMAGES_AN_EPOCH = 50_000
CLASSES = 100
SHAPE = (3, 32, 32)
FIRST_S = {"compiled": 60.0, "zoo": 3.0}  # what the first piece of a kind may take, where it is not 15 s
WAYS = {
    "launched": ("cuda_graph=false",),
    "graph": ("cuda_graph=true",),
    "graph, any kernels": ("cuda_graph=true", "deterministic=false"),
    "graph, compiled": ("cuda_graph=true", "compile=true"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much is measured.

    Args:
        device: where.
        steps: of an epoch that is timed.
        rounds: of raw, ours, raw.
        batches: network -> images of a step, each measured in all ways.
        runs: side by side.
        fast: the model that is trained to an accuracy, and settings.
        seeds: of it.
        zoo: networks, in the order in which they are measured.
    """

    device: str
    steps: int
    rounds: int
    batches: dict[str, tuple[int, ...]]
    runs: int
    fast: tuple[str, tuple[str, ...]]
    seeds: int
    zoo: Sequence[str]


def whole() -> Size:
    """Return what is measured on a GPU; of the zoo small networks come first."""
    macs = {name: costs.macs for name, costs in catalogue.costs().items()}
    return Size(
        device="cuda",
        steps=100,
        rounds=5,
        batches={"resnet_20": (128,), "resnet18": (128, 512)},
        runs=8,
        fast=("speednet", ("protocol=paper",)),
        seeds=3,
        zoo=sorted(macs, key=lambda name: macs[name]),
    )


def rehearsal() -> Size:
    """Return the same on a CPU, tiny."""
    digits = ("data=digits", "data.limit=64", "epochs=1", "batch_size=16", "protocol=paper", "device=cpu", "threads=1")
    return Size(
        device="cpu",
        steps=2,
        rounds=1,
        batches={"resnet_20": (8,)},
        runs=2,
        fast=("resnet_20", (*digits, "compile=false")),
        seeds=1,
        zoo=("resnet_20",),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """A device, a folder that is forgotten, and a time to be done by."""

    size: Size
    folder: Path
    deadline: float

    @property
    def left_s(self) -> float:
        """Seconds until the report has to be complete."""
        return self.deadline - time.monotonic()

    def trainer(self, model: str, *, batch_size: int, way: Sequence[str], steps: int | None = None) -> Trainer:
        """Return a trainer of noise, as `benchmarks.loop` has it."""
        steps = steps or self.size.steps
        own = (f"device={self.size.device}", "lr=0.0001", *(s for s in way if not s.startswith("compile=")))
        return set_up(
            model, steps=steps, batch_size=batch_size, folder=self.folder, threads=1, compile="compile=true" in way,
            other=own, images=splits.noise(SHAPE, num_classes=CLASSES, num=steps * batch_size),
        )  # fmt: skip

    def wait(self) -> None:
        """Wait for the device."""
        if self.size.device == "cuda":
            torch.cuda.synchronize()

    def stream(self) -> AbstractContextManager[Any]:
        """Return a stream of its own, to be entered."""
        return torch.cuda.stream(torch.cuda.Stream()) if self.size.device == "cuda" else nullcontext()

    def forget(self) -> None:
        """Give the memory of what is not used any more back."""
        gc.collect()
        if self.size.device == "cuda":
            torch.cuda.empty_cache()


def same_losses(bench: Bench) -> dict[str, Any]:
    """Return by how much 20 losses of resnet_20 differ as a graph, the largest of the ratios."""
    losses = []
    for way in ("launched", "graph"):
        trainer = bench.trainer("resnet_20", batch_size=8, way=WAYS[way], steps=20)
        position = Position.at_start(trainer.parts)
        for _ in loop.epoch(trainer.parts, position):
            pass
        losses.append(position.losses.tolist())
    differences = [abs(a - b) / abs(b) for a, b in zip(*losses, strict=True)]
    return {"largest_relative_loss_difference_20_steps": max(differences)}


def throughput(bench: Bench, model: str, *, batch_size: int, way: str) -> dict[str, Any]:
    """Measure one run in one way."""
    began = time.perf_counter()
    trainer = bench.trainer(model, batch_size=batch_size, way=WAYS[way])
    parts, steps = trainer.parts, len(trainer.position.losses)
    one_epoch(trainer)
    first_s = time.perf_counter() - began
    batch, take = next(parts.batches.epoch(0)), parts.replay or partial(loop.step, parts)

    def raw() -> None:
        for _ in range(steps):
            take(batch.x, batch.targets, 0.0)
        bench.wait()

    raw()
    ours = partial(one_epoch, trainer)  # which reads its losses, and so waits
    turns = [Segment(before=timed(raw), seconds=timed(ours), after=timed(raw)) for _ in range(bench.size.rounds)]
    kept = [turn for turn in turns if turn.calm]
    return {
        "graphed": parts.device.graphed,
        "rounds": len(turns),
        "images_per_s": spread(steps * batch_size / turn.seconds for turn in kept),
        "raw_images_per_s": spread(steps * batch_size / turn.raw for turn in kept),
        "efficiency": spread(turn.efficiency for turn in kept),
        "first_epoch_s": first_s,
    }


def on_streams(bench: Bench, *, batch_size: int) -> dict[str, Any]:
    """Measure several runs in one process, a step of each in turn, each on a stream of its own."""
    trainers = [bench.trainer("resnet_20", batch_size=batch_size, way=WAYS["graph"]) for _ in range(bench.size.runs)]
    streams = [bench.stream() for _ in trainers]

    def work() -> None:
        epochs = [loop.epoch(trainer.parts, Position.at_start(trainer.parts)) for trainer in trainers]
        bench.wait()
        for _ in range(bench.size.steps):
            for epoch, stream in zip(epochs, streams, strict=True):
                with stream:
                    next(epoch)
        bench.wait()

    work()  # records
    images = len(trainers) * bench.size.steps * batch_size
    return {"runs": len(trainers), "images_per_s": spread(images / timed(work) for _ in range(bench.size.rounds))}


def in_processes(bench: Bench, *, batch_size: int) -> dict[str, Any]:
    """Measure several runs as processes: from the first that begins to the last that ends."""
    context = multiprocessing.get_context("spawn")
    runs, rounds = bench.size.runs, 5 * bench.size.rounds
    barrier, times = context.Barrier(runs), context.SimpleQueue()
    processes = [
        context.Process(target=_one_of_them, args=(bench, batch_size, rounds, barrier, times)) for _ in range(runs)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"exit codes {[process.exitcode for process in processes]}")
    spans = [times.get() for _ in processes]
    seconds = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return {"runs": runs, "images_per_s": runs * rounds * bench.size.steps * batch_size / seconds}


def _one_of_them(bench: Bench, batch_size: int, rounds: int, barrier: Barrier, times: Any) -> None:  # noqa: ANN401
    """Train as one of several processes, beginning with the others; one that fails lets none of them wait for it."""
    try:
        trainer = bench.trainer("resnet_20", batch_size=batch_size, way=WAYS["graph"])
        one_epoch(trainer)
        barrier.wait(timeout=120)
    except BaseException:
        barrier.abort()
        raise
    began = time.monotonic()  # one clock for all processes of a machine
    for _ in range(rounds):
        one_epoch(trainer)
    times.put((began, time.monotonic()))


def to_accuracy(bench: Bench) -> dict[str, Any]:
    """Train the fast recipe as a person would, once for each seed, and read test."""
    model, settings = bench.size.fast
    seeds = []
    for seed in range(bench.size.seeds):
        recipe = resolve(model, overrides=[*settings, f"seed={seed}"])
        folder = bench.folder / model / f"seed{seed}"
        whole_s = timed(partial(training.start, recipe, folder))
        run = Run(folder)
        training.read_test(run)
        summary = run.read_json(run.summary_path)
        training_s = summary["training_seconds"]
        seeds.append({"training_s": training_s, "command_s": whole_s, "top1": summary["test"]["top1"]})
    return {"model": model, "seeds": seeds, "training_s": spread(seed["training_s"] for seed in seeds)}


def an_epoch(bench: Bench, model: str) -> dict[str, Any]:
    """Measure one network of the zoo, and reckon its epoch."""
    batch_size = min(128, *bench.size.batches["resnet_20"])
    trainer = bench.trainer(model, batch_size=batch_size, way=("cuda_graph=auto",), steps=bench.size.steps // 2)
    one_epoch(trainer)
    per_s = bench.size.steps // 2 * batch_size / timed(partial(one_epoch, trainer))
    return {"images_per_s": per_s, "epoch_s": IMAGES_AN_EPOCH / per_s, "graphed": trainer.parts.device.graphed}


def pieces(bench: Bench) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return what is measured, in order, by name: what the goals ask for first, the zoo last."""
    small = bench.size.batches["resnet_20"][0]
    found: dict[str, Callable[[], dict[str, Any]]] = {"losses": partial(same_losses, bench)}
    for model, batches in bench.size.batches.items():
        for batch_size in batches:
            for way in WAYS if batch_size == max(batches) else [way for way in WAYS if "compiled" not in way]:
                measure = partial(throughput, bench, model, batch_size=batch_size, way=way)
                found[f"{model}, batch {batch_size}, {way}"] = measure
    compiled = [name for name in found if name.endswith("compiled")]
    slow = {name: found.pop(name) for name in compiled}  # they cost most, and matter least
    found["runs on streams"] = partial(on_streams, bench, batch_size=small)
    found["runs in processes"] = partial(in_processes, bench, batch_size=small)
    found["time to accuracy"] = partial(to_accuracy, bench)
    found |= slow
    return found | {f"zoo: {name}": partial(an_epoch, bench, name) for name in bench.size.zoo}


def goals(measured: dict[str, Any]) -> dict[str, Any]:
    """Return what the goals ask for, of what was measured; a goal without its measurement is left out."""
    best: dict[str, float] = {}
    for name, found in measured.items():
        reached = found.get("images_per_s")
        median = reached.get("median") if isinstance(reached, dict) else reached
        kind = name.split(", batch")[0]
        if median and not name.startswith("zoo: "):
            best[kind] = max(best.get(kind, 0.0), median)
    told: dict[str, Any] = {f"{kind}, images/s": value for kind, value in best.items()}
    if "resnet18" in best:
        told["resnet18, 200 epochs, s"] = 200 * IMAGES_AN_EPOCH / best["resnet18"]
    zoo = [found["epoch_s"] for name, found in measured.items() if name.startswith("zoo: ") and "epoch_s" in found]
    return told | {"zoo, networks": len(zoo), "zoo, an epoch of each, s": sum(zoo)}


def run(bench: Bench, *, report: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Measure piece by piece while there is time; write the report after each."""
    measured: dict[str, Any] = {}
    took: dict[str, float] = {}  # the last piece of a kind
    for name, measure in pieces(bench).items():
        kind = name.split(": ")[0].split(", ")[-1]
        if bench.left_s < 1.5 * took.get(kind, FIRST_S.get(kind, 15.0)):
            measured[name] = {"left_out": "no time"}
            continue
        began = time.perf_counter()
        try:
            measured[name] = measure()
        except Exception as error:  # no pictures, too little memory: the other pieces are measured all the same
            measured[name] = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        took[kind] = measured[name]["took_s"] = time.perf_counter() - began
        bench.forget()
        print(name, json.dumps(measured[name]), flush=True)
        written.write(report, about=about, measured={"goals": goals(measured), **measured})
    written.write(report, about=about, measured={"goals": goals(measured), **measured})
    return measured


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--rehearse", action="store_true")
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    size = rehearsal() if chosen.rehearse else whole()
    with tempfile.TemporaryDirectory() as scratch:
        # Half a minute remains for what is under way at the end.
        bench = Bench(size=size, folder=Path(scratch), deadline=began + 60 * chosen.minutes - 30)
        place = assembly.place(resolve("resnet_20", overrides=[f"device={size.device}"]))
        about = provenance.collect(place, command=["python", "-m", "benchmarks.gpu", *arguments])
        report = chosen.report or (Path(scratch, "gpu.json") if chosen.rehearse else written.dated("gpu"))
        run(bench, report=report, about=about)
        print(report.read_text(encoding="utf-8") if chosen.rehearse else report)


if __name__ == "__main__":
    main(sys.argv[1:])
