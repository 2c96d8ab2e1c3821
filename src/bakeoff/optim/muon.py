"""Muon: momentum, orthogonalised by Newton-Schulz, for filters and matrices; SGD or AdamW for the rest.

Paper:   Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
         https://kellerjordan.github.io/posts/muon/
Follows: the post; filters are taken as matrices [out, in * height * width].
Differs: the first convolution is among them, where the post leaves input layers out, as its own CIFAR-10
         record does not; matrices of one shape are orthogonalised together, for speed; decoupled weight
         decay and the factor sqrt(max(1, rows / columns)) on the learning rate, as torch.optim.Muon has
         them. The iteration runs in bfloat16 everywhere, as in the post: its result is only roughly
         orthogonal in any precision, and on a CPU with AMX bfloat16 is four times as fast as float32.
         With `unit_filters` each filter is brought to a norm of the root of its rows before it is moved, as in the
         post's CIFAR-10 record: before a batch norm only its direction counts, and the rate then is an angle.
Checked: bit for bit against torch.optim.Muon on matrices, torch.optim.SGD and AdamW on the rest.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.optimizer import Optimizer
from torch.optim.sgd import sgd

# The quintic a x + b x^3 + c x^5: as steep at zero as it can be while singular values stay near one.
A, B, C = 3.4445, -4.7750, 2.0315
NUM_ITERATIONS = 5
LARGE = 256  # rows from which it pays to iterate on the smaller of a matrix's two products with itself


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring the singular values of each matrix [n r c] near one (0.7 to 1.2), in bfloat16.

    Source: Jordan et al. 2024, "Newton-Schulz".
    """
    if len(matrices) == 1:
        return _orthogonalise_one(matrices[0])[None]
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.to(torch.bfloat16, copy=True)
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # no singular value above one
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x.mT if tall else x


def _orthogonalise_one(matrix: Tensor) -> Tensor:
    """Do the same to one matrix [r c]; its product with itself is twice as fast on a CPU when called a linear layer."""
    tall = matrix.size(0) > matrix.size(1)
    x = matrix.to(torch.bfloat16, copy=True)
    x = x.mT.contiguous() if tall else x
    x = x / x.norm().clamp(min=1e-7)
    is_large = x.size(0) >= LARGE and x.size(1) >= 2 * x.size(0)
    x = _through_grams(x) if is_large else _directly(x)
    return x.mT if tall else x


def _directly(x: Tensor) -> Tensor:
    for _ in range(NUM_ITERATIONS):
        gram = F.linear(x, x)
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x


def _through_grams(x: Tensor) -> Tensor:
    """Iterate on the small matrix x x' [r r] instead, of which each step is a polynomial; x [r c] is met twice only.

    After three steps that matrix is computed anew, or the small singular values would drown in bfloat16's rounding:
    so the result is as near to the exact one as by the direct way.
    """
    for num_steps in (3, NUM_ITERATIONS - 3):
        gram, product = F.linear(x, x), None
        for i in range(num_steps):
            step = torch.addmm(gram, gram, gram, beta=B, alpha=C)
            step.diagonal().add_(A)
            product = step if product is None else step @ product
            gram = step @ gram @ step if i < num_steps - 1 else gram
        assert product is not None
        x = product @ x
    return x


def hidden_weights(model: nn.Module) -> set[str]:
    """Name the weights that Muon is for: of convolutions and linear layers, but for the last linear layer.

    The last linear layer is the classifier, whose rows are classes: the post leaves it to another optimizer.
    """
    kinds = (nn.Conv1d, nn.Conv2d, nn.Linear)
    names = [(f"{name}.weight", module) for name, module in model.named_modules() if isinstance(module, kinds)]
    linear = [name for name, module in names if isinstance(module, nn.Linear)]
    return {name for name, _ in names} - set(linear[-1:])


