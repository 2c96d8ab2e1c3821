"""What is special about HorNet: its counts, its recursive gated convolution, its options."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.cost import cost
from bakeoff.models.frames import TrunkNet
from bakeoff.models.hornet import Block, RecursiveGatedConv, hornet

MICRO: dict[str, Any] = {"widths": (32, 64, 128, 256), "depths": (3, 3, 9, 3)}
TOY: dict[str, Any] = {"depths": (1, 1, 2, 1), "widths": [8, 16, 24, 32], "orders": [1, 2, 3, 4]}


def make(*, image_size: int = 32, **options: Any) -> TrunkNet:
    return hornet(num_classes=100, in_channels=3, image_size=image_size, **options)


def shadow(**options: Any) -> TrunkNet:
    with torch.device("meta"):
        return make(**options)


@pytest.mark.parametrize(
    ("options", "params", "macs"),
    [
        ({}, 21_947_812, 323_959_552),
        ({"stem": "imagenet"}, 21_947_812, 81_028_288),
        ({"stem": "3x3"}, 21_946_468, 1_294_308_352),
        (MICRO, 4_632_132, 61_696_576),
    ],
    ids=["tiny", "tiny, imagenet", "tiny, 3x3", "micro"],
)
def test_cost(options: dict[str, Any], params: int, macs: int) -> None:
    counted = cost(shadow(**options), (3, 32, 32))
    assert (counted.params, counted.macs) == (params, macs)


@pytest.mark.parametrize(
    ("stem", "image_size", "sizes"),
    [
        ("auto", 32, [16, 8, 4, 2]),
        ("auto", 64, [32, 16, 8, 4]),
        ("auto", 224, [56, 28, 14, 7]),
        ("auto", 16, [8, 4, 2, 1]),
        ("3x3", 8, [8, 4, 2, 1]),
        ("imagenet", 32, [8, 4, 2, 1]),
    ],
)
def test_stage_sizes(stem: str, image_size: int, sizes: list[int]) -> None:
    network, found = shadow(stem=stem, image_size=image_size, **TOY), []

    def look(_: nn.Module, __: object, out: Tensor) -> None:
        found.append(out.shape[2])

    for stage in network.stages:
        network.get_submodule(stage).register_forward_hook(look)
    network(torch.empty(1, 3, image_size, image_size, device="meta"))
    assert found == sizes


def test_the_small_and_the_papers_stem_share_their_weights() -> None:
    small, large = (shadow(stem=stem).state_dict() for stem in ("small", "imagenet"))
    assert {key: value.shape for key, value in small.items()} == {key: value.shape for key, value in large.items()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "7x7"}, r"model\.stem: found '7x7'"),
        ({"depths": []}, r"model\.depths: found \[\]"),
        ({"depths": (3, 0, 9, 3)}, r"model\.depths: found \[3, 0, 9, 3\]"),
        ({"orders": (2, 3)}, r"model\.orders: found \[2, 3\]; expected 4 numbers"),
        ({"orders": (0, 1, 2, 3)}, r"model\.orders"),
        ({"widths": (64, 128)}, r"model\.widths: found \[64, 128\]; expected 4 numbers"),
        ({"widths": (64, 128, 260, 512)}, r"model\.widths: found 260; expected a number divisible by 8: 4 gates"),
        ({"kernel_size": 4}, r"model\.kernel_size: found 4; expected an odd number"),
        ({"scale": -1.0}, r"model\.scale: found -1\.0"),
        ({"layer_scale": 0.0}, r"model\.layer_scale: found 0\.0"),
        ({"drop_path": -0.1}, r"model\.drop_path"),
        ({"image_size": 15}, r"found pictures of 15 px; expected 16 px or more"),
        ({"image_size": 31, "stem": "imagenet"}, r"expected 32 px or more"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(**options)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_gated_convolution_is_equation_3(order: int) -> None:
    """By hand: gate after gate, the filters unscaled and the features divided, one filter a channel."""
    torch.manual_seed(0)
    layer = RecursiveGatedConv(8, order=order, kernel_size=5, scale=0.25).double()
    x = torch.randn(2, 6, 6, 8, dtype=torch.float64)
    state = layer.state_dict()

    def matrix(x: Tensor, key: str) -> Tensor:
        return torch.einsum("bhwi,oi->bhwo", x, state[f"{key}.weight"]) + state[f"{key}.bias"]

    widths = [8 // 2 ** (order - 1 - i) for i in range(order)]
    projected = matrix(x, "proj_in")
    y, features = projected[..., : widths[0]], projected[..., widths[0] :]
    padded = torch.zeros(2, 10, 10, features.shape[-1], dtype=torch.float64)
    padded[:, 2:8, 2:8] = features
    gates = torch.zeros_like(features) + state["dwconv.bias"]
    for i in range(5):
        for j in range(5):
            gates = gates + padded[:, i : i + 6, j : j + 6] * state["dwconv.weight"][:, 0, i, j]
    gates, start = gates / 4, 0
    for i, width in enumerate(widths):
        y = (matrix(y, f"pws.{i - 1}") if i else y) * gates[..., start : start + width]
        start += width
    torch.testing.assert_close(layer(x), matrix(y, "proj_out"))


def test_a_neighbour_matters_in_as_high_an_order_as_asked() -> None:
    """Without biases, doubling the input multiplies the output by 2^(order + 1)."""
    torch.manual_seed(0)
    for order in (1, 2, 3):
        layer = RecursiveGatedConv(8, order=order, kernel_size=3, scale=1.0).double()
        for key, value in layer.named_parameters():
            if key.endswith("bias"):
                nn.init.zeros_(value)
        x = torch.randn(1, 4, 4, 8, dtype=torch.float64)
        torch.testing.assert_close(layer(2 * x), 2 ** (order + 1) * layer(x))


def test_options_reach_their_layers() -> None:
    network = shadow(drop_path=0.4, kernel_size=5, scale=0.5, **TOY)
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    assert [block.drop_path.rate for block in blocks] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert [len(block.gnconv.widths) for block in blocks] == [1, 2, 3, 3, 4]
    assert {block.gnconv.dwconv.kernel_size for block in blocks} == {(5, 5)}
    assert {block.gnconv.dwconv.scale for block in blocks} == {0.5}


def test_first_weights() -> None:
    torch.manual_seed(0)
    network = make(**MICRO)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.15)
            assert module.bias is not None
            assert not module.bias.any()
        elif isinstance(module, Block):
            assert (module.layer_scale1 == 1e-6).all()
            assert (module.layer_scale2 == 1e-6).all()
