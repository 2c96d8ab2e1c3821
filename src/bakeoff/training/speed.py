"""How fast networks train and answer on this machine, all by one protocol, and what share of the machine that is.

Pictures are noise that lies on the device already: what is measured is the network, not the data. A training step is
that of the loop: forward pass in the run's precision, cross-entropy, backward pass, a step of SGD with Nesterov's
momentum. Inference is what evaluation does. `pace` asks another question: how long a run of a recipe will take.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bakeoff import catalogue, models, optim
from bakeoff.errors import BakeoffError
from bakeoff.models import cost
from bakeoff.objectives.classify import classify
from bakeoff.training import assembly, memory
from bakeoff.training.device import Device
from bakeoff.training.stopwatch import CALLS, REPEATS, Clock, Timing, Work, timed, waiter

TRAINING = 3  # training takes this many times the multiply-adds of a forward pass: two more of that size backward
PEAK_WIDTHS = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose product is the peak; elsewhere the smaller
LOOKS = (10, 100)  # repeats of that product: the more and the shorter, the surer one of them is undisturbed
# Small, so that no network leaves the finite numbers or learns the noise by heart: both change the speed.
LR, WEIGHT_DECAY = 1e-4, 5e-4


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """What is the same for all networks of a benchmark.

    Attributes:
        batch_size: pictures a step.
        image_size: their height and width.
        num_classes: of the answer.
        seconds: how long a measurement takes, about.
        train: whether training is measured.
        infer: whether inference is, with the latency of one picture.
    """

    batch_size: int = 128
    image_size: int = 32
    num_classes: int = 100
    seconds: float = 2.0
    train: bool = True
    infer: bool = True

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return 3, self.image_size, self.image_size


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """What was measured of one network.

    Attributes:
        name: as it was asked for.
        cost: parameters, multiply-adds, activations; None for a plug-in that cannot be followed.
        batch_size: pictures a step.
        train: of training steps, if they were measured.
        train_mb: memory that training needs, where it can be told.
        infer: of batches in evaluation.
        infer_mb: memory that these need.
        single: of one picture alone, a value a call.
    """

    name: str
    cost: cost.Cost | None
    batch_size: int
    train: Timing | None = None
    train_mb: float | None = None
    infer: Timing | None = None
    infer_mb: float | None = None
    single: Timing | None = None

    def content(self, *, peak: float) -> dict[str, Any]:
        """Return all of it by name, times in milliseconds.

        Args:
            peak: multiply-adds a second that the machine was measured to do.
        """
        known = self.cost
        costs = {"params": known.params, "macs": known.macs, "activations": known.activations} if known else {}
        content: dict[str, Any] = {"name": self.name, **dict.fromkeys(("params", "macs", "activations")), **costs}
        if self.train:
            content["train"] = self._throughput(self.train, passes=TRAINING, memory_mb=self.train_mb, peak=peak)
        if self.infer:
            content["infer"] = self._throughput(self.infer, passes=1, memory_mb=self.infer_mb, peak=peak)
        if self.single:
            single = self.single
            content["single"] = {
                "median_ms": 1000 * single.median_s,
                "p95_ms": 1000 * single.p95_s,
                "least_ms": 1000 * min(single.steps_s),
                "most_ms": 1000 * max(single.steps_s),
                "calls": len(single.steps_s),
            }
        return content

    def _throughput(self, timing: Timing, *, passes: int, memory_mb: float | None, peak: float) -> dict[str, Any]:
        macs_per_s = passes * self.cost.macs * self.batch_size / timing.median_s if self.cost else None
        return {
            "images_per_s": self.batch_size / timing.median_s,
            "least_images_per_s": self.batch_size / max(timing.steps_s),
            "most_images_per_s": self.batch_size / min(timing.steps_s),
            "step_ms": 1000 * timing.median_s,
            "macs_per_s": macs_per_s,
            "share_of_peak": macs_per_s / peak if macs_per_s is not None else None,
            "memory_mb": memory_mb,
            "repeats": len(timing.steps_s),
            "steps_per_repeat": timing.steps,
        }


def measure(name: str, protocol: Protocol, *, device: Device, clock: Clock = time.perf_counter) -> Speed:
    """Measure one network.

    Args:
        name: as `models.build` takes it; a plug-in's code is run, which is the caller's decision.
        protocol: what is measured, and how.
        device: where.
        clock: tells the seconds.

    Raises:
        BakeoffError: a name or pictures that it cannot be built for, or whatever happened when it ran.
    """
    try:
        return _measure(name, protocol, device=device, clock=clock)
    except BakeoffError as error:
        failed = error.inside(name)
    except Exception as error:  # whatever a network raises, or a device that has no room for it
        said = " ".join(str(error).split())[:300]
        expected = f"a network that can be run on {protocol.batch_size} pictures at once on this device"
        failed = BakeoffError(name, found=f"{type(error).__name__}: {said}", expected=expected)
    raise failed  # out here it does not hold the frames of what failed, and these not their tensors


def _measure(name: str, protocol: Protocol, *, device: Device, clock: Clock) -> Speed:
    network = _built(name, protocol)
    costs = assembly.followed(cost.cost, network, protocol.image_shape)
    network = device.place(network)
    x, targets = _noise(protocol, device)
    clocked = partial(timed, seconds=protocol.seconds, wait=waiter(device.kind), clock=clock)
    found: dict[str, Any] = {}
    if protocol.infer:
        network.eval()
        work = _answering(network, x, device)
        found["infer"] = clocked(work, repeats=REPEATS)
        found["infer_mb"] = memory.peak_mb(work, kind=device.kind, held=[*_tensors(network), x])
        found["single"] = clocked(_answering(network, x[:1], device), repeats=CALLS)
    if protocol.train:
        network.train()
        optimizer = optim.build("sgd", network, lr=LR, weight_decay=WEIGHT_DECAY)
        work = training_step(network, optimizer, x, targets, device=device)
        found["train"] = clocked(work, repeats=REPEATS)
        held = [*_tensors(network), *_state(optimizer), x, targets]
        found["train_mb"] = memory.peak_mb(work, kind=device.kind, held=held)
    return Speed(name=name, cost=costs, batch_size=protocol.batch_size, **found)


def _built(name: str, protocol: Protocol) -> nn.Module:
    """Build the network, and show it a batch without numbers, except where that is a plug-in's own affair."""
    channels, size, _ = protocol.image_shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = models.build(name, num_classes=protocol.num_classes, in_channels=channels, image_size=size)
    if not catalogue.is_plugin(name):
        num = min(2, protocol.batch_size) if protocol.train else 2
        assembly.show_batch(
            cost.on_meta(network), num=num, image_shape=protocol.image_shape, num_classes=protocol.num_classes
        )
    return network


