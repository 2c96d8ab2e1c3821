"""LSKNet: its cost by hand, its two forms, its first weights, and what its options refuse."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from bakeoff.errors import RecipeError
from bakeoff.models.attention.lsk import LSK
from bakeoff.models.cost import cost
from bakeoff.models.gated import GatedNet
from bakeoff.models.layers import DropPath
from bakeoff.models.lsknet import lsknet

WIDTHS, DEPTHS, MLP_RATIOS = (32, 64, 160, 256), (3, 3, 5, 2), (8, 8, 4, 4)
SMALL = {"widths": [8, 16], "depths": [2, 3], "mlp_ratios": [2, 2]}


def make(image_size: int = 32, in_channels: int = 3, **options: object) -> GatedNet:
    torch.manual_seed(0)
    return lsknet(num_classes=100, in_channels=in_channels, image_size=image_size, **options)  # type: ignore[arg-type]


def on_meta(image_size: int = 32, **options: object) -> GatedNet:
    with torch.device("meta"):
        return make(image_size, **options)


def stage_sizes(network: GatedNet, image_size: int) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    for stage in network.stages:
        network.get_submodule(stage).register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    network.eval()(torch.empty(1, 3, image_size, image_size, device="meta"))
    return shapes


def counted_by_hand() -> int:
    def block(c: int, ratio: int) -> int:
        half, hidden = c // 2, ratio * c
        gate = c * (25 + 1) + c * (49 + 1) + 2 * (c * half + half) + (2 * 2 * 49 + 2) + (half * c + c)
        attention = gate + 2 * (c * c + c)
        mlp = (c * hidden + hidden) + hidden * (9 + 1) + (hidden * c + c)
        return attention + mlp + 2 * 2 * c + 2 * c  # two BatchNorms, two layer scales

    stem = 49 * 3 * WIDTHS[0] + WIDTHS[0] + 2 * WIDTHS[0]
    downsampling = sum(9 * a * b + b + 2 * b for a, b in pairwise(WIDTHS))
    blocks = sum(depth * block(c, ratio) for c, depth, ratio in zip(WIDTHS, DEPTHS, MLP_RATIOS, strict=True))
    return stem + downsampling + blocks + sum(2 * c for c in WIDTHS) + WIDTHS[-1] * 100 + 100


def test_the_cost_is_that_of_the_official_backbone() -> None:
    counted = cost(on_meta(), (3, 32, 32))
    assert (counted.params, counted.macs) == (4_015_890, 291_249_536)
    assert counted.params == counted_by_hand()


@pytest.mark.parametrize(
    ("image_size", "sizes"), [(32, [32, 16, 8, 4]), (64, [64, 32, 16, 8]), (224, [56, 28, 14, 7]), (9, [9, 5, 3, 2])]
)
def test_stages_halve_the_picture(image_size: int, sizes: list[int]) -> None:
    expected = [(c, size, size) for c, size in zip(WIDTHS, sizes, strict=True)]
    assert stage_sizes(on_meta(image_size), image_size) == expected


def test_the_stem_can_be_asked_for_and_changes_no_weight() -> None:
    small, large = on_meta(stem="small"), on_meta(stem="imagenet")
    assert [s[1] for s in stage_sizes(large, 32)] == [8, 4, 2, 1]
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (small, large)]
    assert shapes[0] == shapes[1]


def test_every_block_selects_its_kernel() -> None:
    assert sum(isinstance(module, LSK) for module in on_meta().modules()) == sum(DEPTHS)


def test_first_weights() -> None:
    network = make()
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 1000:
            fan_out = math.prod(module.kernel_size) * module.out_channels / module.groups
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)
            assert module.bias is not None
            assert not module.bias.any()
    assert network.head.weight.std().item() == pytest.approx(0.02, rel=0.05)
    scales = [value for key, value in network.named_parameters() if "layer_scale" in key]
    assert len(scales) == 26
    assert all(value.ndim == 1 and torch.equal(value, torch.full_like(value, 0.01)) for value in scales)


def test_layer_scale_and_drop_path_reach_the_blocks() -> None:
    network = make(**SMALL, layer_scale=1, drop_path=0.4)
    assert all((v == 1.0).all() for key, v in network.named_parameters() if "layer_scale" in key)
    rates = [module.rate for module in network.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    x = torch.randn(4, 3, 8, 8)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_the_smallest_picture_is_one_pixel_of_one_channel() -> None:
    assert make(1, in_channels=1, **SMALL).eval()(torch.randn(2, 1, 1, 1)).shape == (2, 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": (1, 2)}, r"model\.depths: found 2 numbers; expected 4, one a stage as in widths"),
        ({"mlp_ratios": ()}, r"model\.mlp_ratios: found 0 numbers; expected 4"),
        ({"widths": ()}, r"model\.widths: found 0 numbers; expected one a stage"),
        ({"widths": (32, 64, 1, 256)}, r"model\.widths: found \[32, 64, 1, 256\]; expected numbers of 2 or more"),
        ({"depths": (3, 0, 5, 2)}, r"model\.depths: found \[3, 0, 5, 2\]; expected numbers of 1 or more"),
        ({"mlp_ratios": (8, 8, 4, math.inf)}, r"model\.mlp_ratios: .*expected numbers of 0\.5 or more"),
        ({"layer_scale": -1.0}, r"model\.layer_scale: found -1\.0; expected a number above 0"),
        ({"drop_path": -0.1}, r"model\.drop_path: found -0\.1"),
        ({"stem": "large"}, r"model\.stem: found 'large'; expected auto, small or imagenet"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(**options)
