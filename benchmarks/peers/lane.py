"""A contestant in a process of its own, that works when it is asked to and waits otherwise."""

import copy
import importlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bakeoff.models import native
from benchmarks import shortest
from benchmarks.peers.task import (
    MODULES,
    MOMENTUM,
    OURS,
    SEED,
    WAYS,
    Library,
    Stopwatch,
    Stored,
    Task,
    Way,
    network,
    stored,
)
from benchmarks.rounds import Segment, timed

LONGEST_S = 1800.0  # that an answer may take


class PeerFailed(Exception):
    """A contestant raised, or died; the message says how."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """Which contestant, set how, with what.

    Args:
        peer: one of `MODULES`.
        way: one of `CLASSES`.
        model: name of the network.
        batch_size: pictures a training step.
        threads: of torch.
        folder: where the pictures are.
        part: of them to train on.
        log: what its bars and logs go to.
        bf16: whether bakeoff computes in it; None: where the processor has it, which is its default.
    """

    peer: str
    way: str
    model: str
    batch_size: int
    threads: int
    folder: Path
    log: Path
    part: str = "train"
    bf16: bool | None = None


def way_of(spec: Spec) -> Way:
    """Return how the contestant is set: bakeoff is the same in all classes."""
    if spec.peer != OURS:
        return WAYS[spec.way]
    from bakeoff.training.device import gains_from_bf16  # peers load nothing of bakeoff but its networks

    return replace(WAYS["same"], bf16=gains_from_bf16(torch.device("cpu")) if spec.bf16 is None else spec.bf16)


def nudge(net: nn.Module) -> None:
    """Move each weight by about one rounding of float32, up or down."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for weights in net.parameters():
            up_or_down = 2 * torch.randint(0, 2, weights.shape, generator=generator) - 1
            weights.mul_(1 + torch.finfo(torch.float32).eps * up_or_down)