def training_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, targets: Tensor, *, device: Device
) -> Work:
    """Return the work of one optimizer step, as the loop does it.

    Args:
        network: on the device, and training.
        optimizer: of its weights.
        x: float32 [b c h w], on the device.
        targets: float32 [b classes], rows summing to 1.
        device: where, in which precision, compiled or not.
    """
    objective, seen = classify(), _compiled(network, device)

    def work() -> None:
        with device.autocast():
            outcome = objective(seen, x, targets)
        device.backward(outcome.loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return work


def _answering(network: nn.Module, x: Tensor, device: Device) -> Work:
    """Return the work of one batch in evaluation."""
    seen = _compiled(network, device)

    def work() -> None:
        with torch.inference_mode(), device.autocast():
            seen(x)

    return work


def _compiled(network: nn.Module, device: Device) -> nn.Module:
    """Compile where the benchmark compiles; for this work alone, so that what was compiled before decides nothing."""
    if device.compiled:
        torch.compiler.reset()
    return device.compile(network)


def _noise(protocol: Protocol, device: Device) -> tuple[Tensor, Tensor]:
    """Return pictures [b 3 h w], channels last, and targets [b classes] that have nothing to do with each other."""
    draw, num = torch.Generator().manual_seed(0), protocol.batch_size
    x = torch.randn(num, *protocol.image_shape, generator=draw)
    labels = torch.randint(protocol.num_classes, (num,), generator=draw)
    targets = torch.nn.functional.one_hot(labels, protocol.num_classes).to(torch.float32)
    return x.to(device.kind).to(memory_format=torch.channels_last), targets.to(device.kind)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _state(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]


def peak_width(kind: torch.device) -> int:
    """Return how wide the square matrices are whose product shows what a device can do."""
    return PEAK_WIDTHS.get(kind.type, min(PEAK_WIDTHS.values()))


def peak_macs_per_s(device: Device, *, seconds: float, clock: Clock = time.perf_counter) -> float:
    """Measure the multiply-adds a second of a large matrix product in the run's precision: the fastest repeat.

    Args:
        device: where.
        seconds: how long that takes, about.
        clock: tells the seconds.
    """
    width, kind = peak_width(device.kind), device.kind
    dtype = torch.bfloat16 if device.precision == "bf16" else torch.float32
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(width, width, generator=draw).to(kind, dtype) for _ in range(2))
    out = torch.empty_like(a)
    with _as_convolutions(kind):
        timing = timed(lambda: torch.mm(a, b, out=out), seconds=seconds, repeats=LOOKS, wait=waiter(kind), clock=clock)
    return float(width**3 / min(timing.steps_s))


@contextmanager
def _as_convolutions(kind: torch.device) -> Iterator[None]:
    """Multiply float32 matrices on a GPU as cuDNN convolves: it may use TF32 there, which is many times as fast."""
    before = torch.get_float32_matmul_precision()
    if kind.type == "cuda" and torch.backends.cudnn.allow_tf32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
