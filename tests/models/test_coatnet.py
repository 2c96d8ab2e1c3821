"""CoAtNet and the first course project's small CoAtNet: counts, sizes, the position bias, options, mistakes."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.attention.lsk import LSK
from bakeoff.models.attention.relative import RelativeAttention, number_offsets
from bakeoff.models.coatnet import coatnet
from bakeoff.models.coatnet_cifar import coatnet_cifar
from bakeoff.models.cost import cost, fingerprint
from bakeoff.models.layers import DropPath
from bakeoff.optim import decay_groups

Builder = Callable[..., nn.Module]
TINY: dict[str, Any] = {"widths": (8, 8, 16, 16), "depths": (1, 1, 1, 2), "stem_width": 8, "head_width": 8}
TINY_CIFAR: dict[str, Any] = {"widths": (8, 8, 8, 16, 16), "depths": (1, 2, 1, 1, 2), "num_heads": 2}
both = pytest.mark.parametrize(("builder", "tiny"), [(coatnet, TINY), (coatnet_cifar, TINY_CIFAR)])


def on_meta(builder: Builder, *, num_classes: int = 100, image_size: int = 32, **options: object) -> Any:
    with torch.device("meta"):
        return builder(num_classes=num_classes, in_channels=3, image_size=image_size, **options)


def made(builder: Builder, *, image_size: int = 32, **options: object) -> Any:
    torch.manual_seed(0)
    return builder(num_classes=10, in_channels=3, image_size=image_size, **options)


def num_params(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def pictures(num: int = 2, size: int = 32) -> Tensor:
    return torch.randn(num, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("builder", "size", "params", "macs"),
    [
        (coatnet, 32, 24_308_720, 1_256_856_576),
        (coatnet, 224, 24_344_720, 4_545_816_576),  # the paper's table 9: 4.6B with strided depthwise convolutions
        (coatnet_cifar, 32, 27_012_550, 546_201_600),
    ],
)
def test_costs(builder: Builder, size: int, params: int, macs: int) -> None:
    counted = cost(on_meta(builder, image_size=size), (3, size, size))
    assert (counted.params, counted.macs) == (params, macs)


@pytest.mark.parametrize(("kernel_size", "seed"), [(3, 27_008_486), (5, 27_010_534)])
def test_without_the_position_bias_the_counts_are_the_seeds(kernel_size: int, seed: int) -> None:
    with_bias, without = (
        num_params(on_meta(coatnet_cifar, stem_kernel_size=kernel_size, position_bias=bias)) for bias in (True, False)
    )
    assert without == seed
    assert with_bias == seed + 8 * (10 * 7**2 + 2 * 3**2)


def test_the_seeds_net_has_the_counts_of_its_parts() -> None:
    """By hand: the lists of layers in its author's code."""

    def convolutions(in_width: int, width: int) -> int:
        hidden = 4 * in_width
        return in_width * hidden + 9 * hidden + 4 * hidden + 3 + hidden * width + 2 * width

    def transformer(width: int, side: int) -> int:
        norms, attention = 4 * width, 4 * width * width + width
        return norms + attention + 8 * width * width + 5 * width + 3 + 8 * (2 * side - 1) ** 2

    by_hand = {
        "stem": 27 * 64 + 2 * 64,
        "s0": 2 * convolutions(64, 64),
        "s1": convolutions(64, 96) + convolutions(96, 96),
        "s2": convolutions(96, 192) + 5 * convolutions(192, 192),
        "s3": 4 * 192 * 384 + 384 + 10 * transformer(384, 4),
        "s4": 4 * 384 * 512 + 512 + 2 * transformer(512, 2),
        "fc": 512 * 100 + 100,
    }
    network = on_meta(coatnet_cifar)
    assert {name: num_params(part) for name, part in network.named_children()} == by_hand
    large = on_meta(coatnet_cifar, stem_kernel_size=5)
    assert num_params(large.stem) == 27 * 32 + 2 * 32 + 25 * 32 + 32 * 64 + 2 * 64 == 3_904


