"""The nets of section 4.2 a second time, as functions over a dictionary of tensors."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bakeoff import models

State = dict[str, Tensor]


def norm(x: Tensor, state: State, key: str, *, training: bool) -> Tensor:
    """Normalise by hand: no torch function that the network under test calls."""
    if training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    else:
        mean, variance = state[f"{key}.running_mean"], state[f"{key}.running_var"]
    scale = state[f"{key}.weight"] / (variance + 1e-5).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{key}.bias"][:, None, None]


def reference(x: Tensor, state: State, *, depth: int, shortcut: str, training: bool) -> Tensor:
    x = norm(F.conv2d(x, state["conv1.weight"], padding=1), state, "bn1", training=training).clamp(min=0)
    for stage in (1, 2, 3):
        for block in range((depth - 2) // 6):
            key = f"layer{stage}.{block}"
            changes = stage > 1 and block == 0
            stride = 2 if changes else 1
            y = F.conv2d(x, state[f"{key}.conv1.weight"], stride=stride, padding=1)
            y = norm(y, state, f"{key}.bn1", training=training).clamp(min=0)
            y = F.conv2d(y, state[f"{key}.conv2.weight"], padding=1)
            y = norm(y, state, f"{key}.bn2", training=training)
            if changes and shortcut == "B":
                x = F.conv2d(x, state[f"{key}.downsample.0.weight"], stride=2)
                x = norm(x, state, f"{key}.downsample.1", training=training)
            elif changes:
                x = x[:, :, ::2, ::2]
                x = torch.cat([x, torch.zeros_like(x)], dim=1)
            x = (x + y).clamp(min=0)
    return x.flatten(2).sum(2) / x[0, 0].numel() @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("depth", "shortcut"), [(20, "B"), (20, "A"), (32, "B"), (44, "B"), (56, "B"), (110, "B")])
def test_parity(depth: int, shortcut: str, training: bool) -> None:
    torch.manual_seed(5)
    network = models.build("small_resnet", num_classes=10, depth=depth, shortcut=shortcut).double()
    for key, value in network.state_dict().items():
        if "running_var" in key or ("bn" in key and key.endswith("weight")):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and value.ndim == 1:
            value.normal_(std=0.3)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    parameters = {key: state[key].requires_grad_() for key, _ in network.named_parameters()}
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    weights = torch.randn(2, 10, dtype=torch.float64)

    theirs = reference(x, state, depth=depth, shortcut=shortcut, training=training)
    gradients = torch.autograd.grad((theirs * weights).sum(), list(parameters.values()))
    ours = network.train(training)(x)
    (ours * weights).sum().backward()

    scale = theirs.detach().abs().max()
    assert scale > 0.01
    torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=1e-9)
    for p, gradient in zip(network.parameters(), gradients, strict=True):
        largest = gradient.abs().max().clamp(min=scale)
        torch.testing.assert_close(p.grad / largest, gradient / largest, rtol=0, atol=1e-9)
