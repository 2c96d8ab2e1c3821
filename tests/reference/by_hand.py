"""What a second implementation is written with: the tensors of a network by name, and a norm by hand."""

import torch.nn.functional as F
from torch import Tensor, nn


class ByHand(nn.Module):
    """Hold copies of a network's tensors, none of its modules; a child class writes `forward` with functions."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, p in network.named_parameters():
            self.register_parameter(self.key(name), nn.Parameter(p.detach().clone()))
        for name, buffer in network.named_buffers():
            self.register_buffer(self.key(name), buffer.clone())

    @staticmethod
    def key(name: str) -> str:
        """Return the name that a tensor of the network has here, where names have no dots."""
        return name.replace(".", "/")

    def tensor(self, name: str) -> Tensor:
        """Return a tensor by its name in the network."""
        found: Tensor = getattr(self, self.key(name))
        return found

    def conv(self, x: Tensor, name: str, *, stride: int = 1) -> Tensor:
        """Convolve with the filters of that name; the groups follow from their shape."""
        filters = self.tensor(f"{name}.weight")
        groups = x.shape[1] // filters.shape[1]
        return F.conv2d(x, filters, stride=stride, padding=filters.shape[-1] // 2, groups=groups)

    def norm(self, x: Tensor, name: str, *, momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
        """Normalise by hand, and keep the statistics as batch normalisation does."""
        mean, variance = self.tensor(f"{name}.running_mean"), self.tensor(f"{name}.running_var")
        if self.training:
            kept_mean, kept_variance = mean, variance
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            kept_mean.lerp_(mean.detach(), momentum)
            kept_variance.lerp_(x.detach().var((0, 2, 3), correction=1), momentum)
        scale = self.tensor(f"{name}.weight") / (variance + eps).sqrt()
        return (x - mean[:, None, None]) * scale[:, None, None] + self.tensor(f"{name}.bias")[:, None, None]