@pytest.mark.parametrize(
    ("builder", "size", "stem", "sides"),
    [
        (coatnet, 8, "auto", [8, 8, 4, 2, 1]),
        (coatnet, 32, "auto", [32, 32, 16, 8, 4]),
        (coatnet, 64, "imagenet", [32, 16, 8, 4, 2]),
        (coatnet, 224, "auto", [112, 56, 28, 14, 7]),
        (coatnet_cifar, 16, "auto", [16, 8, 4, 2, 1]),
        (coatnet_cifar, 32, "auto", [32, 16, 8, 4, 2]),
        (coatnet_cifar, 64, "imagenet", [32, 16, 8, 4, 2]),
        (coatnet_cifar, 224, "auto", [112, 56, 28, 14, 7]),
    ],
)
def test_stages_have_their_sizes(builder: Builder, size: int, stem: str, sides: list[int]) -> None:
    network = on_meta(builder, image_size=size, stem=stem)
    shapes: list[tuple[int, ...]] = []
    for stage in network.stages:
        network.get_submodule(stage).register_forward_hook(lambda _m, _x, out: shapes.append(tuple(out.shape[1:])))
    assert network.eval()(torch.empty(1, 3, size, size, device="meta")).shape == (1, 100)
    widths = [64, 96, 192, 384, 768] if builder is coatnet else [64, 96, 192, 384, 512]
    assert shapes == [(width, side, side) for width, side in zip(widths, sides, strict=True)]


@both
def test_only_position_tables_depend_on_the_size(builder: Builder, tiny: dict[str, Any]) -> None:
    small, large = (on_meta(builder, image_size=size).state_dict() for size in (32, 224))
    assert small.keys() == large.keys()
    differ = {key for key in small if small[key].shape != large[key].shape}
    assert differ == {key for key in small if key.endswith("position_bias")}
    assert len(differ) == (7 if builder is coatnet else 12)


def test_an_offset_has_one_number_wherever_it_lies() -> None:
    numbers = number_offsets(3).view(3, 3, 3, 3)
    assert numbers.unique().tolist() == list(range(25))
    assert numbers[0, 0, 1, 2] == numbers[1, 0, 2, 2]
    assert numbers[0, 0, 1, 2] != numbers[1, 2, 0, 0]
    assert (numbers.view(9, 9).diagonal() == 12).all()


