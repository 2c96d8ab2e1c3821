"""The shortest steps one can write: one batch in memory, forwards, and backwards when training."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def training_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, targets: Tensor, *, half: bool
) -> Tensor:
    """Take one training step on the CPU, the forward pass in bf16 where `half`; return the loss."""
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = model(x)
    loss = F.cross_entropy(logits.float(), targets)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def logits_of(model: nn.Module, x: Tensor, *, half: bool) -> Tensor:
    """Return the logits of a batch on the CPU."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits: Tensor = model(x).float()
    return logits
