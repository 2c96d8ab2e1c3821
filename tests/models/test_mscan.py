"""MSCAN: its cost by hand, its two forms, its first weights, and what its options refuse."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from bakeoff.errors import RecipeError
from bakeoff.models.cost import cost
from bakeoff.models.gated import GatedNet
from bakeoff.models.layers import DropPath
from bakeoff.models.mscan import MultiScaleGate, mscan

TINY = {"widths": (32, 64, 160, 256), "depths": (3, 3, 5, 2), "mlp_ratios": (8, 8, 4, 4)}
MICRO = {"widths": (32, 64, 160), "depths": (1, 1, 2), "mlp_ratios": (8, 8, 4)}
SMALL = {"widths": (8, 16), "depths": (2, 3), "mlp_ratios": (2, 2)}


def make(image_size: int = 32, in_channels: int = 3, **options: object) -> GatedNet:
    torch.manual_seed(0)
    return mscan(num_classes=100, in_channels=in_channels, image_size=image_size, **options)  # type: ignore[arg-type]


def on_meta(image_size: int = 32, **options: object) -> GatedNet:
    with torch.device("meta"):
        return make(image_size, **options)


def stage_sizes(network: GatedNet, image_size: int) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    for stage in network.stages:
        network.get_submodule(stage).register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    network.eval()(torch.empty(1, 3, image_size, image_size, device="meta"))
    return shapes


def counted_by_hand(widths: tuple[int, ...], depths: tuple[int, ...], mlp_ratios: tuple[int, ...]) -> int:
    def block(c: int, ratio: int) -> int:
        gate = sum(c * (k + 1) for k in (25, 7, 7, 11, 11, 21, 21)) + c * c + c
        attention = gate + 2 * (c * c + c)
        hidden = ratio * c
        mlp = (c * hidden + hidden) + hidden * (9 + 1) + (hidden * c + c)
        return attention + mlp + 2 * 2 * c + 2 * c  # two BatchNorms, two layer scales

    half = widths[0] // 2
    stem = 9 * 3 * half + half + 2 * half + 9 * half * widths[0] + widths[0] + 2 * widths[0]
    downsampling = sum(9 * a * b + b + 2 * b for a, b in pairwise(widths))
    blocks = sum(depth * block(c, ratio) for c, depth, ratio in zip(widths, depths, mlp_ratios, strict=True))
    return stem + downsampling + blocks + sum(2 * c for c in widths) + widths[-1] * 100 + 100


@pytest.mark.parametrize(("options", "params", "macs"), [(TINY, 3_929_284, 288_480_256), (MICRO, 865_988, 103_132_800)])
def test_the_cost_is_that_of_the_official_backbone(options: dict[str, tuple[int, ...]], params: int, macs: int) -> None:
    """The design notes say 512 and 192 less: they left out the LayerNorms of the stages before the last."""
    counted = cost(on_meta(**options), (3, 32, 32))
    assert (counted.params, counted.macs) == (params, macs)
    assert params == counted_by_hand(**options)


def test_the_defaults_are_mscan_t_and_lists_do_as_well() -> None:
    shapes = {key: value.shape for key, value in on_meta().state_dict().items()}
    listed = on_meta(**{key: list(value) for key, value in TINY.items()}).state_dict()
    assert shapes == {key: value.shape for key, value in listed.items()}


@pytest.mark.parametrize(
    ("image_size", "sizes"), [(32, [32, 16, 8, 4]), (64, [64, 32, 16, 8]), (224, [56, 28, 14, 7]), (9, [9, 5, 3, 2])]
)
def test_stages_halve_the_picture(image_size: int, sizes: list[int]) -> None:
    expected = [(c, size, size) for c, size in zip(TINY["widths"], sizes, strict=True)]
    assert stage_sizes(on_meta(image_size), image_size) == expected


def test_the_stem_can_be_asked_for_and_changes_no_weight() -> None:
    small, large = on_meta(stem="small"), on_meta(stem="imagenet")
    assert [s[1] for s in stage_sizes(large, 32)] == [8, 4, 2, 1]
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (small, large)]
    assert shapes[0] == shapes[1]


def test_the_gate_sees_a_cross_of_25_pixels_with_a_core() -> None:
    torch.manual_seed(0)
    gate, x = MultiScaleGate(2), torch.ones(1, 2, 31, 31, requires_grad=True)
    seen: list[torch.Tensor] = []
    gate.mix.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    gate(x)
    (gradient,) = torch.autograd.grad(seen[0][0, 0, 15, 15], x)
    rows, columns = gradient[0, 0].nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 27, 3, 27)  # 15 -+ (2 + 10)
    assert not gradient[0, 1].any()  # channel by channel


def test_no_strip_moves_or_shrinks_a_small_map() -> None:
    gate = MultiScaleGate(4)
    for size in ((4, 4), (1, 1), (2, 5)):
        assert gate(torch.randn(1, 4, *size)).shape == (1, 4, *size)


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


def test_both_branches_of_a_block_are_dropped() -> None:
    block = make(**SMALL, drop_path=0.5).get_submodule("stage2.blocks.2")
    for parameter in block.parameters():
        nn.init.constant_(parameter, 0.3)
    x = torch.randn(64, 16, 4, 4)
    added = (block(x) - x).flatten(1).abs().amax(1)
    assert 6 <= (added == 0).sum() <= 28  # both dropped: a quarter; one alone would be a half, or none


def test_the_smallest_picture_is_one_pixel_of_one_channel() -> None:
    assert make(1, in_channels=1, **SMALL).eval()(torch.randn(2, 1, 1, 1)).shape == (2, 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": (1, 2)}, r"model\.depths: found 2 numbers; expected 4, one a stage as in widths"),
        ({"mlp_ratios": (8, 8, 4, 4, 4)}, r"model\.mlp_ratios: found 5 numbers; expected 4"),
        ({"widths": ()}, r"model\.widths: found 0 numbers; expected one a stage"),
        ({"widths": (32, 64, 1, 256)}, r"model\.widths: found \[32, 64, 1, 256\]; expected numbers of 2 or more"),
        ({"depths": (3, 0, 5, 2)}, r"model\.depths: found \[3, 0, 5, 2\]; expected numbers of 1 or more"),
        ({"mlp_ratios": (8, 8, 4, 0)}, r"model\.mlp_ratios: .*expected numbers of 0\.5 or more"),
        ({"mlp_ratios": (8, 8, 4, math.nan)}, r"model\.mlp_ratios"),
        ({"layer_scale": 0}, r"model\.layer_scale: found 0; expected a number above 0"),
        ({"layer_scale": math.nan}, r"model\.layer_scale"),
        ({"drop_path": 1.0}, r"model\.drop_path: found 1\.0"),
        ({"stem": "large"}, r"model\.stem: found 'large'; expected auto, small or imagenet"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(**options)
