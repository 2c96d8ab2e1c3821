"""Optimizers by name, their weight-decay groups, and the one multiplier that moves their learning rates."""

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from bakeoff.errors import RecipeError, refuse_unknown
from bakeoff.optim.muon import Muon, hidden_weights

__all__ = ["OPTIMIZERS", "build", "decay_groups", "set_lr"]

Named = Iterable[tuple[str, nn.Parameter]]
Groups = list[dict[str, Any]]
Grouping = Callable[[Named], Groups]


def build(
    name: str,
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    decay_norms_and_biases: bool = False,
    **options: object,
) -> Optimizer:
    """Build an optimizer for a model that is already on its device.

    Args:
        name: one of `OPTIMIZERS`.
        model: its trainable parameters are optimized.
        lr: the peak learning rate, kept as `initial_lr` in each group; see `set_lr`.
        weight_decay: for filters and matrices; see `decay_groups`.
        decay_norms_and_biases: whether it also holds for norms, biases and layer scales.
        options: what the optimizer of this name takes.

    Raises:
        RecipeError: an unknown name or option, a value out of range.
    """
    refuse_unknown("optimizer", [name], OPTIMIZERS)
    function = OPTIMIZERS[name]
    refuse_unknown("optimizer", options, inspect.getfullargspec(function).kwonlydefaults or ())
    grouping = partial(decay_groups, weight_decay=weight_decay, decay_norms_and_biases=decay_norms_and_biases)
    try:
        optimizer = function(model, grouping, lr=lr, **options)
    except (ValueError, TypeError) as error:
        raise RecipeError("optimizer", found=str(error), expected=f"values that {name} can use") from error
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def set_lr(optimizer: Optimizer, multiplier: float) -> None:
    """Set every group's learning rate to its peak times the schedule's multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * multiplier


def decay_groups(parameters: Named, *, weight_decay: float, decay_norms_and_biases: bool) -> Groups:
    """Split trainable parameters into those that weight decay pulls to zero and those that it spares.

    Norms, biases and layer scales are spared: they have one dimension or "bias" for a name. Decaying a
    filter before a norm sets its effective learning rate; decaying a norm's scale only loses capacity.
    """
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, p in parameters:
        if p.requires_grad:
            spare = not decay_norms_and_biases and (p.ndim <= 1 or name.endswith("bias"))
            (spared if spare else decayed).append(p)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _sgd(model: nn.Module, grouping: Grouping, *, lr: float, momentum: float = 0.9, nesterov: bool = True) -> Optimizer:
    groups = grouping(model.named_parameters())
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=_fused(model))


def _adam(
    model: nn.Module,
    grouping: Grouping,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> Optimizer:
    groups = grouping(model.named_parameters())
    return torch.optim.Adam(groups, lr=lr, betas=(beta1, beta2), eps=eps, fused=_fused(model))


def _adamw(
    model: nn.Module,
    grouping: Grouping,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> Optimizer:
    groups = grouping(model.named_parameters())
    return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2), eps=eps, fused=_fused(model))


def _adagrad(model: nn.Module, grouping: Grouping, *, lr: float, eps: float = 1e-10) -> Optimizer:
    # Fused Adagrad exists for the CPU only.
    fused = True if _device(model) == "cpu" else None
    return torch.optim.Adagrad(grouping(model.named_parameters()), lr=lr, eps=eps, fused=fused)


def _rmsprop(
    model: nn.Module,
    grouping: Grouping,
    *,
    lr: float,
    alpha: float = 0.99,
    momentum: float = 0.0,
    eps: float = 1e-8,
) -> Optimizer:
    groups = grouping(model.named_parameters())
    return torch.optim.RMSprop(groups, lr=lr, alpha=alpha, momentum=momentum, eps=eps)


def _muon(
    model: nn.Module,
    grouping: Grouping,
    *,
    lr: float,
    momentum: float = 0.95,
    nesterov: bool = True,
    unit_filters: bool = False,
    rest: str = "adamw",
    rest_lr: float = 1e-3,
    rest_momentum: float = 0.9,
    bias_lr: float | None = None,
) -> Optimizer:
    rests: dict[str, dict[str, object]] = {
        "sgd": {"momentum": rest_momentum, "nesterov": True},
        "adamw": {"betas": (0.9, 0.999), "eps": 1e-8},
    }
    refuse_unknown("optimizer.rest", [rest], rests)
    for key, value in (("lr", lr), ("rest_lr", rest_lr), ("bias_lr", bias_lr)):
        if value is not None and not value >= 0:
            raise RecipeError(f"optimizer.{key}", found=f"{value}", expected="0 or more")
    for key, value in (("momentum", momentum), ("rest_momentum", rest_momentum)):
        if not 0 <= value < 1:
            raise RecipeError(f"optimizer.{key}", found=f"{value}", expected="0 or more, below 1")
    hidden = hidden_weights(model)
    muon = {"algorithm": "muon", "lr": lr, "momentum": momentum, "nesterov": nesterov, "unit_filters": unit_filters}
    other = {"algorithm": rest, "lr": rest_lr, **rests[rest]}
    biases = other if bias_lr is None else other | {"lr": bias_lr}
    named = list(model.named_parameters())
    groups = [g | muon for g in grouping((n, p) for n, p in named if n in hidden)]
    rest_groups = grouping((n, p) for n, p in named if n not in hidden)
    return Muon(groups + [g | (biases if g["params"][0].ndim <= 1 else other) for g in rest_groups])


def _device(model: nn.Module) -> str:
    return next((p.device.type for p in model.parameters()), "cpu")


def _fused(model: nn.Module) -> bool | None:
    """Ask for the one-kernel update where torch has it; None leaves the choice to torch."""
    return True if _device(model) in ("cpu", "cuda") else None


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "adagrad": _adagrad,
    "rmsprop": _rmsprop,
    "muon": _muon,
}