class Muon(Optimizer):
    """Muon, SGD and AdamW in one optimizer with one state, group by group.

    Args:
        groups: parameter groups, complete; each names its `algorithm`. "muon": lr, weight_decay, momentum,
            nesterov, unit_filters; "sgd": lr, weight_decay, momentum, nesterov; "adamw": lr, weight_decay, betas, eps.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {})

    # torch declares `step` twice, with and without a closure; ours has one form and takes none.
    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                STEPS[group["algorithm"]](self.state, group, params)


def _gradients(params: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in params if p.grad is not None]


def _buffers(state: dict[Tensor, Any], params: list[Tensor], key: str) -> list[Tensor]:
    """Return each parameter's tensor of this name in the state, zeros at first."""
    for p in params:
        state[p].setdefault(key, torch.zeros_like(p))
    return [state[p][key] for p in params]


def _muon_step(state: dict[Tensor, Any], group: dict[str, Any], params: list[Tensor]) -> None:
    gradients, momenta = _gradients(params), _buffers(state, params, "momentum_buffer")
    torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
    updates = torch._foreach_lerp(gradients, momenta, group["momentum"]) if group["nesterov"] else momenta
    same_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    for p, update in zip(params, updates, strict=True):
        same_shape[p.shape].append((p, update.flatten(1)))
    for (rows, *_), pairs in same_shape.items():
        columns = pairs[0][1].size(1)
        scale = 1.0 if group.get("unit_filters", False) else max(1.0, rows / columns) ** 0.5
        orthogonal = orthogonalise(torch.stack([update for _, update in pairs]))
        for (p, _), direction in zip(pairs, orthogonal, strict=True):
            if group.get("unit_filters", False):
                p.mul_(rows**0.5 / p.norm())
            else:
                p.mul_(1 - group["lr"] * group["weight_decay"])
            _descend(p, direction.reshape(p.shape), rate=group["lr"] * scale)


def _descend(p: Tensor, direction: Tensor, *, rate: float | Tensor) -> None:
    """Move a weight; a rate that is a tensor [] is not read, so that nothing waits for the device."""
    if isinstance(rate, Tensor):
        p.addcmul_(direction.to(p.dtype), rate, value=-1)
    else:
        p.add_(direction, alpha=-rate)


def _fused(params: list[Tensor]) -> bool | None:
    """Ask on a GPU for the one-kernel update, which reads rate and count where they are; None leaves it to torch."""
    return True if params[0].is_cuda else None


def _counts(state: dict[Tensor, Any], params: list[Tensor]) -> list[Tensor]:
    """Return how many steps AdamW has made, float32 [] each: on a GPU there, also after a checkpoint was loaded."""
    for p in params:
        place = p.device if p.is_cuda else torch.device("cpu")
        state[p]["step"] = state[p].get("step", torch.tensor(0.0)).to(place)
    return [state[p]["step"] for p in params]


def _sgd_step(state: dict[Tensor, Any], group: dict[str, Any], params: list[Tensor]) -> None:
    momenta: list[Tensor | None] = [state[p].get("momentum_buffer") for p in params]
    sgd(
        params,
        _gradients(params),
        momenta,
        fused=_fused(params),
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        lr=group["lr"],
        dampening=0.0,
        nesterov=group["nesterov"],
        maximize=False,
    )
    for p, momentum in zip(params, momenta, strict=True):
        state[p]["momentum_buffer"] = momentum


def _adamw_step(state: dict[Tensor, Any], group: dict[str, Any], params: list[Tensor]) -> None:
    beta1, beta2 = group["betas"]
    adamw(
        params,
        _gradients(params),
        _buffers(state, params, "exp_avg"),
        _buffers(state, params, "exp_avg_sq"),
        [],
        _counts(state, params),
        fused=_fused(params),
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )


STEPS: dict[str, Callable[[dict[Tensor, Any], dict[str, Any], list[Tensor]], None]] = {
    "muon": _muon_step,
    "sgd": _sgd_step,
    "adamw": _adamw_step,
}
