"""Measure bakeoff beside its peers: see the package's own words."""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bakeoff import data
from bakeoff.training import device, provenance
from benchmarks import peers, written
from benchmarks.peers import contests, growth, plots, tables
from benchmarks.peers.contests import Bench, Result
from benchmarks.peers.lane import PeerFailed
from benchmarks.peers.task import CLASSES, LR, MODULES, MOMENTUM, OURS, WAYS, WEIGHT_DECAY, paths

PARTS: dict[str, Callable[[Bench], Iterator[Result]]] = {
    "training": contests.training,
    "evaluation": contests.evaluation,
    "fixed": contests.fixed,
    "start": growth.start,
    "memory": growth.memory,
    "data": growth.data,
    "runs": growth.runs,
}
MODELS = ("resnet_20", "resnet18", "convnext_tiny")
PACKAGES = ("torchvision", "lightning", "pytorch-ignite", "transformers", "timm", "pillow")
NEEDED = {"lightning": "lightning", "ignite": "ignite", "transformers": "transformers", "timm": "timm"}
# For a trial that takes little more than the processes take to start; its numbers say nothing.
QUICK: dict[str, Any] = {
    "rounds": 1, "seconds": 0.1, "workers": (0,), "fixed_images": 512,
    "sizes": (5_000, 10_000), "runs": (1,), "run_images": 512,
}  # fmt: skip


def lay_out(folder: Path) -> None:
    """Write CIFAR-100 as plain arrays, which all contestants read."""
    for part in ("train", "test"):
        images = data.load(name="cifar100", part=part)
        pixels, labels = paths(folder, part)
        np.save(pixels, images.pixels(np.arange(len(images))))
        np.save(labels, images.labels)
    np.save(folder / "statistics.npy", np.array([images.mean, images.std]))


def about(arguments: Sequence[str], *, threads: int) -> dict[str, Any]:
    """Return machine, versions, command and settings."""
    here = device.resolve(
        device="cpu", precision="auto", compile=False, threads=threads, deterministic=True, training_macs=lambda: 0.0
    )
    found = provenance.collect(here, command=["python", "-m", "benchmarks.peers", *arguments])
    found["versions"] |= {name: version(name) for name in PACKAGES}
    found["classes"] = {name: asdict(way) for name, way in WAYS.items()}
    found["optimizer"] = {"name": "sgd, nesterov", "lr": LR, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY}
    return found


def options() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=peers.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--models", nargs="+", help=f"default: {' '.join(MODELS)}; of a trial, the first")
    parser.add_argument("--peers", nargs="+", choices=[peer for peer in MODULES if peer != OURS])
    parser.add_argument("--classes", nargs="+", choices=CLASSES, help="default: all; of a trial, the first")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of raw work in a turn, about")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--report", type=Path, default=written.dated("peers"))
    parser.add_argument("--quick", action="store_true", help="a trial of minutes, in a temporary folder")
    return parser


def bench(chosen: argparse.Namespace, folder: Path) -> Bench:
    """Return what to measure."""
    first = slice(1 if chosen.quick else None)
    models, classes = chosen.models or MODELS[first], chosen.classes or CLASSES[first]
    settings = {"models": models, "rounds": chosen.rounds, "seconds": chosen.seconds}
    return Bench(
        peers=[OURS, *(chosen.peers or [peer for peer in MODULES if peer != OURS])],
        classes=classes,
        batch_size=chosen.batch,
        threads=chosen.threads,
        folder=folder,
        **(settings | (QUICK if chosen.quick else {})),
    )


def main(arguments: Sequence[str]) -> None:
    """Measure what is asked for and write the report."""
    parser = options()
    chosen = parser.parse_args(arguments)
    missing = [
        name for name in chosen.peers or MODULES if name in NEEDED and not importlib.util.find_spec(NEEDED[name])
    ]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}; see benchmarks/peers/requirements.txt, or choose --peers")
    report: Path = Path(tempfile.mkdtemp(), "peers.json") if chosen.quick else chosen.report
    content: dict[str, Any] = {"about": about(arguments, threads=chosen.threads), "measured": {}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "fresh").mkdir()
        lay_out(folder)
        asked = bench(chosen, folder)
        for name in chosen.only:
            try:
                for result in PARTS[name](asked):
                    content["measured"][name] = result
                    written.write(report, **content)  # at each stage: a failure in the next loses nothing
            except PeerFailed as failure:  # bakeoff itself, without which there is nothing to compare with
                content["about"].setdefault("stopped", {})[name] = str(failure)
                asked.say(name, "stopped:", failure)
                written.write(report, **content)
            report.with_suffix(".md").write_text(tables.page(content), encoding="utf-8")
            plots.save(json.loads(report.read_text(encoding="utf-8"))["measured"], report)
    print(report)


if __name__ == "__main__":
    main(sys.argv[1:])
