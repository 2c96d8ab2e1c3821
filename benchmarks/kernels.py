"""What our kernels for a processor gain over torch's: single layers, and whole training steps.

    python -m benchmarks.kernels [--rounds 11] [--threads N] [--only layers steps]

Protocol: rounds of torch, ours, ours, torch in one process, bfloat16 and channels-last on both sides, nothing else
running; a round whose two of a kind differ by more than 10 % is dropped; medians of ratios inside rounds, with the
smallest and the largest. A step is forward, cross-entropy, backward and SGD, on one batch held in memory. Before
timing, 20 steps of both and of float32 are compared: the losses must agree. The result is written to
benchmarks/reports/, with machine and versions.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from benchmarks import shortest, written
from benchmarks.rounds import Segment, alike, spread, timed

# Pictures, channels in and out, side of the map, stride: of ResNet-18, ResNet-20 and SpeedNet.
LAYERS = (
    (128, 32, 32, 16, 1), (128, 64, 64, 8, 1), (64, 64, 64, 32, 1), (64, 128, 128, 16, 1), (64, 256, 256, 8, 1),
    (64, 256, 512, 8, 2), (64, 512, 512, 4, 1), (250, 64, 256, 15, 1), (250, 256, 256, 7, 1), (250, 256, 512, 7, 1),
    (250, 512, 512, 3, 1), (250, 512, 512, 2, 1),
)  # fmt: skip
STEPS = (("resnet_20", 128), ("resnet_56", 128), ("resnet18", 64), ("resnet50", 32), ("speednet", 500))


@contextmanager
def without_kernels() -> Iterator[None]:
    """Leave all to torch."""
    with (
        mock.patch.object(native, "library", return_value=None),
        mock.patch.object(native, "multiplies", return_value=False),
    ):
        yield


def compare(work: Callable[[], object], *, rounds: int, repeats: int) -> dict[str, Any]:
    """Return by how much ours is faster, over the rounds in which the machine kept its speed."""

    def several() -> None:
        for _ in range(repeats):
            work()

    def by_torch() -> float:
        with without_kernels():
            return timed(several) / repeats

    by_torch(), timed(several)  # warm
    turns = []
    for _ in range(rounds):
        before, ours, again, after = by_torch(), timed(several) / repeats, timed(several) / repeats, by_torch()
        if alike(ours, again):
            turns.append(Segment(before=before, seconds=(ours + again) / 2, after=after))
    calm = [turn for turn in turns if turn.calm]
    return {
        "torch_ms": spread(1e3 * turn.raw for turn in calm),
        "ours_ms": spread(1e3 * turn.seconds for turn in calm),
        "times_as_fast": spread(turn.efficiency for turn in calm),
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
        self.targets, self.half = F.one_hot(torch.randint(0, 100, (batch_size,)), 100).float(), half
        weights = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(weights, lr=0.01, momentum=0.9, nesterov=True, fused=True)

    def __call__(self) -> float:
        """Take one step, and return its loss."""
        return float(shortest.training_step(self.network, self.optimizer, self.x, self.targets, half=self.half))


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
    report = written.dated("kernels")
    measured: dict[str, Any] = {}
    for name, measure in (("layers", layers), ("steps", steps)):
        if name in chosen.only:
            measured[name] = measure(rounds=chosen.rounds)
            written.write(report, about=about, measured=measured)
    print(report)


if __name__ == "__main__":
    main(sys.argv[1:])
