"""Networks of seconds for tests. The first has all that makes a resume hard, dropout and batch norm included."""

import math

from torch import Tensor, nn

NAME = "tests.training.tiny:network"
PLAIN = "tests.training.tiny:plain"
STAGED = "tests.training.tiny:staged"
POISONED = "tests.training.tiny:poisoned"


def network(*, num_classes: int, in_channels: int, width: int = 8) -> nn.Module:
    """Build a network for 8-pixel images."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(width * 4 * 4, num_classes),
    )


def plain(*, num_classes: int, in_channels: int, width: int = 8) -> nn.Module:
    """Build a network whose answer to a picture does not depend on the others of its batch, nor on chance."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * 4 * 4, num_classes),
    )


def staged(*, num_classes: int, in_channels: int, width: int = 8) -> nn.Module:
    """Build a network that says where its three stages are."""
    return _Staged(num_classes=num_classes, in_channels=in_channels, width=width)


class _Staged(nn.Module):
    def __init__(self, *, num_classes: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.stages = ["stage1", "stage2", "stage3"]
        before = in_channels
        for i, stage in enumerate(self.stages):
            convolution = nn.Conv2d(before, width, 3, stride=2 if i else 1, padding=1, bias=False)
            self.add_module(stage, nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout2d(0.1)))
            before = width
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def poisoned(*, num_classes: int, in_channels: int, at: int, gradient: bool = False) -> nn.Module:
    """Build the tiny network; in training its `at`-th answer (or only the gradient of it) is not a number."""
    return nn.Sequential(network(num_classes=num_classes, in_channels=in_channels), _Poison(at, gradient=gradient))


class _Poison(nn.Module):
    def __init__(self, at: int, *, gradient: bool) -> None:
        super().__init__()
        self.at, self.gradient, self.count = at, gradient, 0

    def forward(self, logits: Tensor) -> Tensor:
        self.count += self.training
        if not self.training or self.count != self.at:
            return logits
        if self.gradient:
            logits.register_hook(lambda gradient: gradient * math.nan)
            return logits
        return logits * math.nan