class Lane:
    """The contestant, in its process."""

    def __init__(self, spec: Spec) -> None:
        torch.set_num_threads(spec.threads)
        self.spec, self.way = spec, way_of(spec)
        self.library: Library = importlib.import_module(f"benchmarks.peers.{MODULES[spec.peer]}")  # type: ignore[assignment]
        self.pristine = network(spec.model)
        self.images = stored(spec.folder, spec.part, mapped=spec.peer == OURS)
        self._raw: Callable[[], Any] | None = None

    def _task(self, folder: str, images: Stored, **options: Any) -> Task:  # noqa: ANN401 - handed on
        task = Task(
            model=self.spec.model,
            net=copy.deepcopy(self.pristine),
            images=images,
            folder=Path(folder),
            threads=self.spec.threads,
            **{"batch_size": self.spec.batch_size, "way": self.way, **options},
        )
        if self.spec.peer != OURS:  # which has a network of its own
            task.net.register_forward_pre_hook(task.watch.note)
        return task

    def _trained(self, *, nudged: bool = False, **options: Any) -> tuple[Stopwatch, float]:  # noqa: ANN401 - handed on
        with tempfile.TemporaryDirectory(dir=self.spec.folder) as folder:
            task = self._task(folder, self.images, **options)
            if nudged:
                nudge(task.net)
            began = time.perf_counter()
            self.library.train(task)
        assert len(task.watch.times) == task.steps, (len(task.watch.times), task.steps)
        return task.watch, began

    def losses(
        self, *, order: NDArray[np.int64], batch_size: int, momentum: float = MOMENTUM, nudged: bool = False
    ) -> list[float]:
        """Return the losses of pictures in this order, not augmented, in bakeoff's layout.

        Nudged, each weight begins one rounding beside its value: what the steps of a fresh network make of that is
        what they make of all that rounds otherwise (resnet18: 0.2 % in 20 steps of 32).
        """
        found: list[Tensor] = []
        options = {"steps": len(order) // batch_size, "momentum": momentum, "losses": found}
        way = replace(self.way, channels_last=True, quiet=True)
        self._trained(nudged=nudged, order=order, batch_size=batch_size, way=way, **options)
        return [float(loss) for loss in found]

    def train(self, *, steps: int, workers: int = 0) -> float:
        """Return the seconds of a step, after the first ones, in which memory and queues fill."""
        first = 2 + 2 * workers
        watch, _ = self._trained(steps=first + steps + 1, workers=workers)
        return watch.seconds_a_step(first)

    def until_first_step(self) -> float:
        """Return the seconds from the call of `train` until the network first sees a batch."""
        watch, began = self._trained(steps=3)
        return watch.times[0] - began

    def raw(self, *, steps: int) -> float:
        """Return the seconds of a step of the shortest kind."""
        if self._raw is None:
            if self.spec.peer == OURS:
                self.train(steps=1)  # which sets the process up as a run does
            self._raw = self._make_raw()
        work = self._raw
        return timed(lambda: [work() for _ in range(steps)]) / steps

    def _make_raw(self) -> Callable[[], Any]:
        task = self._task("", self.images)
        net = task.net.to(memory_format=task.memory_format).train()
        x, labels = self._batch(self.images, task.batch_size)
        optimizer = task.sgd(net)
        work = lambda: shortest.training_step(net, optimizer, x, labels, half=self.way.bf16)  # noqa: E731
        work()
        return work

    def _batch(self, images: Stored, num: int) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(images.pixels[:num].copy()).permute(0, 3, 1, 2)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (images.mean, images.std))
        x = (pixels / 255.0 - mean) / std
        layout = torch.channels_last if self.way.channels_last else torch.contiguous_format
        return x.contiguous(memory_format=layout), torch.from_numpy(images.labels[:num].copy())

    def evaluate(self, *, num: int) -> tuple[float, float]:
        """Return the seconds of a picture, and top-1, of the first pictures of the test part."""
        everything = stored(self.spec.folder, "test", mapped=self.spec.peer == OURS)
        images = Stored(everything.pixels[:num], everything.labels[:num], everything.mean, everything.std)
        with tempfile.TemporaryDirectory(dir=self.spec.folder) as folder:
            task = self._task(folder, images)
            top1 = self.library.evaluate(task)
        assert sum(task.watch.images) == num, (sum(task.watch.images), num)
        return task.watch.seconds_an_image(), top1

    def raw_evaluation(self, *, num: int) -> float:
        """Return the seconds of a picture of the shortest evaluation."""
        net = copy.deepcopy(self.pristine).eval()
        net = net.to(memory_format=torch.channels_last if self.way.channels_last else torch.contiguous_format)
        size = min(num, self.way.eval_batch)
        x, _ = self._batch(self.images, size)
        shortest.logits_of(net, x, half=self.way.bf16)
        times = max(1, num // size)
        return timed(lambda: [shortest.logits_of(net, x, half=self.way.bf16) for _ in range(times)]) / (times * size)

    def turn(self, *, steps: int, workers: int = 0, raw_steps: int | None = None) -> Segment:
        """Return a turn of training."""
        before = self.raw(steps=raw_steps or steps)
        seconds, after = self.train(steps=steps, workers=workers), self.raw(steps=raw_steps or steps)
        return Segment(before=before, seconds=seconds, after=after)

    def evaluation_turn(self, *, num: int) -> Segment:
        """Return a turn of evaluation; a step is a picture."""
        before = self.raw_evaluation(num=num)
        (seconds, _), after = self.evaluate(num=num), self.raw_evaluation(num=num)
        return Segment(before=before, seconds=seconds, after=after)

    def peak_gb(self) -> float:
        """Return the largest resident set of this process until now."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _serve(pipe: Connection, spec: Spec) -> None:
    log = os.open(spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    if spec.peer != OURS:
        os.environ[native.SWITCH] = "off"
    lane: Lane | None = None
    while True:
        try:
            verb, options = pipe.recv()
        except EOFError:  # the command was killed
            return
        if verb == "end":
            return
        try:
            lane = lane or Lane(spec)
            pipe.send((True, getattr(lane, verb)(**options)))
        except Exception as error:  # whatever a library raises: the others go on
            traceback.print_exc()
            pipe.send((False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))


class Remote:
    """The contestant, as the command sees it: `ask` calls a method of its `Lane`."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, spec))
        self._process.start()
        theirs.close()

    def ask(self, verb: str, **options: Any) -> Any:  # noqa: ANN401 - whatever the method takes and gives
        """Call a method there.

        Raises:
            PeerFailed: it raised, died or took too long.
        """
        try:
            self._pipe.send((verb, options))
            if not self._pipe.poll(LONGEST_S):
                raise PeerFailed(f"no answer in {LONGEST_S:.0f} s")
            worked, answer = self._pipe.recv()
        except (EOFError, BrokenPipeError):
            raise PeerFailed("its process died") from None
        if not worked:
            raise PeerFailed(answer)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, of: TracebackType | None) -> None:
        try:
            self._pipe.send(("end", {}))
            self._process.join(20)
        except OSError:
            pass
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
