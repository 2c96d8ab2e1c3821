"""The first course project's improved ResNet-20: counts by hand, what each ablation changes, mistakes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.cost import cost
from bakeoff.models.frames import ResidualNet
from bakeoff.models.improved_resnet import improved_resnet
from bakeoff.models.layers import DropPath

STD_CONV = {"kernel_size": 3, "depthwise": False}
NO_INVERTED = {"inverted": False}


def on_meta(**options: Any) -> ResidualNet:
    with torch.device("meta"):
        return improved_resnet(num_classes=100, in_channels=3, image_size=32, **options)


def count(*, kernel_size: int = 7, depthwise: bool = True, inverted: bool = True) -> int:
    """Count by hand; a convolution's norm has two numbers a channel."""

    def block(in_width: int, width: int) -> int:
        hidden = 4 * in_width if inverted else in_width
        widen = in_width * hidden + 2 * hidden if inverted else 0
        middle = kernel_size**2 * hidden * (1 if depthwise else hidden) + 2 * hidden
        shortcut = in_width * width + 2 * width if in_width != width else 0
        return widen + middle + hidden * width + 2 * width + shortcut

    stem, head = 27 * 16 + 2 * 16, 64 * 100 + 100
    return stem + 3 * block(16, 16) + block(16, 32) + 2 * block(32, 32) + block(32, 64) + 2 * block(64, 64) + head


@pytest.mark.parametrize(
    ("options", "params", "macs"),
    [
        ({}, 174_868, 34_191_616),
        (STD_CONV, 1_887_892, 301_652_224),
        (NO_INVERTED, 38_644, 6_721_792),
    ],
)
def test_the_parameters_are_those_counted_by_hand_and_in_the_projects_logs(
    options: dict[str, Any], params: int, macs: int
) -> None:
    counted = cost(on_meta(**options), (3, 32, 32))
    assert counted.params == count(**options) == params
    assert counted.macs == macs


def middles(network: nn.Module) -> list[nn.Conv2d]:
    convolutions = [m for name, m in network.named_modules() if isinstance(m, nn.Conv2d) and ".residual." in name]
    return [m for m in convolutions if m.kernel_size != (1, 1)]


@pytest.mark.parametrize(
    ("options", "kernel_size", "widths", "depthwise"),
    [
        ({}, 7, (64, 128, 256), True),
        (STD_CONV, 3, (64, 128, 256), False),
        (NO_INVERTED, 7, (16, 32, 64), True),
    ],
)
def test_each_ablation_changes_the_middle_of_the_blocks(
    options: dict[str, Any], kernel_size: int, widths: tuple[int, int, int], depthwise: bool
) -> None:
    found = middles(on_meta(**options))
    # A block widens what comes in, so the first of a stage is as wide inside as the stage before.
    assert [m.in_channels for m in found] == [widths[i] for i in (0, 0, 0, 0, 1, 1, 1, 2, 2)]
    assert {m.kernel_size[0] for m in found} == {kernel_size}
    assert all(m.groups == (m.in_channels if depthwise else 1) for m in found)
    assert [m.stride[0] for m in found] == [1, 1, 1, 2, 1, 1, 2, 1, 1]


@pytest.mark.parametrize("size", [32, 64, 224])
def test_the_stages(size: int) -> None:
    network = on_meta()
    shapes: list[tuple[int, ...]] = []

    def note(module: nn.Module, inputs: object, out: Tensor) -> None:
        shapes.append(tuple(out.shape[1:]))

    for stage in network.stages:
        network.get_submodule(stage).register_forward_hook(note)
    network.eval()(torch.empty(1, 3, size, size, device="meta"))
    assert shapes == [(16 * 2**i, size // 2**i, size // 2**i) for i in range(3)]


def test_drop_path_grows_linearly_and_changes_training_only() -> None:
    torch.manual_seed(0)
    dropping = improved_resnet(num_classes=10, in_channels=3, image_size=32, drop_path=0.4)
    steady = improved_resnet(num_classes=10, in_channels=3, image_size=32)
    steady.load_state_dict(dropping.state_dict())
    rates = [module.rate for module in dropping.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.05 * i for i in range(9)])
    assert all(module.rate == 0 for module in steady.modules() if isinstance(module, DropPath))
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(dropping.eval()(x), steady.eval()(x))
        assert not torch.equal(dropping.train()(x), steady.train()(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, r"model\.kernel_size: found 4; expected an odd number"),
        ({"kernel_size": -1}, r"model\.kernel_size"),
        ({"drop_path": 1.0}, r"model\.drop_path: found 1\.0"),
        ({"drop_path": -0.1}, r"model\.drop_path"),
    ],
)
def test_mistakes_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        on_meta(**options)