def test_attention_sees_positions_by_the_bias_alone() -> None:
    """Swap pixels of the input: without a bias, the output is swapped alike."""
    x, order = pictures(1, 4).repeat(1, 3, 1, 1)[:, :8], torch.randperm(16, generator=torch.Generator().manual_seed(3))

    def shuffled(x: Tensor) -> Tensor:
        return x.flatten(2)[:, :, order].view_as(x)

    for position_bias in (True, False):
        torch.manual_seed(0)
        attention = RelativeAttention(8, 8, num_heads=2, side=4, position_bias=position_bias)
        if attention.position_bias is not None:
            nn.init.normal_(attention.position_bias)
        with torch.no_grad():
            moved = (attention(shuffled(x)) - shuffled(attention(x))).abs().max().item()
        assert (moved > 1e-2) if position_bias else (moved < 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_the_same_with_and_without_gradients(dtype: torch.dtype) -> None:
    """A bias that is being learned takes another path through torch than a given one."""
    torch.manual_seed(0)
    attention = RelativeAttention(16, 32, num_heads=4, side=4)
    nn.init.normal_(attention.position_bias)  # type: ignore[arg-type]
    x = torch.randn(2, 16, 4, 4)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        learned = attention(x)
        with torch.no_grad():
            given = attention(x)
    assert learned.dtype == given.dtype == dtype
    torch.testing.assert_close(learned, given, rtol=0, atol=1e-6 if dtype == torch.float32 else 2e-2)
    assert learned.is_contiguous(memory_format=torch.channels_last)


@both
def test_weight_decay_spares_the_position_bias(builder: Builder, tiny: dict[str, Any]) -> None:
    network = made(builder, **tiny)
    decayed, spared = (
        {id(p) for p in group["params"]}
        for group in decay_groups(network.named_parameters(), weight_decay=0.1, decay_norms_and_biases=False)
    )
    tables = {id(p) for name, p in network.named_parameters() if name.endswith("position_bias")}
    assert len(tables) == 3
    assert tables <= spared
    assert not tables & decayed
    assert all(id(p) in decayed for p in network.parameters() if p.ndim > 1 and id(p) not in tables)


def test_lsk_is_at_the_end_of_each_convolution_block() -> None:
    network = on_meta(coatnet, attention="lsk")
    widths = [m.conv0.in_channels for m in network.modules() if isinstance(m, LSK)]
    assert widths == [96, 96, 192, 192, 192]
    assert num_params(network) == 24_563_150


@pytest.mark.parametrize(
    ("builder", "tiny", "options"),
    [
        (coatnet, TINY, {"attention": "lsk"}),
        (coatnet, TINY, {"position_bias": False}),
        (coatnet_cifar, TINY_CIFAR, {"attention": "none"}),
        (coatnet_cifar, TINY_CIFAR, {"attention": {"name": "eca", "kernel_size": 5}}),
        (coatnet_cifar, TINY_CIFAR, {"stem_kernel_size": 5}),
        (coatnet_cifar, TINY_CIFAR, {"position_bias": False}),
    ],
)
def test_an_ablation_is_another_network(builder: Builder, tiny: dict[str, Any], options: dict[str, Any]) -> None:
    whole, ablated = (on_meta(builder, **tiny, **more) for more in ({}, options))
    assert fingerprint(whole, (3, 32, 32)) != fingerprint(ablated, (3, 32, 32))


def test_the_channel_attention_of_the_small_net_leaves_what_it_is_added_to() -> None:
    """With a gate of nothing the block passes its input on; the first course project's multiplied that as well."""
    torch.manual_seed(0)
    block = made(coatnet_cifar, **TINY_CIFAR).s4[1]
    x = torch.randn(1, 16, 2, 2)
    block.attention = _Nothing()
    nn.init.zeros_(block.attn.proj.weight)
    torch.testing.assert_close(block(x), x)


class _Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0


@both
def test_drop_path_grows_with_depth(builder: Builder, tiny: dict[str, Any]) -> None:
    rates = [m.rate for m in made(builder, drop_path=0.2, **tiny).modules() if isinstance(m, DropPath)]
    num = sum(tiny["depths"])
    assert rates == pytest.approx([0.2 * i / (num - 1) for i in range(num)])


@both
def test_weights_start_as_said(builder: Builder, tiny: dict[str, Any]) -> None:
    network = made(builder, depths=(1, 2, 2, 1) if builder is coatnet else (1, 1, 2, 2, 1))
    block = network.s2[1]
    assert block.conv1.weight.std().item() == pytest.approx((2 / 768) ** 0.5, rel=0.02)
    assert block.conv2.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.05)  # a fan within its group
    attention = network.s3[1].attn
    assert attention.qkv.weight.abs().max().item() == pytest.approx((6 / (4 * 384)) ** 0.5, rel=0.01)
    assert attention.position_bias.std().item() == pytest.approx(0.02, rel=0.2)
    assert all((p == 0).all() for key, p in network.named_parameters() if key.endswith(".bias"))
    with torch.no_grad():
        loss = F.cross_entropy(network(pictures(8)), torch.arange(8))
    assert loss.item() == pytest.approx(math.log(10), rel=0.1)


