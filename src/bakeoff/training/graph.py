"""A whole optimizer step as one CUDA graph: recorded once for each shape of batch, then played again.

A step of a small network is some two hundred kernels of a few microseconds each. To launch them one by one takes the
host longer than the device needs to compute them; a graph of all of them is launched at once.

The first steps of a shape are ordinary ones, on the stream of the recording: what torch sets up when it is first used
is set up there. Recording computes nothing. So every step that is taken is a step of the run, and nothing has to be
undone. What the host decides anew for each step (batch, rates, how far the average moves) lies in tensors that stay
where they are, and that a graph reads.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from bakeoff.recipe import Recipe
from bakeoff.training.device import Device
from bakeoff.training.loop import Parts, step

_log = logging.getLogger(__name__)

WARM_UP: Final = 2  # ordinary steps of a shape: the first sets up optimizer and kernels, the second finds all in place
# Their updates read rate and count on the device; those of the others would be frozen as they were when recorded.
SUITED: Final = frozenset({"sgd", "adam", "adamw", "muon"})

Work = Callable[[], Tensor]


def unsuited(recipe: Recipe, device: Device) -> str:
    """Return why the steps of a run cannot be graphs, or an empty string."""
    reasons = {
        f"it computes on {device.kind.type}, and not on a CUDA device": device.kind.type != "cuda",
        "it has several ranks, which exchange messages within a step": device.ranks.size > 1,
        "it learns from a teacher, whose terms change over the run": recipe.teacher is not None,
        f"the rates of {recipe.optimizer.name} are the host's": recipe.optimizer.name not in SUITED,
        # Whatever somebody's code does on the host would be done for the first steps alone.
        "its network is not of the catalogue": recipe.cuda_graph == "auto" and ":" in recipe.model.name,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


class Recorder(Protocol):
    """What records the work that is launched, and plays it again."""

    def aside(self, work: Work) -> Tensor:
        """Do work where it would be recorded; return what it gives."""
        ...

    def record(self, work: Work) -> Work:
        """Record work without doing it; return what plays it, and gives each time the same tensor, filled anew."""
        ...


class CudaRecorder:
    """Records CUDA graphs on a stream of its own; they share one pool of memory, since one is played at a time.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def aside(self, work: Work) -> Tensor:
        """Do work on the stream of the recordings, after what was launched before and before what comes after."""
        here = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            found = work()
        here.wait_stream(self._stream)
        return found

    def record(self, work: Work) -> Work:
        """Record a graph. Another thread, which reads pictures ahead, may pin memory meanwhile."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            found = work()

        def play() -> Tensor:
            graph.replay()
            return found

        return play


@dataclass(kw_only=True, slots=True)
class _Shape:
    """What stands for batches of one shape.

    Args:
        x: [b c h w], where each batch is copied to.
        targets: [b classes], likewise.
        warm: ordinary steps that were taken.
        play: takes a step on what lies in x and targets, once there is a recording.
    """

    x: Tensor
    targets: Tensor
    warm: int = 0
    play: Work | None = None


class Replay:
    """Takes the loop's `step`: as it is at first, from a recording later.

    Args:
        parts: of the run. Weights, averages and statistics have to stay in the tensors that they are in.
        recorder: what records a step.
    """

    def __init__(self, parts: Parts, recorder: Recorder) -> None:
        self._parts, self._recorder = parts, recorder
        groups = parts.optimizer.param_groups
        self._rates = list(torch.zeros(len(groups), device=parts.device.kind).unbind())
        self._shapes: dict[torch.Size, _Shape] = {}
        # A state that is loaded lies elsewhere than the one that was recorded.
        parts.optimizer.register_load_state_dict_post_hook(lambda _: self._shapes.clear())

    def __call__(self, x: Tensor, targets: Tensor, progress: float) -> Tensor:
        """Take one optimizer step.

        Args:
            x: [b c h w].
            targets: [b classes].
            progress: the share of the run that is done, in [0, 1); no part of a recording, so the objective must not
                depend on it.

        Returns:
            The mean loss and its terms', [1 + terms], valid until the next step.
        """
        for rate, group in zip(self._rates, self._parts.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        shape = self._shapes.get(x.shape)
        if shape is None:
            shape = self._shapes[x.shape] = _Shape(x=torch.empty_like(x), targets=torch.empty_like(targets))
        shape.x.copy_(x)
        shape.targets.copy_(targets)
        work = partial(self._step, shape, progress)
        if shape.warm < WARM_UP:
            shape.warm += 1
            return self._recorder.aside(work)
        if shape.play is None:
            shape.play = self._recorded(work)
        return shape.play()

    def _step(self, shape: _Shape, progress: float) -> Tensor:
        with self._rates_on_device():
            return step(self._parts, shape.x, shape.targets, progress)

    def _recorded(self, work: Work) -> Work:
        try:
            return self._recorder.record(work)
        except Exception as error:  # too little memory, or whatever a network does that cannot be recorded
            self._parts.optimizer.zero_grad(set_to_none=True)
            told = " ".join(str(error).split())[:200]
            _log.warning("The step is launched kernel by kernel: it cannot be recorded (%s).", told)
            return partial(self._recorder.aside, work)

    @contextmanager
    def _rates_on_device(self) -> Iterator[None]:
        """Let the optimizer read its rates on the device; outside they are numbers, as in a checkpoint."""
        groups = self._parts.optimizer.param_groups
        kept: list[dict[str, Any]] = [{key: g[key] for key in ("lr", "capturable") if key in g} for g in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            # Adam asks for the word where it is recorded; its one-kernel update is the same with it and without.
            group.update({"lr": rate} | ({"capturable": True} if "capturable" in group else {}))
        try:
            yield
        finally:
            for group, before in zip(groups, kept, strict=True):
                group.update(before)


def replaying(parts: Parts) -> Parts:
    """Return the parts with graphs for steps where the run is to have them, else as they are."""
    if not parts.device.graphed:
        return parts
    return replace(parts, replay=Replay(parts, CudaRecorder(parts.device.kind)))
