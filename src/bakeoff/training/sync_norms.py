"""Batch norm over the whole batch, where its images are shared out among ranks.

A network that is trained on several ranks is then the one that is trained on one. torch has it for GPUs alone; this one
also runs on the CPU.

Source: Ioffe and Szegedy, "Batch Normalization", 2015, algorithm 1, over the images of all ranks.
        https://arxiv.org/abs/1502.03167
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bakeoff.models.norms import BatchNorm2d


class _Gather(torch.autograd.Function):
    """What each rank has, to all of them; a gradient goes back to where its tensor came from."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:  # noqa: ANN401 - torch's
        found = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(found, own.contiguous())
        return torch.stack(found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401 - torch's
        whole = gradients[0].contiguous()
        dist.all_reduce(whole)
        return whole[dist.get_rank()]


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Normalise each channel by the mean and variance of all images of the batch, on whatever rank they are."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x [b c h w] to the same shape; in evaluation, and without numbers, as batch norm does."""
        if not self.training or x.is_meta:
            return super().forward(x)
        values = x.float()  # sums of many
        var, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
        means, variances = _Gather.apply(torch.stack([mean, var])).unbind(1)
        mean = means.mean(0)
        var = variances.mean(0) + (means - mean).square().mean(0)  # all ranks have as many images
        self._remember(mean.detach(), var.detach(), num=len(means) * values.numel() // len(mean))
        scale = torch.rsqrt(var + self.eps) * (self.weight if self.affine else 1.0)
        shift = (self.bias if self.affine else 0.0) - mean * scale
        return torch.addcmul(shift[:, None, None], values, scale[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor, *, num: int) -> None:
        """Follow the statistics for evaluation, as batch norm does."""
        if not self.track_running_stats:
            return
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var * num / max(num - 1, 1), share)


def synchronise(network: nn.Module) -> None:
    """Have every batch norm of a network look at the whole batch; names and weights stay as they are."""
    for module in network.modules():
        if type(module) in (nn.BatchNorm2d, BatchNorm2d):
            module.__class__ = SyncedBatchNorm2d
