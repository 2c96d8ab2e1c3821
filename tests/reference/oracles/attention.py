"""Attention in residual networks: second implementations, torchvision's and timm's modules, official classes."""

from functools import partial
from typing import Any

import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.layers import EcaModule, SEModule
from timm.models.resnet import BasicBlock as TimmBlock
from timm.models.resnet import Bottleneck as TimmBottleneck
from timm.models.resnet import ResNet as TimmResNet
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock
from torchvision.ops import SqueezeExcitation

from bakeoff import models
from tests.reference.oracles.small_resnet import State, norm, second, sigmoid
from tests.reference.parity import Oracle, Recorded

VISION = f"torchvision {torchvision.__version__.partition('+')[0]}"


def matrices(x: Tensor, state: State, key: str) -> Tensor:
    """Two matrices, given as 1x1 filters, over [b c]."""
    x = (x @ state[f"{key}.fc1.weight"].flatten(1).T + state[f"{key}.fc1.bias"]).clamp(min=0)
    return x @ state[f"{key}.fc2.weight"].flatten(1).T + state[f"{key}.fc2.bias"]


def squeeze_excite(x: Tensor, state: State, key: str, training: bool) -> Tensor:
    return x * sigmoid(matrices(x.flatten(2).mean(2), state, key))[:, :, None, None]


def cbam(x: Tensor, state: State, key: str, training: bool) -> Tensor:
    pooled = x.flatten(2).mean(2), x.flatten(2).max(2).values
    x = x * sigmoid(sum(matrices(part, state, f"{key}.channel") for part in pooled))[:, :, None, None]
    maps = torch.stack([x.max(1).values, x.mean(1)], dim=1)
    maps = F.conv2d(maps, state[f"{key}.spatial.conv.weight"], padding=3)
    return x * sigmoid(norm(maps, state, f"{key}.spatial.bn", training))


def simam(x: Tensor, state: State, key: str, training: bool) -> Tensor:
    """Divide by the energy of equation 5, which equation 6 turns into a gate."""
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=1, keepdim=True)
    energy = 4 * (variance + 1e-4) / ((x - mean) ** 2 + 2 * variance + 2e-4)
    return x * sigmoid(1 / energy)


def coordinate(x: Tensor, state: State, key: str, training: bool) -> Tensor:
    """Gates by row and by column, as matrices; what they share is the norm."""
    both = torch.cat([x.mean(3), x.mean(2)], dim=2)
    y = torch.einsum("nc,bcl->bnl", state[f"{key}.conv1.weight"].flatten(1), both)
    y = norm(y[..., None], state, f"{key}.bn1", training)[..., 0]
    y = y * (y + 3).clamp(0, 6) / 6
    rows, columns = (
        sigmoid(torch.einsum("cn,bnl->bcl", state[f"{key}.{name}.weight"].flatten(1), part) + bias[:, None])
        for name, part in (("conv_h", y[..., : x.shape[2]]), ("conv_w", y[..., x.shape[2] :]))
        for bias in [state[f"{key}.{name}.bias"]]
    )
    return x * rows[:, :, :, None] * columns[:, :, None, :]


class SwappedIn(nn.Module):
    """torchvision's blocks in our trunk, its squeeze and excitation behind the second norm of each."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        in_width = 16
        for stage, width in enumerate((16, 32, 64), start=1):
            blocks = nn.Sequential()
            for i in range((depth - 2) // 6):
                stride = 2 if i == 0 and stage > 1 else 1
                narrow = nn.Conv2d(in_width, width, 1, stride=stride, bias=False)
                shortcut = nn.Sequential(narrow, nn.BatchNorm2d(width)) if stride == 2 else None
                block = BasicBlock(in_width, width, stride, shortcut)
                block.bn2 = nn.Sequential(block.bn2, SqueezeExcitation(width, width // 16))
                blocks.append(block)
                in_width = width
            self.add_module(f"layer{stage}", blocks)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)).relu())))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def swapped_key(key: str) -> str:
    """bn2.weight -> bn2.0.weight, attention.fc1 -> bn2.1.fc1."""
    return key.replace(".bn2.", ".bn2.0.").replace(".attention.", ".bn2.1.")


def by_torchvision(model: str, depth: int) -> Oracle:
    return Oracle(
        model=model,
        by=f"{VISION} SqueezeExcitation in its BasicBlock",
        ours=lambda: models.build("small_resnet", num_classes=10, depth=depth, attention="se"),
        theirs=lambda: SwappedIn(depth),
        key=swapped_key,
        image_size=16,
    )


def by_timm(depth: int, attention: str, module: Any) -> Oracle:
    """A timm ResNet of the ImageNet shape, which without its attention is the plain one."""
    block, layers = {18: (TimmBlock, [2, 2, 2, 2]), 50: (TimmBottleneck, [3, 4, 6, 3])}[depth]

    def theirs() -> nn.Module:
        with torch.device("meta"):  # its own first weights are not needed
            network = TimmResNet(block, layers, num_classes=10, block_args={"attn_layer": module})
        return network.to_empty(device="cpu")

    return Oracle(
        model=f"resnet{depth}",
        by=f"timm {timm.__version__} ResNet, imagenet stem, attention {attention}",
        ours=lambda: models.build("resnet", num_classes=10, depth=depth, stem="imagenet", attention=attention),
        theirs=theirs,
        key=lambda key: key.replace(".attention.", ".se."),
        image_size=64,
    )


def by_official(model: str, by: str, *, file: str = "", depth: int = 20, **options: object) -> Recorded:
    return Recorded(
        model=model,
        by=by,
        ours=lambda: models.build("small_resnet", num_classes=10, depth=depth, **options),  # type: ignore[arg-type]
        file=file or model,
        image_size=16,
    )


ORACLES = [
    second("se_resnet_20", depth=20, attention="se", attend=squeeze_excite),
    second("se_resnet_56", depth=56, attention="se", attend=squeeze_excite),
    second("cbam_resnet_20", depth=20, attention="cbam", attend=cbam),
    second("simam_resnet_20", depth=20, attention="simam", attend=simam),
    second("coordinate_resnet_20", depth=20, attention="coordinate", attend=coordinate),
    by_torchvision("se_resnet_20", 20),
    by_timm(18, "eca", EcaModule),
    by_timm(50, "se", partial(SEModule, rd_ratio=1 / 16)),
    by_official("eca_resnet_20", "BangguWu/ECANet", attention={"name": "eca", "kernel_size": 3}),
    by_official("eca_resnet_32", "BangguWu/ECANet", depth=32, attention={"name": "eca", "kernel_size": 5}),
    by_official("cbam_resnet_20", "Jongchan/attention-module", attention="cbam"),
    by_official("simam_resnet_20", "ZjjConan/SimAM", attention="simam"),
    by_official("coordinate_resnet_20", "houqb/CoordAttention", attention="coordinate"),
    # No name of the catalogue: the block that lsknet_tiny and others are made of.
    by_official("small_resnet", "zcablii/LSKNet", file="lsk_resnet_8", depth=8, attention="lsk"),
]
