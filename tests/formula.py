"""Weights and pictures out of integers alone: the same on every machine and in every version, from no generator."""

import torch
from torch import Tensor, nn


def numbers(shape: tuple[int, ...], *, salt: int) -> Tensor:
    """Make float64 numbers in [-1, 1)."""
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.int64) + 1000 * salt
    hashed = (i * i % 2_147_483_647 * 48_271 + i * 69_621) % 2_147_483_647
    return (hashed.double() / 2**30 - 1).reshape(shape)


def fill(network: nn.Module) -> None:
    """Give every tensor of the state values that matter, in the order of `state_dict`.

    Filters and matrices of He's size; scales and variances of norms away from one, biases, means and layer
    scales of one axis away from zero.
    """
    for salt, (key, value) in enumerate(network.state_dict().items()):
        if not value.is_floating_point():
            continue
        made = numbers(tuple(value.shape), salt=salt)
        if value.ndim > 1:
            made = made * (6 / value[0].numel()) ** 0.5
        elif key.endswith(("running_var", "weight")):
            made = 1 + made / 2
        else:
            made = made / 4
        value.copy_(made)
