"""How a network of ours and somebody else's are compared: same weights, same pictures, forwards and backwards.

Everything is float64, weights and pictures are made by formula (tests/formula.py), evaluating and training, on a
picture whose last map is larger than one pixel. What is compared: logits, the gradient of every parameter, and the
statistics that a training step leaves behind. A difference is relative to the largest value of what is compared.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.formula import fill, numbers

TOLERANCE = 1e-9
GOLDEN = Path(__file__).parents[1] / "golden" / "official"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a network did with one batch; gradients and buffers by name."""

    logits: Tensor
    gradients: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]


def answer(network: nn.Module, *, shape: tuple[int, int, int], training: bool) -> Answer:
    """Run two pictures [c h w] forwards and backwards; the network's state is its own afterwards."""
    network.train(training)
    network.zero_grad(set_to_none=True)
    kept = {key: value.clone() for key, value in network.named_buffers()}
    logits = network(numbers((2, *shape), salt=7))
    # A loss that weighs every logit differently, none of them by zero.
    (logits * (1.5 + numbers(tuple(logits.shape), salt=11))).sum().backward()
    buffers = {key: value.clone() for key, value in network.named_buffers() if value.is_floating_point()}
    for key, value in network.named_buffers():
        value.copy_(kept[key])
    gradients = {key: torch.zeros_like(p) if p.grad is None else p.grad for key, p in network.named_parameters()}
    return Answer(logits=logits.detach(), gradients=gradients, buffers=buffers)


def apart(ours: Tensor, theirs: Tensor, *, floor: float = 0.0) -> float:
    """Return the largest difference, relative to the largest value of theirs or to `floor`."""
    assert ours.numel() == theirs.numel()
    assert ours.isfinite().all()  # the largest of some numbers and NaN may be a number
    assert theirs.isfinite().all()
    scale = max(theirs.abs().max().item(), floor)
    return (ours.flatten() - theirs.flatten()).abs().max().item() / scale if scale else ours.abs().max().item()


@dataclass(frozen=True, kw_only=True, slots=True)
class Oracle:
    """Another implementation that can be run here.

    Attributes:
        model: the name of the catalogue that it vouches for.
        by: what it is, as printed: "timm 1.0.31 convnext_tiny".
        ours: makes our network, without regard to its weights.
        theirs: makes theirs, of the same shape.
        key: the name that a tensor of ours has in theirs; None where theirs has none (a constant buffer).
        image_size: pixels; such that the last map is larger than one.
        in_channels: of the pictures.
    """

    model: str
    by: str
    ours: Callable[[], nn.Module]
    theirs: Callable[[], nn.Module]
    key: Callable[[str], str | None] = lambda key: key
    image_size: int = 32
    in_channels: int = 3

    def pair(self) -> tuple[nn.Module, nn.Module]:
        """Make both in float64 with the same weights, each tensor of theirs filled exactly once."""
        ours, theirs = self.ours().double(), self.theirs().double()
        fill(ours)
        state, filled = theirs.state_dict(), set()
        for name, value in ours.state_dict().items():
            key = self.key(name)
            if key is None:
                continue
            assert key not in filled, key
            state[key].copy_(value.reshape(state[key].shape))
            filled.add(key)
        trained = {name for name, _ in theirs.named_parameters()}
        assert not trained - filled, f"not filled: {sorted(trained - filled)[:5]}"
        return ours, theirs

    def difference(self, *, training: bool) -> float:
        """Return the largest relative difference of logits, gradients and statistics."""
        shape = (self.in_channels, self.image_size, self.image_size)
        ours, theirs = (answer(network, shape=shape, training=training) for network in self.pair())
        assert theirs.logits.std() > 1e-3  # not two nets that agree on nothing
        found = [apart(ours.logits, theirs.logits)]
        floor = 1e-3 * max(g.abs().max().item() for g in theirs.gradients.values())
        for name, gradient in ours.gradients.items():
            key = self.key(name)
            assert key is not None, name
            found.append(apart(gradient, theirs.gradients[key], floor=floor))
        for name, value in ours.buffers.items():
            key = self.key(name)
            if key is not None:
                found.append(apart(value, theirs.buffers[key], floor=1.0))
        return max(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """The official implementation's answers, recorded once, since it is no package: tests/golden/official/FILE.json.

    The file says how it was made. It holds, for evaluating and training, the logits, and of each parameter's
    gradient (by our name) its sum, its sum of squares and its product with a formula.
    """

    model: str
    by: str
    ours: Callable[[], nn.Module]
    file: str
    image_size: int = 32
    in_channels: int = 3

    def difference(self, *, training: bool) -> float:
        """Return the largest relative difference to what is recorded."""
        golden = json.loads((GOLDEN / f"{self.file}.json").read_text())["train" if training else "eval"]
        ours = self.ours().double()
        fill(ours)
        found = digest(answer(ours, shape=(self.in_channels, self.image_size, self.image_size), training=training))
        assert set(found["gradients"]) == set(golden["gradients"])
        apartness = [apart(*(torch.tensor(logits["logits"], dtype=torch.float64) for logits in (found, golden)))]
        floor = [1e-3 * max(abs(values[i]) for values in golden["gradients"].values()) for i in range(3)]
        for name, values in golden["gradients"].items():
            for mine, value, least in zip(found["gradients"][name], values, floor, strict=True):
                apartness.append(abs(mine - value) / max(abs(value), least))
        return max(apartness)


def digest(found: Answer) -> dict[str, Any]:
    """Return what a recorded file keeps of an answer; the gradients by the names that `found` has them under."""
    return {
        "logits": found.logits.flatten().tolist(),
        "gradients": {
            key: [g.sum().item(), g.square().sum().item(), (g.flatten() * numbers((g.numel(),), salt=13)).sum().item()]
            for key, g in found.gradients.items()
        },
    }
