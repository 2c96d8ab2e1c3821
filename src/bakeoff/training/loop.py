"""The loop: what happens between two optimizer steps, and nothing else.

Everything a run needs is handed in. The loop does not evaluate, save, print or know a recipe; it
yields after each optimizer step, and its caller decides. Within an epoch nothing waits for the device.
What the host decides of a step (rates, how far the average moves) comes before what the device does, which is one
function of the batch, `step`: so it can be recorded once as a CUDA graph, and played again (`graph`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from bakeoff.data.batches import Batches
from bakeoff.objectives import Objective
from bakeoff.objectives.outcome import adapter
from bakeoff.optim import set_lr
from bakeoff.optim.average import Average
from bakeoff.training.device import Device
from bakeoff.training.teacher import Teacher

# x [b c h w], targets [b classes], progress -> the mean loss and its terms' [1 + terms], on the device
Step = Callable[[Tensor, Tensor, float], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a run is made of.

    Args:
        model: as the loop calls it: on its device, compiled or not.
        objective: what is minimised; where it is a module, its own weights are trained beside the model's.
        teacher: what the objective learns from, if from anything.
        schedule: progress in [0, 1) -> multiplier of the learning rate.
        average: the running average of the weights, if there is one.
        total_steps: optimizer steps of the whole run.
        accumulate: into how many parts each batch is cut.
        clip_norm: largest norm of the gradient, if there is one.
        replay: takes a step in place of `step`, with the same effect; None: `step` itself.
    """

    model: nn.Module
    objective: Objective
    batches: Batches
    optimizer: torch.optim.Optimizer
    schedule: Callable[[float], float]
    average: Average | None
    device: Device
    total_steps: int
    accumulate: int
    clip_norm: float | None
    teacher: Teacher | None = None
    replay: Step | None = None

    @property
    def adapter(self) -> nn.Module | None:
        """The objective's own small modules, which are trained and then dropped; None where it has none."""
        return adapter(self.objective)

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of what the loss is the sum of; none where it is one thing."""
        return tuple(getattr(self.objective, "names", ()))

    @property
    def trained(self) -> list[nn.Parameter]:
        """All weights that the optimizer moves."""
        return [*self.model.parameters(), *(self.adapter.parameters() if self.adapter else ())]

    @property
    def statistics(self) -> list[Tensor]:
        """What batch norm keeps for evaluation: where each rank looks at its own images, it is not the same on all."""
        kept = ("running_mean", "running_var")
        modules = [self.model, *([self.adapter] if self.adapter else [])]
        return [values for module in modules for name, values in module.named_buffers() if name.endswith(kept)]


@dataclass(slots=True)
class Position:
    """Where a run stands: `step` optimizer steps are done, `losses` are those of this epoch.

    Args:
        losses: float32 [steps_per_epoch] on the device; each step writes its own place.
        terms: float32 [steps_per_epoch terms], of what each loss is the sum.
    """

    epoch: int
    step: int
    losses: Tensor
    terms: Tensor

    @classmethod
    def at_start(cls, parts: Parts) -> "Position":
        """Return the position before the first step."""
        steps, device = parts.batches.steps_per_epoch, parts.device.kind
        losses, terms = torch.zeros(steps, device=device), torch.zeros(steps, len(parts.terms), device=device)
        return cls(epoch=0, step=0, losses=losses, terms=terms)

    @property
    def step_in_epoch(self) -> int:
        """Optimizer steps done in this epoch."""
        return self.step - self.epoch * len(self.losses)


def epoch(parts: Parts, position: Position) -> Iterator[None]:
    """Train from `position` to the end of its epoch, yielding after each optimizer step."""
    parts.model.train()
    take = parts.replay or partial(step, parts)
    for batch in parts.batches.epoch(position.epoch, first_step=position.step_in_epoch):
        progress = position.step / parts.total_steps
        set_lr(parts.optimizer, parts.schedule(progress))
        if parts.average is not None:
            parts.average.advance()
        found = take(batch.x, batch.targets, progress)
        position.losses[position.step_in_epoch] = found[0]
        position.terms[position.step_in_epoch] = found[1:]
        position.step += 1
        yield


def step(parts: Parts, x: Tensor, targets: Tensor, progress: float) -> Tensor:
    """Take one optimizer step on a batch; return its mean loss and its terms' [1 + terms], on the device.

    All of it happens on the device: nothing is read there, or brought there.
    """
    found = _gradients(parts, x, targets, progress=progress)
    if parts.device.ranks.size > 1:
        gradients = [weight.grad for weight in parts.trained if weight.grad is not None]
        parts.device.ranks.mean([found, *gradients, *parts.statistics])
    if parts.clip_norm is not None:
        nn.utils.clip_grad_norm_(parts.trained, parts.clip_norm)
    parts.optimizer.step()
    parts.optimizer.zero_grad(set_to_none=True)
    if parts.average is not None:
        parts.average.follow(parts.model)
    return found


def _gradients(parts: Parts, x: Tensor, targets: Tensor, *, progress: float) -> Tensor:
    """Add the gradients of one batch, part by part; return its mean loss and its terms' [1 + terms], on the device.

    On several ranks, of this one's share of the batch.
    """
    found = []
    for part, own in zip(x.chunk(parts.accumulate), targets.chunk(parts.accumulate), strict=True):
        with parts.device.autocast():
            outcome = parts.objective(parts.model, part, own, progress=progress)
        parts.device.backward(outcome.loss if parts.accumulate == 1 else outcome.loss / parts.accumulate)
        found.append(torch.stack([outcome.loss.detach(), *outcome.terms.values()]))
    return found[0] if parts.accumulate == 1 else torch.stack(found).mean(0)
