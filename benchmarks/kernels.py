"""What our kernels for a processor gain over torch's: single layers, and whole training steps.

    python -m benchmarks.kernels [--rounds 11] [--threads N] [--only layers steps]

Protocol: rounds of torch, ours, ours, torch in one process, bfloat16 and channels-last on both sides, nothing else
running; a round whose two of a kind differ by more than 15 % is dropped; medians of ratios inside rounds, with the
smallest and the largest. A step is forward, cross-entropy, backward and SGD, on one batch held in memory. Before
timing, 20 steps of both and of float32 are compared: the losses must agree. The result is written to
benchmarks/reports/, with machine and versions.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff import models
from bakeoff.models import native
from bakeoff.models.convolution import Convolution
from bakeoff.training import device as place
from bakeoff.training import provenance

REPORTS = Path(__file__).parent / "reports"
# Pictures, channels in and out, side of the map, stride: of ResNet-18, ResNet-20 and SpeedNet.
LAYERS = (
    (128, 32, 32, 16, 1), (128, 64, 64, 8, 1), (64, 64, 64, 32, 1), (64, 128, 128, 16, 1), (64, 256, 256, 8, 1),
    (64, 256, 512, 8, 2), (64, 512, 512, 4, 1), (250, 64, 256, 15, 1), (250, 256, 256, 7, 1), (250, 256, 768, 7, 1),
    (250, 768, 768, 3, 1), (250, 768, 768, 2, 1),
)  # fmt: skip
STEPS = (("resnet_20", 128), ("resnet_56", 128), ("resnet18", 64), ("resnet50", 32), ("speednet", 500))


@contextmanager
def without_kernels() -> Iterator[None]:
    """Leave all to torch."""
    with (
        mock.patch.object(native, "library", return_value=None),
        mock.patch.object(native, "has_tiles", return_value=False),
    ):
        yield


def timed(work: Callable[[], object]) -> float:
    """Return seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(work: Callable[[], object], *, rounds: int, repeats: int) -> dict[str, Any]:
    """Return by how much ours is faster, over the rounds in which the machine kept its speed."""

    def several() -> None:
        for _ in range(repeats):
            work()

    def by_torch() -> float:
        with without_kernels():
            return timed(several) / repeats

    by_torch(), timed(several)  # warm
    kept = []
    for _ in range(rounds):
        torchs, ours, again, last = by_torch(), timed(several) / repeats, timed(several) / repeats, by_torch()
        if all(abs(a - b) <= 0.15 * min(a, b) for a, b in ((torchs, last), (ours, again))):
            kept.append(((torchs + last) / 2, (ours + again) / 2))
    if not kept:
        return {"rounds": 0}
    ratios = [torchs / ours for torchs, ours in kept]
    return {
        "rounds": len(kept),
        "torch_ms": 1e3 * statistics.median(torchs for torchs, _ in kept),
        "ours_ms": 1e3 * statistics.median(ours for _, ours in kept),
        "times_as_fast": statistics.median(ratios),
        "range": [min(ratios), max(ratios)],
    }


def layers(*, rounds: int) -> dict[str, Any]:
    """Measure one convolution of 3x3 at a time: forwards and backwards."""
    result = {}
    for num, num_in, num_out, side, stride in LAYERS:
        layer = Convolution(num_in, num_out, 3, stride=stride, padding=1, bias=False)
        layer = layer.to(memory_format=torch.channels_last)
        x = torch.randn(num, num_in, side, side).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            gradient = torch.randn_like(layer(x))

        def work(layer: nn.Module = layer, x: Tensor = x, gradient: Tensor = gradient) -> None:
            with torch.autocast("cpu", torch.bfloat16):
                layer(x).backward(gradient)
            x.grad = None

        name = f"{num} pictures, {num_in} to {num_out}, {side}x{side}, stride {stride}"
        result[name] = compare(work, rounds=rounds, repeats=5)
        print(name, json.dumps(result[name]), flush=True)
    return result


class Step:
    """A network with its optimizer, and one batch."""

    def __init__(self, name: str, batch_size: int, *, half: bool = True) -> None:
        torch.manual_seed(0)
        self.network = models.build(name, num_classes=100).to(memory_format=torch.channels_last).train()
        self.x = torch.randn(batch_size, 3, 32, 32).to(memory_format=torch.channels_last)
        if prepare := getattr(self.network, "prepare", None):
            prepare(self.x)
        self.labels, self.half = torch.randint(0, 100, (batch_size,)), half
        weights = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(weights, lr=0.01, momentum=0.9, nesterov=True, fused=True)

    def __call__(self) -> float:
        """Take one step, and return its loss."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            logits = self.network(self.x)
        loss = F.cross_entropy(logits.float(), self.labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss)


def steps(*, rounds: int) -> dict[str, Any]:
    """Measure whole steps, after their losses were compared."""
    result = {}
    for name, batch_size in STEPS:
        found = {}
        for kind, half in (("float32", False), ("torch", True), ("ours", True)):
            step = Step(name, 32, half=half)
            if kind == "torch":
                with without_kernels():
                    found[kind] = [step() for _ in range(20)]
            else:
                found[kind] = [step() for _ in range(20)]
        step = Step(name, batch_size)
        result[name] = compare(step, rounds=rounds, repeats=2) | {
            "batch_size": batch_size,
            "loss_20": {kind: losses[-1] for kind, losses in found.items()},
            "largest_relative_difference_to_float32_in_20_steps": {
                kind: max(abs(a - b) / b for a, b in zip(found[kind], found["float32"], strict=True))
                for kind in ("torch", "ours")
            },
        }
        print(name, json.dumps(result[name]), flush=True)
    return result


def main(arguments: Sequence[str]) -> None:
    """Measure what is asked for and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", nargs="+", default=["layers", "steps"])
    chosen = parser.parse_args(arguments)
    here = place.resolve(
        device="cpu", precision="bf16", compile=False, threads=chosen.threads, deterministic=True,
        training_macs=lambda: 0.0,
    )  # fmt: skip
    about = provenance.collect(here, command=["python", "-m", "benchmarks.kernels", *arguments])
    report = REPORTS / f"{datetime.now(UTC):%Y-%m-%d}-kernels.json"
    measured: dict[str, Any] = {}
    for name, measure in (("layers", layers), ("steps", steps)):
        if name in chosen.only:
            measured[name] = measure(rounds=chosen.rounds)
            report.write_text(json.dumps({"about": about, "measured": measured}, indent=2) + "\n", encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main(sys.argv[1:])
