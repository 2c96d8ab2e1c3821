"""The average of a network's weights over its last steps, which is usually better than the last weights.

Source: Polyak and Juditsky 1992; the form is torch's AveragedModel.
"""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from bakeoff.errors import RecipeError

Tensors = tuple[Tensor, ...] | list[Tensor]


def build(model: nn.Module, *, decay: float, warmup: bool = True) -> AveragedModel:
    """Follow a model by an exponential moving average of its weights and batch-norm statistics.

    Call `update_parameters(model)` after each step; evaluate `.module`. The first call copies the model, the
    call after t others keeps `decay` of the average, or (1 + t) / (10 + t) while that is less: without this
    warm-up the first weights would weigh on short runs.

    Args:
        model: on its device, in its precision; not wrapped by torch.compile.
        decay: in [0, 1), the share of the average that an update keeps.
        warmup: whether the decay starts low.

    Raises:
        RecipeError: a decay out of range.
    """
    if not 0 <= decay < 1:
        raise RecipeError("ema_decay", found=f"{decay}", expected="a fraction in [0, 1)")

    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, num_averaged: Tensor | int) -> None:
        if not averaged[0].is_floating_point():  # the count of batches that batch norm keeps
            torch._foreach_copy_(averaged, current)
            return
        # All on the device: reading the number here would make the host wait for it at each step.
        t = torch.as_tensor(num_averaged).to(averaged[0].dtype)
        share = (9 / (10 + t)).clamp(min=1 - decay) if warmup else torch.full_like(t, 1 - decay)
        change = torch._foreach_sub(current, averaged)
        torch._foreach_mul_(change, share)
        torch._foreach_add_(averaged, change)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return average.eval().requires_grad_(False)
