import re

import pytest
import timm
import torch
from torch import nn

from bakeoff.errors import RecipeError
from bakeoff.models.cost import cost
from bakeoff.models.gmlp import FROM_TIMM, SpatialGate, gmlp


def make(**options: object) -> nn.Module:
    return gmlp(**{"num_classes": 100, "in_channels": 3, "image_size": 32, **options})  # type: ignore[arg-type]


def count(**options: object) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in make(**options).parameters())


def tokens(image_size: int) -> tuple[int, ...]:
    """Return the shape of what goes from the last block to the head."""
    shapes = []
    with torch.device("meta"):
        network = make(image_size=image_size)
        last = network.get_submodule(network.stages[-1])  # type: ignore[index, arg-type]
        last.register_forward_hook(lambda _m, _x, out: shapes.append(tuple(out.shape[1:])))
        network(torch.empty(1, 3, image_size, image_size))
    return shapes[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 4_625_508),
        ({"image_size": 224}, 5_751_228),
        ({"image_size": 224, "num_classes": 1000}, 5_867_328),  # the paper prints 5.9 M
        # One block by hand: stem 4*4*3*8+8, norms 2*16, up 8*32+32, gate's norm 2*16 and matrix 64*64+64,
        # down 16*8+8, head 9*100.
        ({"width": 8, "depth": 1, "mlp_ratio": 4}, 392 + 32 + 288 + 32 + 4160 + 136 + 900),
    ],
)
def test_counts(options: dict[str, object], expected: int) -> None:
    assert count(**options) == expected


def test_multiply_adds_count_the_matrices_over_tokens() -> None:
    with torch.device("meta"):
        counted = cost(make(), (3, 32, 32))
    block = 64 * 128 * 768 + 64 * 64 * 384 + 64 * 384 * 128
    assert counted.macs == 64 * 48 * 128 + 30 * block + 128 * 100 == 330_707_456


def test_the_number_of_tokens_follows_the_picture() -> None:
    assert [tokens(size) for size in (32, 64, 224)] == [(64, 128), (256, 128), (196, 128)]


def test_a_gate_starts_open_and_lets_no_token_see_another() -> None:
    torch.manual_seed(0)
    gate = make(depth=1).blocks[0].gate  # type: ignore[union-attr, index]
    x = torch.randn(2, 64, 768)
    torch.testing.assert_close(gate(x), x[..., :384], rtol=0, atol=1e-3)


def test_a_gate_multiplies_the_first_half_by_the_second_normed_and_mixed() -> None:
    gate, x = SpatialGate(2, 3).double(), torch.randn(1, 3, 2, dtype=torch.float64)
    nn.init.constant_(gate.norm.bias, 3.0)  # of one channel the norm leaves its bias alone
    expected = x[..., :1] * (gate.proj.weight.sum(1) * 3 + gate.proj.bias)[None, :, None]
    torch.testing.assert_close(gate(x), expected)


def test_drop_path_is_linear_in_depth_and_off_unless_asked_for() -> None:
    assert [block.drop_path.rate for block in make(depth=3).blocks] == [0, 0, 0]  # type: ignore[union-attr]
    rates = [block.drop_path.rate for block in make(depth=3, drop_path=0.2).blocks]  # type: ignore[union-attr]
    assert rates == pytest.approx([0, 0.1, 0.2])


def test_first_weights() -> None:
    torch.manual_seed(0)
    state = make(depth=1).state_dict()
    assert state["blocks.0.gate.proj.weight"].std().item() == pytest.approx(1e-6, rel=0.05)
    assert (state["blocks.0.gate.proj.bias"] == 1).all()
    assert state["blocks.0.fc1.weight"].std().item() == pytest.approx(128**-0.5, rel=0.02)
    assert state["blocks.0.fc2.weight"].std().item() == pytest.approx(384**-0.5, rel=0.02)
    assert state["head.weight"].std().item() == pytest.approx(0.01, rel=0.03)


def test_weights_of_timm_load_after_renaming() -> None:
    with torch.device("meta"):
        theirs = timm.create_model("gmlp_ti16_224", num_classes=100).state_dict()
        ours = make(image_size=224).state_dict()
    for pattern, replacement in FROM_TIMM:
        theirs = {re.sub(pattern, replacement, key): value for key, value in theirs.items()}
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 5}, r"model\.patch_size: found 5; expected auto, or a divisor of the picture's 32 px"),
        ({"patch_size": "large"}, r"model\.patch_size: found 'large'"),
        ({"image_size": 30}, r"model\.patch_size: found 4; .* 30 px"),
        ({"width": 9, "mlp_ratio": 3}, r"model\.mlp_ratio: found 3; expected a ratio that makes 9 channels an even"),
        ({"mlp_ratio": 0}, r"model\.mlp_ratio: found 0"),
        ({"width": 0}, r"model\.width: found 0"),
        ({"depth": 0}, r"model\.depth: found 0"),
        ({"drop_path": -0.1}, r"model\.drop_path: found -0.1"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(**options)
