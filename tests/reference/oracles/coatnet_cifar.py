"""The first course project's small CoAtNet, mended, against a second implementation, written with functions only."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.models.coatnet_cifar import coatnet_cifar
from tests.reference.by_hand import ByHand
from tests.reference.parity import Oracle


class Functions(ByHand):
    """Stages and blocks as listed in its code; attention pixel by pixel of the picture that asks."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage, depth in enumerate((2, 2, 6)):
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                x = self.convolve(x, f"s{stage}.{i}", stride=stride)
        for stage, depth in ((3, 10), (4, 2)):
            filters, bias = self.tensor(f"s{stage}.0.weight"), self.tensor(f"s{stage}.0.bias")
            patches = x.unfold(2, 2, 2).unfold(3, 2, 2)  # [b c h/2 w/2 2 2]
            x = torch.einsum("bchwij,dcij->bhwd", patches, filters) + bias
            for i in range(1, depth + 1):
                x = self.transform(x, f"s{stage}.{i}")
            x = x.permute(0, 3, 1, 2)
        return x.flatten(2).mean(2) @ self.tensor("fc.weight").T + self.tensor("fc.bias")

    def stem(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x, "stem.0"), "stem.1").clamp(min=0)
        if not hasattr(self, self.key("stem.3.weight")):
            return x
        return self.norm(self.conv(self.conv(x, "stem.3"), "stem.4"), "stem.5").clamp(min=0)

    def convolve(self, x: Tensor, name: str, *, stride: int) -> Tensor:
        y = self.norm(self.conv(x, f"{name}.conv1"), f"{name}.norm1").clamp(0, 6)
        y = self.norm(self.conv(y, f"{name}.conv2", stride=stride), f"{name}.norm2").clamp(0, 6)
        y = y * self.gate(y.mean((2, 3)), name)[:, :, None, None]
        y = self.norm(self.conv(y, f"{name}.conv3"), f"{name}.norm3")
        return x + y if x.shape == y.shape else y

    def gate(self, means: Tensor, name: str) -> Tensor:
        """Weigh each channel by itself and its two neighbours; [b c] to the same shape."""
        before, own, after = self.tensor(f"{name}.attention.conv.weight").flatten()
        padded = F.pad(means, (1, 1))
        return (before * padded[:, :-2] + own * padded[:, 1:-1] + after * padded[:, 2:]).sigmoid()

    def layer_norm(self, x: Tensor, name: str) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return x * self.tensor(f"{name}.weight") + self.tensor(f"{name}.bias")

    def transform(self, x: Tensor, name: str) -> Tensor:
        x = x + self.attend(self.layer_norm(x, f"{name}.norm1"), f"{name}.attn")
        y = self.layer_norm(x, f"{name}.norm2")
        y = y @ self.tensor(f"{name}.mlp.fc1.weight").T + self.tensor(f"{name}.mlp.fc1.bias")
        y = y * (1 + torch.erf(y / math.sqrt(2))) / 2
        y = y @ self.tensor(f"{name}.mlp.fc2.weight").T + self.tensor(f"{name}.mlp.fc2.bias")
        return x + y * self.gate(y.mean((1, 2)), name)[:, None, None]

    def attend(self, x: Tensor, name: str) -> Tensor:
        side, width = x.shape[2:]
        matrices = self.tensor(f"{name}.qkv.weight").view(8, 3, width // 8, width)
        q, k, v = torch.einsum("bijc,hndc->nbhijd", x, matrices)
        # Turned round: from a pixel that asks at (i, j), the one at (0, 0) is i down and j right, the most of all.
        table = self.tensor(f"{name}.position_bias").view(2 * side - 1, 2 * side - 1, 8).flip(0, 1).permute(2, 0, 1)
        rows = []
        for i in range(side):
            for j in range(side):
                near = torch.einsum("bhd,bhkld->bhkl", q[:, :, i, j], k) / math.sqrt(width // 8)
                near = near + table[:, side - 1 - i :, side - 1 - j :][:, :side, :side]
                weights = near.exp() / near.exp().sum((2, 3), keepdim=True)
                rows.append(torch.einsum("bhkl,bhkld->bhd", weights, v).flatten(1))
        mixed = torch.stack(rows, dim=1).view(-1, side, side, width)
        return mixed @ self.tensor(f"{name}.proj.weight").T + self.tensor(f"{name}.proj.bias")


def ours(image_size: int, **options: int) -> nn.Module:
    return coatnet_cifar(num_classes=10, in_channels=3, image_size=image_size, **options)  # type: ignore[arg-type]


ORACLES = [
    Oracle(
        model=model,
        by="a second implementation",
        ours=partial(ours, size, **options),
        theirs=lambda size=size, options=options: Functions(ours(size, **options)),
        key=ByHand.key,
        image_size=size,
    )
    for model, size, options in (
        ("coatnet_cifar_opt", 32, {}),
        ("coatnet_cifar_opt_large_stem", 16, {"stem_kernel_size": 5}),
    )
]
