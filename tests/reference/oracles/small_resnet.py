"""The nets of section 4.2, and ECA at its three places, a second time: functions over a dictionary of tensors."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff import models
from tests.reference.parity import Oracle

State = dict[str, Tensor]
# (x, all tensors, key of the plug-in, training) -> x with attention
Attend = Callable[[Tensor, State, str, bool], Tensor]


def norm(x: Tensor, state: State, key: str, training: bool) -> Tensor:
    """Normalise by hand: no torch function that the network under test calls."""
    if training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        with torch.no_grad():
            state[f"{key}.running_mean"].mul_(0.9).add_(mean, alpha=0.1)
            state[f"{key}.running_var"].mul_(0.9).add_(x.var((0, 2, 3), correction=1), alpha=0.1)
    else:
        mean, variance = state[f"{key}.running_mean"], state[f"{key}.running_var"]
    scale = state[f"{key}.weight"] / (variance + 1e-5).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{key}.bias"][:, None, None]


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def eca(x: Tensor, state: State, key: str, training: bool) -> Tensor:
    """Slide a window over the channels' means."""
    weight = state[f"{key}.conv.weight"].flatten()
    reach = len(weight) // 2
    windows = F.pad(x.flatten(2).mean(2), (reach, reach)).unfold(1, len(weight), 1)
    return x * sigmoid(windows @ weight)[:, :, None, None]


class SecondSmallResNet(nn.Module):
    """Hold the tensors of a net of ours under its names, dots written as slashes; compute with functions."""

    def __init__(self, *, depth: int, shortcut: str = "B", attend: Attend | None = None, position: str = "") -> None:
        super().__init__()
        self.depth, self.shortcut, self.attend, self.position = depth, shortcut, attend, position

    def hold(self, ours: nn.Module) -> "SecondSmallResNet":
        for name, p in ours.named_parameters():
            self.register_parameter(name.replace(".", "/"), nn.Parameter(torch.empty(p.shape)))
        for name, value in ours.named_buffers():
            if value.is_floating_point():
                self.register_buffer(name.replace(".", "/"), torch.empty(value.shape))
        return self

    def block(self, x: Tensor, state: State, key: str, stride: int) -> Tensor:
        def at(y: Tensor, position: str) -> Tensor:
            there = self.attend is not None and self.position == position
            return self.attend(y, state, f"{key}.attention", self.training) if there and self.attend else y

        y = F.conv2d(x, state[f"{key}.conv1.weight"], stride=stride, padding=1)
        y = at(norm(y, state, f"{key}.bn1", self.training), "after_first").clamp(min=0)
        y = F.conv2d(y, state[f"{key}.conv2.weight"], padding=1)
        y = at(norm(y, state, f"{key}.bn2", self.training), "before_add")
        if stride == 2 and self.shortcut == "B":
            x = F.conv2d(x, state[f"{key}.downsample.0.weight"], stride=2)
            x = norm(x, state, f"{key}.downsample.1", self.training)
        elif stride == 2:
            x = x[:, :, ::2, ::2]
            x = torch.cat([x, torch.zeros_like(x)], dim=1)
        return at(x + y, "after_add").clamp(min=0)

    def forward(self, x: Tensor) -> Tensor:
        tensors = [*self.named_parameters(), *self.named_buffers()]
        state = {name.replace("/", "."): value for name, value in tensors}
        x = norm(F.conv2d(x, state["conv1.weight"], padding=1), state, "bn1", self.training).clamp(min=0)
        for stage in (1, 2, 3):
            for block in range((self.depth - 2) // 6):
                stride = 2 if stage > 1 and block == 0 else 1
                x = self.block(x, state, f"layer{stage}.{block}", stride)
        return x.flatten(2).sum(2) / x[0, 0].numel() @ state["fc.weight"].T + state["fc.bias"]


def second(
    model: str,
    *,
    depth: int,
    shortcut: str = "B",
    attention: str | dict[str, Any] = "none",
    position: str = "before_add",
    attend: Attend | None = None,
) -> Oracle:
    def ours() -> nn.Module:
        options = {"depth": depth, "shortcut": shortcut, "attention": attention, "attention_position": position}
        return models.build("small_resnet", num_classes=10, **options)

    def theirs() -> nn.Module:
        with torch.device("meta"):  # names and shapes; the rest is its own
            held = ours()
        return SecondSmallResNet(depth=depth, shortcut=shortcut, attend=attend, position=position).hold(held)

    return Oracle(
        model=model,
        by=f"a second implementation, {depth} layers, shortcut {shortcut}",
        ours=ours,
        theirs=theirs,
        key=lambda key: None if key.endswith("num_batches_tracked") else key.replace(".", "/"),
        image_size=16,
    )


def with_eca(model: str, kernel_size: int | str, *, depth: int = 20, position: str = "before_add") -> Oracle:
    attention = {"name": "eca", "kernel_size": kernel_size}
    return second(model, depth=depth, attention=attention, position=position, attend=eca)


ORACLES = [
    *(second(f"resnet_{depth}", depth=depth) for depth in (20, 32, 44, 56, 110)),
    second("resnet_20", depth=20, shortcut="A"),
    second("resnet20_no_eca", depth=20),
    with_eca("eca_resnet_20", 3),
    with_eca("eca_resnet_32", 5, depth=32),
    *(with_eca(f"ecanet20_fixed_k{size}", size) for size in (3, 5, 7, 9)),
    with_eca("ecanet20_adaptive", "adaptive"),
    with_eca("eca_resnet20_pos1", 3, position="after_first"),
    with_eca("eca_resnet20_pos3", 3, position="after_add"),
]
