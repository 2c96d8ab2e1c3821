"""Frames of networks: what stands around the blocks, where more than one paper has it so.

    frame         networks                                          picture to logits
    ResidualNet   resnet, resnest, improved_resnet, ghost_resnet    convolution, stages of blocks, mean, matrix
    TrunkNet      convnext, hornet                                  patches, halvings and blocks, mean, norm, matrix
    TokenNet      gmlp, mlp_mixer                                   patches, blocks over tokens, norm, mean, matrix

That of mscan and lsknet is in gated.py, with its blocks.

A frame's `stages` are the names of the modules that put out the maps of its stages.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final, Protocol

from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.layers import LayerNorm2d, choose_stem, conv, drop_path_rates, initialise, refuse_smaller
from bakeoff.models.norms import BatchNorm2d, norm


class MakeBlock(Protocol):
    """A function that makes one block of a residual network.

    `progress` tells where in the depth the block stands: 0 is the first, 1 the last.
    """

    def __call__(self, in_width: int, width: int, *, stride: int, progress: float) -> nn.Module:
        """Make the block that maps [b in_width h w] to [b width*expansion h/stride w/stride]."""


class ResidualNet(nn.Module):
    """Stem, stages of blocks, mean over the picture, one matrix. Names as in torchvision's ResNet.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        make_block: makes one block.
        widths: channels of each stage, before the blocks' expansion.
        depths: blocks of each stage; each stage but the first halves the picture.
        expansion: output channels of a block over the width of its stage.
        stem: "small" is 3x3 at stride 1; "imagenet" is 7x7 at stride 2, then pooling at stride 2.
        conv1: what takes the place of that convolution, as wide as the first stage.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        make_block: MakeBlock,
        widths: Sequence[int],
        depths: Sequence[int],
        expansion: int = 1,
        stem: str = "small",
        conv1: nn.Module | None = None,
    ) -> None:
        super().__init__()
        width, large = widths[0], stem == "imagenet"
        if conv1 is None:
            conv1 = conv(in_channels, width, kernel_size=7 if large else 3, stride=2 if large else 1)
        self.conv1 = conv1
        self.bn1 = BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if large else nn.Identity()
        self.stages = [f"layer{i}" for i in range(1, len(depths) + 1)]
        made, last = 0, max(sum(depths) - 1, 1)
        for stage, stage_width, depth in zip(self.stages, widths, depths, strict=True):
            blocks = nn.Sequential()
            for i in range(depth):
                stride = 2 if i == 0 and stage != "layer1" else 1
                blocks.append(make_block(width, stage_width, stride=stride, progress=made / last))
                width, made = stage_width * expansion, made + 1
            self.add_module(stage, blocks)
        self.fc = nn.Linear(width, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures [b c h w] to logits [b classes]."""
        x = self.maxpool(norm(self.bn1, self.conv1(x), activation="relu"))
        for stage in self.stages:
            x = getattr(self, stage)(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def small_depths(depth: int) -> tuple[int, int, int]:
    """Return the blocks of each of three stages, for a network of `depth` layers that has two in a block.

    Raises:
        RecipeError: a depth that is not 6n + 2.
    """
    num_blocks, rest = divmod(depth - 2, 6)
    if rest or num_blocks < 1:
        raise RecipeError("model.depth", found=f"{depth}", expected="6n + 2, such as 20, 32, 44, 56 or 110")
    return num_blocks, num_blocks, num_blocks


# Kernel, stride and padding of the first convolution of a TrunkNet.
PATCHES: Final = {"small": (4, 2, 1), "3x3": (3, 1, 1), "imagenet": (4, 4, 0)}


class TrunkNet(nn.Module):
    """Patches, stages of blocks with a halving before each but the first, mean over the picture, norm, one matrix.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: pixels.
        stem: the first convolution: a key of `PATCHES`, or "auto".
        make_block: makes one block of a stage, from the stage's number and the block's chance to be dropped.
        widths: channels of each stage.
        depths: blocks of each stage.
        drop_path: chance of the last block to be dropped.

    Raises:
        RecipeError: an unknown stem, a chance outside [0, 1), a picture that the strides divide to nothing.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        stem: str,
        make_block: Callable[[int, float], nn.Module],
        widths: Sequence[int],
        depths: Sequence[int],
        drop_path: float,
    ) -> None:
        super().__init__()
        kernel_size, stride, padding = PATCHES[choose_stem(stem, image_size, known=tuple(PATCHES))]
        refuse_smaller(image_size, than=stride * 2 ** (len(depths) - 1))
        rates = iter(drop_path_rates(drop_path, sum(depths)))
        first = nn.Conv2d(in_channels, widths[0], kernel_size, stride=stride, padding=padding)
        self.stem = nn.Sequential(first, LayerNorm2d(widths[0]))
        halvings = [
            nn.Sequential(LayerNorm2d(in_width), nn.Conv2d(in_width, width, 2, stride=2))
            for in_width, width in pairwise(widths)
        ]
        self.trunk = nn.Sequential()
        for i, (halving, depth) in enumerate(zip([nn.Identity(), *halvings], depths, strict=True)):
            blocks = nn.Sequential(*(make_block(i, next(rates)) for _ in range(depth)))
            self.trunk.append(nn.Sequential(OrderedDict(downsample=halving, blocks=blocks)))
        self.stages = [f"trunk.{i}" for i in range(len(widths))]
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self.fc = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures [b c h w] to logits [b classes]."""
        x = self.trunk(self.stem(x))
        logits: Tensor = self.fc(self.norm(x.mean((2, 3))))
        return logits


def check_trunk(widths: Sequence[int], depths: Sequence[int]) -> None:
    """Refuse numbers that do not describe the stages of a TrunkNet.

    Raises:
        RecipeError: naming the list that is wrong.
    """
    if not depths or min(depths) < 1:
        raise RecipeError("model.depths", found=f"{list(depths)}", expected="one or more numbers of blocks, each >= 1")
    if len(widths) != len(depths) or min(widths) < 1:
        expected = f"{len(depths)} numbers of channels, as many as depths, each >= 1"
        raise RecipeError("model.widths", found=f"{list(widths)}", expected=expected)


class TokenNet(nn.Module):
    """Patches to tokens by one matrix, blocks, norm, mean over the tokens, one matrix.

    All weights start normal with variance 1 / fan_in, but for the last matrix, which starts small; biases at zero.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        patch_size: pixels along one side of a patch.
        width: channels of a token.
        blocks: map [b tokens width] to the same shape.
    """

    def __init__(
        self, *, num_classes: int, in_channels: int, patch_size: int, width: int, blocks: Iterable[nn.Module]
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)
        self.stages = ["blocks"]
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures [b c h w] to logits [b classes]."""
        # In channels-last memory this is a view; in the other a copy here saves one in every block.
        x = self.stem(x).flatten(2).transpose(1, 2).contiguous()
        logits: Tensor = self.head(self.norm(self.blocks(x)).mean(1))
        return logits
