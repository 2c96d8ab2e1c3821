import re
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import nn

from bakeoff import models
from bakeoff.errors import RecipeError
from bakeoff.models.cost import fingerprint
from bakeoff.models.layers import conv, initialise
from bakeoff.models.resnet import FROM_TIMM, FROM_TORCHVISION, POSITIONS, Block, PadShortcut


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("depth", "published"),
    # Option A, 10 classes: the counts of the public CIFAR implementations, 0.27 to 1.7 M as in the paper's table 6.
    [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)],
)
def test_option_a_has_the_published_counts(depth: int, published: int) -> None:
    assert count(models.build("small_resnet", num_classes=10, depth=depth, shortcut="A")) == published


@pytest.mark.parametrize(("name", "published"), [("resnet18", 11_227_812), ("resnet50", 23_712_932)])
def test_the_imagenet_stem_has_the_published_counts(name: str, published: int) -> None:
    assert count(models.build(name, num_classes=100, stem="imagenet")) == published


def test_the_padding_shortcut_takes_every_second_pixel_and_adds_zeros() -> None:
    x = torch.arange(2 * 16.0).reshape(1, 2, 4, 4)
    out = PadShortcut(3, stride=2)(x)
    assert out.shape == (1, 5, 2, 2)
    assert out[0, 0].tolist() == [[0, 2], [8, 10]]
    assert not out[0, 2:].any()


def test_a_small_net_ends_at_a_quarter_of_the_picture_and_a_large_one_at_an_eighth() -> None:
    shapes = {}
    for name in ("resnet_20", "resnet10"):
        network = models.build(name, num_classes=10)
        last = network.get_submodule(network.stages[-1])  # type: ignore[index, arg-type]
        last.register_forward_hook(lambda _m, _x, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
        network.eval()(torch.zeros(1, 3, 32, 32))
    assert shapes == {"resnet_20": (64, 8, 8), "resnet10": (512, 4, 4)}


def test_filters_start_with_the_variance_of_the_paper() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(conv(64, 128, kernel_size=3), nn.BatchNorm2d(128), nn.Linear(128, 100))
    initialise(network)
    filters, norm, matrix = network
    assert filters.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert filters.weight.mean().abs().item() < 1e-3
    assert (norm.weight == 1).all()
    assert (norm.bias == 0).all()
    assert matrix.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert (matrix.bias == 0).all()


def small(attention: object, *, position: str = "before_add", depth: int = 20) -> nn.Module:
    with torch.device("meta"):
        return models.build(
            "small_resnet", num_classes=100, depth=depth, attention=attention, attention_position=position
        )


def eca(kernel_size: int | str) -> dict[str, object]:
    return {"name": "eca", "kernel_size": kernel_size}


@pytest.mark.parametrize(
    ("attention", "depth", "num_parameters"),
    [
        # Nine blocks with one kernel each.
        *((eca(size), 20, 278_324 + 9 * size) for size in (3, 5, 7, 9)),
        (eca("adaptive"), 20, 278_351),
        (eca(5), 32, 472_831),
        # Three blocks (nine in 56 layers) of each width, see tests/models/attention.
        ("se", 20, 278_324 + 3 * (49 + 162 + 580)),
        ("se", 56, 861_620 + 9 * (49 + 162 + 580)),
        ("cbam", 20, 278_324 + 3 * (149 + 262 + 680)),
        ("simam", 20, 278_324),
        ("coordinate", 20, 278_324 + 3 * (432 + 848 + 1680)),
    ],
)
def test_attention_costs_what_it_should(attention: object, depth: int, num_parameters: int) -> None:
    assert count(small(attention, depth=depth)) == num_parameters
    assert count(small(attention, depth=depth, position="after_first")) == num_parameters
    assert count(small(attention, depth=depth, position="after_add")) == num_parameters


def test_without_attention_nothing_is_there() -> None:
    plain = small("none")
    assert fingerprint(small({"name": "none"}), (3, 16, 16)) == fingerprint(plain, (3, 16, 16))
    for network in (plain, small({"name": "none"}, position="after_add")):
        assert not [name for name, _ in network.named_modules() if "attention" in name]


def test_equal_networks_are_recognised_and_places_are_told_apart() -> None:
    prints = {position: fingerprint(small(eca(3), position=position), (3, 16, 16)) for position in POSITIONS}
    assert len({*prints.values(), fingerprint(small("none"), (3, 16, 16))}) == 4
    assert fingerprint(small("eca"), (3, 16, 16)) == prints["before_add"]


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("after_first", ["bn1", "attention", "bn2"]),
        ("before_add", ["bn1", "bn2", "attention"]),
        ("after_add", ["bn1", "bn2", "attention"]),
    ],
)
def test_attention_stands_at_its_place_before_a_relu(position: str, expected: list[str]) -> None:
    network = models.build("small_resnet", num_classes=10, depth=8, attention="eca", attention_position=position)
    block = network.get_submodule("layer1.0")
    assert isinstance(block, Block)
    seen: dict[str, torch.Tensor] = {}
    for name in ("bn1", "bn2", "attention"):
        # A copy: the ReLU behind it works in place. A hook that returns None changes nothing.
        copy = lambda _m, _x, out, name=name: seen.update({name: out.clone()})  # noqa: E731
        block.get_submodule(name).register_forward_hook(copy)
    out = block(torch.randn(2, 16, 8, 8).relu())
    assert list(seen) == expected
    gated = seen["attention"]
    assert gated.min() < 0
    assert (position == "after_add") == torch.equal(gated.relu(), out)


def test_attention_in_a_bottleneck_has_the_width_of_its_place() -> None:
    with torch.device("meta"):
        counts = {
            position: count(
                models.build("resnet50", num_classes=10, attention="coordinate", attention_position=position)
            )
            for position in POSITIONS
        }
    assert counts["before_add"] == counts["after_add"] > counts["after_first"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention": "ecca"}, r"model\.attention: found 'ecca'.*Did you mean 'eca'"),
        ({"attention_position": "before_ad"}, r"model\.attention_position: found 'before_ad'.*'before_add'"),
    ],
)
@pytest.mark.parametrize("builder", ["small_resnet", "resnet"])
def test_mistakes_with_attention_are_named(builder: str, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        models.build(builder, num_classes=10, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "name", "rules", "depth", "attention"),
    [
        (timm.create_model, "resnet18", FROM_TIMM, 18, "none"),
        (timm.create_model, "resnet50", FROM_TIMM, 50, "none"),
        (timm.create_model, "seresnet50", FROM_TIMM, 50, "se"),
        (torchvision.models.get_model, "resnet34", FROM_TORCHVISION, 34, "none"),
    ],
)
def test_published_weights_have_our_names(
    make: Callable[[str], nn.Module], name: str, rules: tuple[tuple[str, str], ...], depth: int, attention: str
) -> None:
    with torch.device("meta"):
        ours = models.build("resnet", num_classes=1000, depth=depth, stem="imagenet", attention=attention)
        theirs = make(name)
    shapes = {}
    for key, value in theirs.state_dict().items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        shapes[key] = value.shape
    assert shapes == {key: value.shape for key, value in ours.state_dict().items()}