@both
def test_lists_are_taken_as_tuples(builder: Builder, tiny: dict[str, Any]) -> None:
    as_lists = {key: list(value) if isinstance(value, tuple) else value for key, value in tiny.items()}
    first, second = made(builder, **tiny), made(builder, **as_lists)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def _mistakes() -> Iterator[tuple[Builder, int, dict[str, object], str]]:
    yield coatnet, 28, {}, r"model: found pictures of 28 px; expected a multiple of 8 px"
    yield coatnet, 4, {}, r"model: found pictures of 4 px"
    yield coatnet, 200, {}, r"a multiple of 32 px"
    yield coatnet, 32, {"depths": (2, 2)}, r"model\.depths: found \[2, 2\]; expected four numbers"
    yield coatnet, 32, {"depths": (2, 0, 1, 1)}, r"model\.depths"
    yield coatnet, 32, {"widths": ()}, r"model\.widths"
    yield coatnet, 32, {"stem_width": 0}, r"model\.stem_width: found 0"
    yield coatnet, 32, {"head_width": 0}, r"model\.head_width: found 0"
    yield coatnet, 32, {"head_width": 100}, r"a divisor of the attention stages' widths, 384 and 768"
    yield coatnet, 32, {"drop_path": 1.0}, r"model\.drop_path"
    yield coatnet, 32, {"attention": "lks"}, r"model\.attention.*'lsk'"
    yield coatnet, 32, {"stem": "large"}, r"model\.stem"
    yield coatnet_cifar, 8, {}, r"model: found pictures of 8 px; expected a multiple of 16 px"
    yield coatnet_cifar, 240, {}, r"a multiple of 32 px"
    yield coatnet_cifar, 32, {"depths": (2, 2, 2, 2)}, r"model\.depths.*five numbers"
    yield coatnet_cifar, 32, {"widths": (1, 1, 1, 8, 8), "stem_kernel_size": 5}, r"model\.widths"
    yield coatnet_cifar, 32, {"num_heads": 7}, r"model\.num_heads: found 7"
    yield coatnet_cifar, 32, {"stem_kernel_size": 7}, r"model\.stem_kernel_size: found 7; expected 3 or 5"
    yield coatnet_cifar, 32, {"drop_path": -0.1}, r"model\.drop_path"
    yield coatnet_cifar, 32, {"attention": {"name": "eca", "kernel_size": 4}}, r"model\.attention\.kernel_size"


@pytest.mark.parametrize(("builder", "size", "options", "message"), list(_mistakes()))
def test_mistakes_are_named(builder: Builder, size: int, options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        on_meta(builder, image_size=size, **options)


def test_a_network_compiles_as_one_graph_and_exports_with_any_batch_size() -> None:
    torch.compiler.reset()
    network = made(coatnet, **{**TINY, "depths": (1, 1, 1, 1)}).eval()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(pictures()), network(pictures()))
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(network, (pictures(),), dynamic_shapes={"x": {0: batch}})
    with torch.no_grad():
        for num in (1, 3):
            torch.testing.assert_close(program.module()(pictures(num)), network(pictures(num)))


@both
def test_memory_changes_nothing(builder: Builder, tiny: dict[str, Any]) -> None:
    network, x = made(builder, **tiny).double(), pictures().double()
    answers = []
    for memory in (torch.contiguous_format, torch.channels_last):
        network.zero_grad()
        logits = network.to(memory_format=memory)(x.contiguous(memory_format=memory))
        logits.logsumexp(1).sum().backward()
        answers.append([logits.detach(), *(p.grad.clone() for p in network.parameters())])
    for plain, last in zip(*answers, strict=True):
        torch.testing.assert_close(plain, last, rtol=1e-9, atol=1e-11)


@both
def test_bfloat16_is_near(builder: Builder, tiny: dict[str, Any]) -> None:
    network = made(builder, **tiny)
    plain = network(pictures())
    with torch.autocast("cpu", torch.bfloat16):
        near = network(pictures())
    assert near.dtype == torch.bfloat16
    assert (near - plain).abs().max() < 0.1 * plain.abs().max()
    near.float().logsumexp(1).sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
