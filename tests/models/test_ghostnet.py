"""GhostNet and Ghost-ResNet: counts by hand and by the paper, forms, ratios, copies, mistakes."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.cost import cost, fingerprint
from bakeoff.models.ghostnet import GhostModule, ghost_resnet, ghostnet, round_to_4
from bakeoff.models.resnet import small_resnet

Builder = Callable[..., nn.Module]


def on_meta(builder: Builder, *, num_classes: int = 100, image_size: int = 32, **options: object) -> Any:
    with torch.device("meta"):
        return builder(num_classes=num_classes, in_channels=3, image_size=image_size, **options)


def num_params(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def stage_shapes(network: Any, size: int) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []

    def note(module: nn.Module, inputs: object, out: Tensor) -> None:
        shapes.append(tuple(out.shape[1:]))

    for stage in network.stages:
        network.get_submodule(stage).register_forward_hook(note)
    network.eval()(torch.empty(1, 3, size, size, device="meta"))
    return shapes


def count_ghost_resnet(*, num_blocks: int, num_classes: int, ratio: int | str) -> int:
    """Count by hand: stem, modules, projections, matrix; a convolution's norm has two numbers a channel."""

    def module(in_width: int, width: int) -> int:
        parts = 2 if ratio == "copy" else ratio
        primary = math.ceil(width / parts)
        cheap = 0 if ratio == "copy" else primary * (parts - 1)
        return 9 * in_width * primary + 2 * primary + 9 * cheap + 2 * cheap

    total = 27 * 16 + 2 * 16
    for in_width, width in ((16, 16), (16, 32), (32, 64)):
        total += module(in_width, width) + (2 * num_blocks - 1) * module(width, width)
        total += in_width * width + 2 * width if in_width != width else 0
    return total + 65 * num_classes


