import re

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from bakeoff.errors import RecipeError
from bakeoff.models.cost import cost
from bakeoff.models.mlp_mixer import FROM_TIMM, TokenLinear, mlp_mixer


def make(**options: object) -> nn.Module:
    return mlp_mixer(**{"num_classes": 100, "in_channels": 3, "image_size": 32, **options})  # type: ignore[arg-type]


def count(**options: object) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in make(**options).parameters())


def tokens(image_size: int, **options: object) -> tuple[int, ...]:
    """Return the shape of what goes from the last block to the head."""
    shapes = []
    with torch.device("meta"):
        network = make(image_size=image_size, **options)
        last = network.get_submodule(network.stages[-1])  # type: ignore[index, arg-type]
        last.register_forward_hook(lambda _m, _x, out: shapes.append(tuple(out.shape[1:])))
        network(torch.empty(1, 3, image_size, image_size))
    return shapes[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 3_738_148),
        ({"mlp_ratio": [32 / 192, 4]}, 3_639_076),
        ({"width": 768}, 57_417_316),
        ({"width": 768, "image_size": 224}, 59_188_372),
        # One block by hand: stem 4*4*3*8+8, norms 3*16, tokens 64*4+4 + 4*64+64, channels 8*16+16 + 16*8+8, head 9*100.
        ({"width": 8, "depth": 1, "mlp_ratio": (0.5, 2)}, 392 + 48 + 580 + 280 + 900),
    ],
)
def test_counts(options: dict[str, object], expected: int) -> None:
    assert count(**options) == expected


def test_multiply_adds_count_the_matrices_over_tokens() -> None:
    with torch.device("meta"):
        counted = cost(make(), (3, 32, 32))
    block = 2 * 64 * 96 * 192 + 2 * 64 * 192 * 768
    assert counted.macs == 64 * 48 * 192 + 12 * block + 192 * 100 == 255_412_992


def test_the_number_of_tokens_follows_picture_and_patch() -> None:
    assert [tokens(size) for size in (32, 64, 224)] == [(64, 192), (256, 192), (196, 192)]
    assert tokens(32, patch_size=2) == (256, 192)
    assert tokens(28) == (49, 192)
    assert tokens(4) == (1, 192)


def test_a_matrix_over_tokens_is_one_over_the_last_axis_transposed() -> None:
    torch.manual_seed(0)
    matrix, x = TokenLinear(5, 7).double(), torch.randn(2, 5, 3, dtype=torch.float64)
    expected = F.linear(x.transpose(1, 2), matrix.weight, matrix.bias).transpose(1, 2)
    torch.testing.assert_close(matrix(x), expected)


def test_drop_path_is_linear_in_depth_and_off_unless_asked_for() -> None:
    assert [block.drop_path.rate for block in make(depth=3).blocks] == [0, 0, 0]  # type: ignore[union-attr]
    rates = [block.drop_path.rate for block in make(depth=3, drop_path=0.2).blocks]  # type: ignore[union-attr]
    assert rates == pytest.approx([0, 0.1, 0.2])


def test_first_weights_have_the_variance_of_the_official_code() -> None:
    torch.manual_seed(0)
    state = make(width=768, depth=1).state_dict()
    assert state["stem.weight"].std().item() == pytest.approx(48**-0.5, rel=0.02)
    assert state["blocks.0.mlp_tokens.fc1.weight"].std().item() == pytest.approx(64**-0.5, rel=0.02)
    assert state["blocks.0.mlp_channels.fc2.weight"].std().item() == pytest.approx(3072**-0.5, rel=0.02)
    assert state["head.weight"].std().item() == pytest.approx(0.01, rel=0.02)
    assert all(not value.any() for key, value in state.items() if key.endswith("bias"))


def test_weights_of_timm_load_after_renaming() -> None:
    with torch.device("meta"):
        theirs = timm.create_model("mixer_b16_224", num_classes=100).state_dict()
        ours = make(width=768, image_size=224).state_dict()
    for pattern, replacement in FROM_TIMM:
        theirs = {re.sub(pattern, replacement, key): value for key, value in theirs.items()}
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 5}, r"model\.patch_size: found 5; expected auto, or a divisor of the picture's 32 px"),
        ({"patch_size": 0}, r"model\.patch_size: found 0"),
        ({"patch_size": "large"}, r"model\.patch_size: found 'large'"),
        ({"image_size": 30}, r"model\.patch_size: found 4; .* 30 px"),
        ({"image_size": 2}, r"model\.patch_size: found 4; .* 2 px"),
        ({"image_size": 200}, r"model\.patch_size: found 16; .* 200 px"),
        ({"mlp_ratio": [4]}, r"model\.mlp_ratio: found \[4\]; expected two ratios"),
        ({"mlp_ratio": [0.001, 4]}, r"model\.mlp_ratio: found \[0.001, 4\]"),
        ({"width": 0}, r"model\.width: found 0"),
        ({"depth": 0}, r"model\.depth: found 0"),
        ({"drop_path": 1.0}, r"model\.drop_path: found 1"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(**options)
