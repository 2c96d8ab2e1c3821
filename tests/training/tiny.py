"""A network of seconds for tests: it has all that makes a resume hard, dropout and batch norm included."""

from torch import nn

NAME = "tests.training.tiny:network"


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