@pytest.mark.parametrize(
    ("depth", "ratio", "params"),
    [
        (20, 2, 147_716),
        (32, 2, 247_396),
        (56, 2, 446_756),
        (20, 3, 107_636),
        (20, 4, 82_412),
        (20, "copy", 144_020),
        (20, 1, 278_324),
    ],
)
def test_ghost_resnet_has_the_parameters_counted_by_hand(depth: int, ratio: int | str, params: int) -> None:
    by_hand = count_ghost_resnet(num_blocks=(depth - 2) // 6, num_classes=100, ratio=ratio)
    assert num_params(on_meta(ghost_resnet, depth=depth, ratio=ratio)) == by_hand == params


def test_the_seed_had_a_second_norm_after_every_module() -> None:
    # Its logs say 149,060 and 249,636; ratio 3 and 4: 108,980 and 83,756.
    logged = {(20, 2): 149_060, (32, 2): 249_636, (20, 3): 108_980, (20, 4): 83_756}
    for (depth, ratio), params in logged.items():
        norms = (depth - 2) // 6 * 2 * 2 * (16 + 32 + 64)
        assert num_params(on_meta(ghost_resnet, depth=depth, ratio=ratio)) == params - norms


def test_ghost_resnet_56_has_the_size_that_the_paper_says() -> None:
    assert num_params(on_meta(ghost_resnet, depth=56, num_classes=10)) == 440_906  # 0.43 M in the paper


@pytest.mark.parametrize(("width", "millions"), [(0.5, 2.6), (1.0, 5.2), (1.3, 7.3)])
def test_ghostnet_has_the_size_that_the_paper_says(width: float, millions: float) -> None:
    network = on_meta(ghostnet, width=width, num_classes=1000, image_size=224)
    assert num_params(network) / 1e6 == pytest.approx(millions, rel=0.01)


def test_ghostnet_at_224_pixels_costs_what_the_paper_says() -> None:
    network = on_meta(ghostnet, num_classes=1000, image_size=224)
    assert cost(network, (3, 224, 224)).macs / 1e6 == pytest.approx(141, rel=0.01)


def test_both_forms_have_the_same_weights_and_other_strides() -> None:
    small, large = on_meta(ghostnet), on_meta(ghostnet, image_size=224)
    assert [(k, v.shape) for k, v in small.state_dict().items()] == [
        (k, v.shape) for k, v in large.state_dict().items()
    ]
    assert num_params(small) == num_params(large) == 4_029_608
    assert cost(small, (3, 32, 32)).macs == 43_237_952
    assert cost(large, (3, 32, 32)).macs < 6e6


@pytest.mark.parametrize(
    ("size", "sides"), [(32, [32, 16, 8, 4]), (64, [64, 32, 16, 8]), (224, [56, 28, 14, 7]), (128, [32, 16, 8, 4])]
)
def test_the_stages_of_ghostnet(size: int, sides: list[int]) -> None:
    shapes = stage_shapes(on_meta(ghostnet, image_size=size), size)
    assert shapes == [(width, side, side) for width, side in zip((24, 40, 112, 960), sides, strict=True)]


def test_the_stages_of_ghost_resnet() -> None:
    assert stage_shapes(on_meta(ghost_resnet), 32) == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


@pytest.mark.parametrize("depth", [20, 32, 56])
def test_ratio_1_is_the_residual_network_itself(depth: int) -> None:
    dense, plain = on_meta(ghost_resnet, depth=depth, ratio=1), on_meta(small_resnet, depth=depth)
    assert fingerprint(dense, (3, 32, 32)) == fingerprint(plain, (3, 32, 32))
    assert fingerprint(on_meta(ghost_resnet, depth=depth), (3, 32, 32)) != fingerprint(plain, (3, 32, 32))


@pytest.mark.parametrize(("ratio", "num_primary"), [(1, 16), (2, 8), (3, 6), (4, 4), (5, 4), (16, 1), ("copy", 8)])
def test_a_ghost_module_computes_the_first_channels_by_its_convolution(ratio: int | str, num_primary: int) -> None:
    torch.manual_seed(0)
    module = GhostModule(3, 16, kernel_size=3, stride=2, ratio=ratio).eval()
    x = torch.randn(2, 3, 8, 8)
    out, primary = module(x), module.primary_conv(x)
    assert out.shape == (2, 16, 4, 4)
    assert primary.shape[1] == num_primary
    assert torch.equal(out[:, :num_primary], primary)
    if ratio == "copy":
        assert torch.equal(out[:, 8:], primary)


def test_each_cheap_channel_looks_at_one_channel_only() -> None:
    torch.manual_seed(0)
    module = GhostModule(3, 16, kernel_size=1, ratio=4, relu=False).eval()
    primary = torch.randn(1, 4, 6, 6, requires_grad=True)
    cheap = module.cheap_operation(primary)
    for channel in range(12):
        (gradient,) = torch.autograd.grad(cheap[:, channel].sum(), primary, retain_graph=True)
        assert gradient.abs().sum((0, 2, 3)).nonzero().flatten().tolist() == [channel // 3]


def test_only_the_first_module_of_a_block_ends_in_a_relu() -> None:
    networks = on_meta(ghostnet), on_meta(ghost_resnet, depth=8)
    for network in networks:
        for name, module in network.named_modules():
            if isinstance(module, GhostModule):
                ends = [any(isinstance(m, nn.ReLU) for m in part) for part in module.children()]
                assert ends == [name.endswith("ghost1")] * 2


def test_dropout_stands_before_the_classifier_and_is_off() -> None:
    torch.manual_seed(0)
    network = ghostnet(num_classes=10, in_channels=1, image_size=32, width=0.1, dropout=0.5)
    seen: list[Tensor] = []
    network.classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.randn(4, 1, 32, 32)
    network.train()(x)
    network.eval()(x)
    zeros = [(features == 0).float().mean().item() for features in seen]
    assert seen[0].shape == (4, 1280)
    assert zeros[0] > zeros[1] + 0.1
    assert not any(isinstance(module, nn.Dropout) for module in on_meta(ghostnet).modules())


@pytest.mark.parametrize(
    ("width", "rounded"), [(1, 4), (6, 8), (5.9, 4 + 4), (16, 16), (18, 20), (20.8, 20), (172 * 0.25, 44)]
)
def test_widths_are_rounded_to_multiples_of_4_but_never_below_nine_tenths(width: float, rounded: int) -> None:
    assert round_to_4(width) == rounded


@pytest.mark.parametrize(
    ("builder", "options", "message"),
    [
        (ghostnet, {"width": 0}, r"model\.width: found 0; expected a factor"),
        (ghostnet, {"width": float("nan")}, r"model\.width"),
        (ghostnet, {"width": 100.0}, r"model\.width"),
        (ghostnet, {"dropout": 1.0}, r"model\.dropout: found 1\.0"),
        (ghostnet, {"dropout": -0.1}, r"model\.dropout"),
        (ghostnet, {"stem": "huge"}, r"model\.stem: found 'huge'"),
        (ghost_resnet, {"depth": 21}, r"model\.depth: found 21; expected 6n \+ 2"),
        (ghost_resnet, {"depth": 2}, r"model\.depth"),
        (ghost_resnet, {"ratio": 0}, r"model\.ratio: found 0; expected a whole number"),
        (ghost_resnet, {"ratio": 17}, r"model\.ratio"),
        (ghost_resnet, {"ratio": "copies"}, r"model\.ratio: found 'copies'"),
    ],
)
def test_mistakes_are_named(builder: Builder, options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        builder(num_classes=10, in_channels=3, image_size=32, **options)
