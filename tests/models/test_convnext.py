"""What is special about ConvNeXt: its counts, its three stems, its options, and where it starts."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.convnext import FROM_TIMM, FROM_TORCHVISION, Block, convnext
from bakeoff.models.cost import cost
from bakeoff.models.frames import TrunkNet

NANO: dict[str, Any] = {"depths": (2, 2, 8, 2), "widths": (80, 160, 320, 640)}
ATTO: dict[str, Any] = {"depths": (2, 2, 6, 2), "widths": (40, 80, 160, 320)}
TOY: dict[str, Any] = {"depths": (1, 1, 2, 1), "widths": [8, 16, 24, 32]}


def make(*, image_size: int = 32, num_classes: int = 100, **options: Any) -> TrunkNet:
    return convnext(num_classes=num_classes, in_channels=3, image_size=image_size, **options)


def shadow(**options: Any) -> TrunkNet:
    with torch.device("meta"):
        return make(**options)


@pytest.mark.parametrize(
    ("options", "params", "macs"),
    [
        ({}, 27_897_028, 363_730_944),
        ({"stem": "imagenet"}, 27_897_028, 90_990_336),
        ({"stem": "3x3"}, 27_895_012, 1_452_628_992),
        (NANO, 15_016_660, 199_646_720),
        (ATTO, 3_406_620, 44_686_080),
    ],
    ids=["tiny", "tiny, imagenet", "tiny, 3x3", "nano", "atto"],
)
def test_cost(options: dict[str, Any], params: int, macs: int) -> None:
    counted = cost(shadow(**options), (3, 32, 32))
    assert (counted.params, counted.macs) == (params, macs)


def stage_sizes(network: nn.Module, image_size: int) -> list[int]:
    sizes: list[int] = []
    for stage in network.stages:  # type: ignore[union-attr]
        network.get_submodule(stage).register_forward_hook(lambda _, __, out: sizes.append(out.shape[2]))  # type: ignore[arg-type]
    network(torch.empty(1, 3, image_size, image_size, device="meta"))
    return sizes


@pytest.mark.parametrize(
    ("stem", "image_size", "sizes"),
    [
        ("auto", 32, [16, 8, 4, 2]),
        ("auto", 64, [32, 16, 8, 4]),
        ("auto", 127, [63, 31, 15, 7]),
        ("auto", 224, [56, 28, 14, 7]),
        ("auto", 16, [8, 4, 2, 1]),
        ("auto", 28, [14, 7, 3, 1]),
        ("3x3", 32, [32, 16, 8, 4]),
        ("3x3", 8, [8, 4, 2, 1]),
        ("imagenet", 32, [8, 4, 2, 1]),
    ],
)
def test_stage_sizes(stem: str, image_size: int, sizes: list[int]) -> None:
    assert stage_sizes(shadow(stem=stem, image_size=image_size, **TOY), image_size) == sizes


def test_the_small_and_the_papers_stem_share_their_weights() -> None:
    small, large = (shadow(stem=stem).state_dict() for stem in ("small", "imagenet"))
    assert {key: value.shape for key, value in small.items()} == {key: value.shape for key, value in large.items()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "7x7"}, r"model\.stem: found '7x7'; expected auto, small or 3x3 or imagenet"),
        ({"depths": ()}, r"model\.depths: found \[\]"),
        ({"depths": (3, 0, 9, 3)}, r"model\.depths: found \[3, 0, 9, 3\]"),
        ({"depths": (3, 3)}, r"model\.widths: found \[96, 192, 384, 768\]; expected 2 numbers"),
        ({"widths": (8, 16, 0, 8)}, r"model\.widths"),
        ({"kernel_size": 6}, r"model\.kernel_size: found 6; expected an odd number"),
        ({"kernel_size": -1}, r"model\.kernel_size"),
        ({"layer_scale": 0.0}, r"model\.layer_scale: found 0\.0"),
        ({"layer_scale": float("nan")}, r"model\.layer_scale: found nan"),
        ({"drop_path": 1.0}, r"model\.drop_path"),
        ({"image_size": 15}, r"found pictures of 15 px; expected 16 px or more"),
        ({"image_size": 7, "stem": "3x3"}, r"expected 8 px or more"),
        ({"image_size": 31, "stem": "imagenet"}, r"expected 32 px or more"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(**options)


def test_kernel_size_changes_the_depthwise_filters_only() -> None:
    wide, narrow = (shadow(kernel_size=k, **TOY).state_dict() for k in (7, 3))
    changed = {key for key in wide if wide[key].shape != narrow[key].shape}
    assert changed == {key for key in wide if key.endswith("conv_dw.weight")}


def test_drop_path_grows_linearly_with_depth() -> None:
    network = shadow(drop_path=0.4, **TOY)
    rates = [module.drop_path.rate for module in network.modules() if isinstance(module, Block)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_first_weights() -> None:
    torch.manual_seed(0)
    network = make(**ATTO)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert module.bias is not None
            assert not module.bias.any()
        elif isinstance(module, Block):
            assert (module.layer_scale == 1e-6).all()


def test_layer_scale_decides_how_much_a_block_adds() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 6)
    for scale in (1e-6, 0.5):
        block = Block(8, kernel_size=7, layer_scale=scale, drop_path=0.0)
        branch = block.mlp(block.norm(block.conv_dw(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        torch.testing.assert_close(block(x), x + scale * branch)


def test_a_dropped_branch_leaves_the_picture_as_it_was() -> None:
    torch.manual_seed(0)
    block, x = Block(8, kernel_size=7, layer_scale=1.0, drop_path=0.5), torch.randn(64, 8, 4, 4)
    out = block.train()(x)
    kept = (out != x).flatten(1).any(1)
    assert 16 < kept.sum() < 48
    torch.testing.assert_close(out[kept] - x[kept], 2 * (block.eval()(x) - x)[kept])  # so that the mean stays


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_from_the_stem_on_memory_is_channels_last(layout: torch.memory_format) -> None:
    network, found = make(num_classes=10, **TOY), []

    def look(_: nn.Module, inputs: tuple[Tensor], out: Tensor) -> None:
        found.extend(t.is_contiguous(memory_format=torch.channels_last) for t in (*inputs, out))

    for module in network.modules():
        if isinstance(module, Block):
            module.register_forward_hook(look)
    network(torch.randn(2, 3, 32, 32).to(memory_format=layout))
    assert len(found) == 10
    assert all(found)


def rename(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


@pytest.mark.parametrize(
    ("rules", "theirs", "ours"),
    [
        (FROM_TIMM, "stages.2.blocks.8.gamma", "trunk.2.blocks.8.layer_scale"),
        (FROM_TIMM, "head.norm.weight", "norm.weight"),
        (FROM_TORCHVISION, "features.0.1.bias", "stem.1.bias"),
        (FROM_TORCHVISION, "features.4.1.weight", "trunk.2.downsample.1.weight"),
        (FROM_TORCHVISION, "features.5.8.block.5.weight", "trunk.2.blocks.8.mlp.fc2.weight"),
        (FROM_TORCHVISION, "features.5.2.layer_scale", "trunk.2.blocks.2.layer_scale"),
        (FROM_TORCHVISION, "classifier.2.bias", "fc.bias"),
    ],
)
def test_their_names_become_ours(rules: tuple[tuple[str, str], ...], theirs: str, ours: str) -> None:
    assert rename(theirs, rules) == ours
    assert ours in shadow().state_dict()
