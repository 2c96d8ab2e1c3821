import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bakeoff.errors import RecipeError
from bakeoff.models.cct import Tokenizer, cct, sine_positions
from bakeoff.models.cost import cost


def make(**options: object) -> nn.Module:
    return cct(**{"num_classes": 100, "in_channels": 3, "image_size": 32, **options})  # type: ignore[arg-type]


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
    # The official class has one more: the bias of its pooling.
    [
        ({"num_classes": 10}, 3_760_139 - 1),
        ({}, 3_783_268),
        ({"image_size": 16, "positions": "sine", "num_classes": 10}, 3_694_603 - 1),
        ({"image_size": 64, "stem": "imagenet", "num_classes": 10}, 4_504_011 - 1),
    ],
)
def test_counts_are_the_official_ones(options: dict[str, object], expected: int) -> None:
    assert count(**options) == expected


def test_multiply_adds_include_the_attention() -> None:
    with torch.device("meta"):
        counted = cost(make(), (3, 32, 32))
    n, c = 256, 256
    block = n * c * (3 * c + c + 2 * 2 * c) + 2 * n * n * c
    assert counted.macs == 32 * 32 * 27 * c + 7 * block + n * c + n * c + c * 100 == 1_181_639_680


def test_the_number_of_tokens_follows_picture_and_tokenizer() -> None:
    assert [tokens(size) for size in (32, 64, 224)] == [(256, 256), (1024, 256), (196, 256)]
    assert tokens(64, stem="imagenet") == (16, 256)
    assert tokens(31) == (256, 256)
    assert tokens(2) == (1, 256)


@pytest.mark.parametrize("stem", ["small", "imagenet"])
def test_the_tokenizer_is_convolution_relu_pooling(stem: str) -> None:
    torch.manual_seed(0)
    tokenizer, x = Tokenizer(3, 8, stem=stem), torch.randn(2, 3, 17, 17)
    expected = x
    for module in tokenizer:
        if isinstance(module, nn.Conv2d):
            expected = F.max_pool2d(module(expected).relu(), 3, stride=2, padding=1)
    assert expected.shape[2] == (9 if stem == "small" else 2)
    torch.testing.assert_close(tokenizer(x), expected.flatten(2).transpose(1, 2))


def test_sine_positions_are_those_of_the_transformer() -> None:
    table = sine_positions(20, 6)
    assert table.shape == (1, 20, 6)
    assert table.dtype == torch.float32
    assert table[0, 0].tolist() == [0, 1, 0, 1, 0, 1]
    assert table[0, 19, 2].item() == pytest.approx(math.sin(19 / 10_000 ** (2 / 6)), abs=1e-6)
    assert table[0, 19, 5].item() == pytest.approx(math.cos(19 / 10_000 ** (4 / 6)), abs=1e-6)


def test_without_positions_the_order_of_the_tokens_does_not_matter() -> None:
    torch.manual_seed(0)
    shuffled = torch.randperm(64)
    for positions, same in (("none", True), ("learnable", False), ("sine", False)):
        network = make(image_size=16, depth=2, positions=positions).eval()
        x = torch.randn(1, 64, 256)
        network.tokenizer = nn.Identity()
        with torch.no_grad():
            assert torch.allclose(network(x), network(x[:, shuffled]), atol=1e-5) == same, positions


def test_the_stream_itself_is_normed_between_attention_and_mlp() -> None:
    torch.manual_seed(0)
    block = make(depth=1).blocks[0].eval()  # type: ignore[union-attr, index]
    nn.init.zeros_(block.linear2.weight)
    x = torch.randn(2, 9, 256)
    attended = x + block.self_attn(block.pre_norm(x))
    torch.testing.assert_close(block(x), F.layer_norm(attended, (256,)))


@pytest.mark.parametrize("option", ["dropout", "attention_dropout", "drop_path"])
def test_each_kind_of_dropping_acts_while_training_only(option: str) -> None:
    torch.manual_seed(0)
    network, x = make(image_size=8, depth=2, num_heads=2, width=16, **{option: 0.5}), torch.randn(4, 3, 8, 8)
    plain = make(image_size=8, depth=2, num_heads=2, width=16)
    plain.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert not torch.equal(network.train()(x), network(x))
        torch.testing.assert_close(network.eval()(x), plain.train()(x), rtol=0, atol=1e-6)


def test_first_weights_are_those_of_the_official_code() -> None:
    torch.manual_seed(0)
    state = make(depth=1).state_dict()
    assert state["tokenizer.0.weight"].std().item() == pytest.approx((2 / 27) ** 0.5, rel=0.03)
    assert state["blocks.0.self_attn.qkv.weight"].std().item() == pytest.approx(0.02, rel=0.03)
    assert state["fc.weight"].std().item() == pytest.approx(0.02, rel=0.03)
    assert state["position_table"].std().item() == pytest.approx(0.2, rel=0.03)
    assert all(not value.any() for key, value in state.items() if key.endswith("bias"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, r"model\.num_heads: found 3; expected a divisor of the width, 256"),
        ({"num_heads": 0}, r"model\.num_heads: found 0"),
        ({"width": 0}, r"model\.width: found 0"),
        ({"depth": 0}, r"model\.depth: found 0"),
        ({"mlp_ratio": 0}, r"model\.mlp_ratio: found 0"),
        ({"positions": "cosine"}, r"model\.positions: found 'cosine'; expected learnable or sine or none"),
        ({"stem": "huge"}, r"model\.stem: found 'huge'"),
        ({"dropout": 1.0}, r"model\.dropout: found 1"),
        ({"attention_dropout": -0.1}, r"model\.attention_dropout: found -0.1"),
        ({"drop_path": 1.0}, r"model\.drop_path: found 1"),
        ({"image_size": 1}, r"found pictures of 1 px; expected 2 px"),
        ({"image_size": 8, "stem": "imagenet"}, r"found pictures of 8 px; expected 16 px"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(**options)
