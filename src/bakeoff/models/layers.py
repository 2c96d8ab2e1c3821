"""Layers that have no paper: what the networks of this room share."""

from torch import nn


def conv(in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """Make a convolution without bias (a normalisation follows) that keeps the size at stride 1."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)


def initialise(network: nn.Module) -> None:
    """Draw the first weights from torch's global generator, which the caller seeds.

    Filters: normal with variance 2 / fan_out, so that the gradient keeps its size through ReLUs.
    Matrices: normal with standard deviation 0.01, so that the first loss is the logarithm of the
    number of classes at any depth; torch's own default starts a 110-layer net above it.

    Source: He et al. 2015, https://arxiv.org/abs/1502.01852, section 2.2, backward case; Goyal et al.
    2017, https://arxiv.org/abs/1706.02677, section 5.1, for the last layer.
    """
    for module in network.modules():
        match module:
            case nn.Conv2d():
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            case nn.Linear():
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
