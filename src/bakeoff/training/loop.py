"""The loop: what happens between two optimizer steps, and nothing else.

Everything a run needs is handed in. The loop does not evaluate, save, print or know a recipe; it
yields after each optimizer step, and its caller decides. Within an epoch nothing waits for the device.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from bakeoff.data.batches import Batch, Batches
from bakeoff.objectives import Objective
from bakeoff.optim import set_lr
from bakeoff.training.device import Device


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a run is made of.

    Args:
        model: as the loop calls it: on its device, compiled or not.
        schedule: progress in [0, 1) -> multiplier of the learning rate.
        average: the running average of the weights, if there is one.
        total_steps: optimizer steps of the whole run.
        accumulate: into how many parts each batch is cut.
        clip_norm: largest norm of the gradient, if there is one.
    """

    model: nn.Module
    objective: Objective
    batches: Batches
    optimizer: torch.optim.Optimizer
    schedule: Callable[[float], float]
    average: AveragedModel | None
    device: Device
    total_steps: int
    accumulate: int
    clip_norm: float | None


@dataclass(slots=True)
class Position:
    """Where a run stands: `step` optimizer steps are done, `losses` are those of this epoch.

    Args:
        losses: float32 [steps_per_epoch] on the device; each step writes its own place.
    """

    epoch: int
    step: int
    losses: Tensor

    @property
    def step_in_epoch(self) -> int:
        """Optimizer steps done in this epoch."""
        return self.step - self.epoch * len(self.losses)


def epoch(parts: Parts, position: Position) -> Iterator[None]:
    """Train from `position` to the end of its epoch, yielding after each optimizer step."""
    parts.model.train()
    for batch in parts.batches.epoch(position.epoch, first_step=position.step_in_epoch):
        set_lr(parts.optimizer, parts.schedule(position.step / parts.total_steps))
        position.losses[position.step_in_epoch] = _gradients(parts, batch)
        if parts.clip_norm is not None:
            nn.utils.clip_grad_norm_(parts.model.parameters(), parts.clip_norm)
        parts.optimizer.step()
        parts.optimizer.zero_grad(set_to_none=True)
        if parts.average is not None:
            parts.average.update_parameters(parts.model)
        position.step += 1
        yield


def _gradients(parts: Parts, batch: Batch) -> Tensor:
    """Add the gradients of one batch, part by part, and return its mean loss, still on the device."""
    losses = []
    for x, targets in zip(batch.x.chunk(parts.accumulate), batch.targets.chunk(parts.accumulate), strict=True):
        with parts.device.autocast():
            loss = parts.objective(parts.model, x, targets).loss
        parts.device.backward(loss if parts.accumulate == 1 else loss / parts.accumulate)
        losses.append(loss.detach())
    return losses[0] if parts.accumulate == 1 else torch.stack(losses).mean()
