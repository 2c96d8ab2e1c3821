"""The average of a network's weights over its last steps, which is usually better than the last weights.

Source: Polyak and Juditsky 1992; the form is torch's AveragedModel.
"""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from bakeoff.errors import RecipeError


class Average(AveragedModel):
    """An exponential moving average of a network's weights and batch-norm statistics; see `build`.

    An update has two halves. `advance` is the host's: it counts, and says how far the average moves. `follow` is the
    device's: it moves it, waits for nothing and decides nothing, so that it can be part of a CUDA graph.
    """

    def __init__(self, model: nn.Module, *, decay: float, warmup: bool) -> None:
        super().__init__(model, use_buffers=True)
        self._decay, self._warmup = decay, warmup
        self._is_first = True
        floats = [values for values in self._tensors(self.module) if values.is_floating_point()]
        # Where the weights are: an average that reads a number of the host's waits for the device at each step.
        self._share = torch.ones((), dtype=floats[0].dtype, device=floats[0].device)

    def advance(self) -> None:
        """Count an update, and set how far it moves the average."""
        self._is_first = int(self.n_averaged) == 0
        t = self.n_averaged.to(self._share.dtype)
        share = (9 / (10 + t)).clamp(min=1 - self._decay) if self._warmup else torch.full_like(t, 1 - self._decay)
        self._share.fill_(float(share))
        self.n_averaged += 1

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Move the average towards a model as far as `advance` said: all the way at first."""
        pairs = list(zip(self._tensors(self.module), self._tensors(model), strict=True))
        # What batch norm counts is no number to be averaged.
        copied = [pair for pair in pairs if self._is_first or not pair[0].is_floating_point()]
        moved = [pair for pair in pairs if not self._is_first and pair[0].is_floating_point()]
        if copied:
            torch._foreach_copy_([own for own, _ in copied], [other for _, other in copied])
        if moved:
            averaged, current = [own for own, _ in moved], [other for _, other in moved]
            change = torch._foreach_sub(current, averaged)
            torch._foreach_mul_(change, self._share)
            torch._foreach_add_(averaged, change)

    def update_parameters(self, model: nn.Module) -> None:
        """Do both halves."""
        self.advance()
        self.follow(model)

    @staticmethod
    def _tensors(module: nn.Module) -> list[Tensor]:
        return [values.detach() for values in (*module.parameters(), *module.buffers())]


def build(model: nn.Module, *, decay: float, warmup: bool = True) -> Average:
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
    average = Average(model, decay=decay, warmup=warmup)
    return average.eval().requires_grad_(False)
