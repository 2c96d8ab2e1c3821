"""What must hold for every network of the catalogue, whatever its paper.

What takes long is done in every check for the cheapest network of each builder, and for all of them by:
    pytest -m slow tests/models
"""

import copy
import math
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff import catalogue, models
from bakeoff.errors import RecipeError

MACS = {name: catalogue.costs()[name].macs for name in catalogue.MODELS}
CHEAPEST = {min((n for n in MACS if catalogue.MODELS[n].builder == b), key=MACS.__getitem__) for b in models.BUILDERS}
SMALL = [name for name in MACS if MACS[name] < 1e8]
every_model = pytest.mark.parametrize("name", catalogue.MODELS)
every_model_if_slow = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in CHEAPEST else pytest.mark.slow) for name in catalogue.MODELS]
)

# Height and width of the maps after each stage, by builder, for pictures of 32, 64 and 224 pixels.
FOUR = {32: (32, 16, 8, 4), 64: (64, 32, 16, 8), 224: (56, 28, 14, 7)}
FOUR_BY_TWO = {32: (16, 8, 4, 2), 64: (32, 16, 8, 4), 224: (56, 28, 14, 7)}
THREE = {32: (32, 16, 8), 64: (64, 32, 16), 224: (224, 112, 56)}
TOKENS = {32: (8,), 64: (16,), 224: (14,)}
STAGE_SIZES = {
    "cct": {32: (16,), 64: (32,), 224: (14,)},
    "coatnet": {32: (32, 32, 16, 8, 4), 64: (64, 64, 32, 16, 8), 224: (112, 56, 28, 14, 7)},
    "coatnet_cifar": {32: (32, 16, 8, 4, 2), 64: (64, 32, 16, 8, 4), 224: (112, 56, 28, 14, 7)},
    "convnext": FOUR_BY_TWO,
    "cspresnet": FOUR,
    "ghost_resnet": THREE,
    "ghostnet": FOUR,
    "gmlp": TOKENS,
    "hornet": FOUR_BY_TWO,
    "improved_resnet": THREE,
    "lsknet": FOUR,
    "mlp_mixer": TOKENS,
    "mscan": FOUR,
    "resnest": FOUR,
    "resnet": FOUR,
    "small_resnet": THREE,
    "speednet": {32: (15, 7, 3), 64: (31, 15, 7), 224: (111, 55, 27)},  # its first filters of 2x2 take a pixel away
}


def make(name: str, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    return models.build(name, **{"num_classes": 100, **arguments})  # type: ignore[arg-type]


@cache
def _made(name: str) -> nn.Module:
    return make(name)


def fresh(name: str) -> nn.Module:
    """Copy a network that is made once: drawing twenty million numbers takes longer than most tests."""
    return copy.deepcopy(_made(name))


def pictures(num: int, *, channels: int = 3, size: int = 32) -> Tensor:
    return torch.randn(num, channels, size, size, generator=torch.Generator().manual_seed(1))


def labels(num: int) -> Tensor:
    return torch.randint(100, (num,), generator=torch.Generator().manual_seed(2))


def settle_norms(network: nn.Module, x: Tensor) -> nn.Module:
    """Give batch norms the statistics of x, as training would, and switch to evaluation."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(x)
    for norm in norms:
        norm.momentum = 0.1
    return network.eval()


@every_model
def test_the_first_loss_is_the_logarithm_of_the_number_of_classes(name: str) -> None:
    network = fresh(name)
    with torch.no_grad():
        loss = F.cross_entropy(network(pictures(8)), labels(8))
    assert loss.item() == pytest.approx(math.log(100), rel=0.1)


@every_model
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(name: str) -> None:
    network = fresh(name)
    F.cross_entropy(network(pictures(4)), labels(4)).backward()
    for key, p in network.named_parameters():
        if not p.requires_grad:  # frozen on purpose
            continue
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key
        assert p.grad.abs().max() > 0, key


def check_batch(name: str, num: int) -> None:
    """Answers do not depend on who else is in the batch, and are the same twice."""
    x = pictures(num)
    network = settle_norms(fresh(name), x)
    with torch.no_grad():
        together, again, alone = (network(part) for part in (x, x, x[:1]))
    assert torch.equal(together, again)
    assert together.std(0).max() > 2e-3  # pictures get different answers, else the next line says nothing
    torch.testing.assert_close(together[:1].softmax(1), alone.softmax(1), rtol=0, atol=1e-5)


@every_model
def test_evaluation_repeats_itself_and_does_not_depend_on_the_batch(name: str) -> None:
    check_batch(name, 8)


@every_model_if_slow
def test_a_picture_alone_is_answered_as_among_128(name: str) -> None:
    check_batch(name, 128)


@every_model
@pytest.mark.parametrize("size", [4, 8, 12, 16, 28, 30, 48, 64, 96, 224])
def test_a_picture_of_any_size_is_taken_or_refused_by_name(name: str, size: int) -> None:
    with torch.device("meta"):
        try:
            network = make(name, num_classes=10, in_channels=1, image_size=size).eval()
        except RecipeError as error:
            assert str(size) in str(error)
            assert size not in (32, 64, 96, 224)
        else:
            assert network(torch.empty(1, 1, size, size)).shape == (1, 10)


@every_model
@pytest.mark.parametrize("size", [32, 64, 224])
def test_feature_maps_have_the_stated_sizes(name: str, size: int) -> None:
    with torch.device("meta"):
        network = make(name, image_size=size).eval()
        shapes: dict[str, torch.Size] = {}
        for stage in network.stages:  # type: ignore[union-attr]
            network.get_submodule(stage).register_forward_hook(
                lambda _m, _x, out, stage=stage: shapes.update({stage: out.shape[1:]})
            )
        network(torch.empty(1, 3, size, size))
    assert list(shapes) == list(network.stages)  # type: ignore[arg-type]
    sides = [shape[-1] if len(shape) == 3 else math.isqrt(shape[0]) for shape in shapes.values()]
    assert all(len(s) == 3 or side**2 == s[0] for s, side in zip(shapes.values(), sides, strict=True))
    assert sides[-1] > 1  # a class-activation map of one pixel says nothing
    stated = STAGE_SIZES[catalogue.MODELS[name].builder][size]
    assert tuple(sides) == stated[: len(sides)]  # segnext_mscan_tiny has three stages of MSCAN's four
    assert len(sides) == len(stated) or name == "segnext_mscan_tiny"


@pytest.mark.parametrize("name", SMALL)
def test_the_seed_decides_the_weights(name: str) -> None:
    first, second = make(name).state_dict(), make(name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = models.build(name, num_classes=100).state_dict()  # the generator has moved on
    changed = [key for key in first if not torch.equal(first[key], other[key])]
    assert sum(first[key].numel() for key in changed) > 0.8 * sum(v.numel() for v in first.values())


@every_model_if_slow
def test_one_batch_can_be_learnt_by_heart(name: str) -> None:
    torch.manual_seed(0)
    network, x, y = make(name, image_size=16), pictures(8, size=16), labels(8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(120):  # eca_resnet20_pos3, whose gates halve the stream after each of nine sums, takes 100
        loss = F.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.1:
            break
    assert loss.item() < 0.5
    assert (settle_norms(network, x)(x).argmax(1) == y).all()


@every_model_if_slow
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_network_compiles_as_one_graph(name: str, training: bool) -> None:
    torch.compiler.reset()
    network = fresh(name).train(training)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    outcomes = []
    for net in (compiled, network):
        torch.manual_seed(1)  # drop-path draws the same
        outcomes.append(net(pictures(2)))
    torch.testing.assert_close(*outcomes, rtol=1e-4, atol=1e-5)


@every_model_if_slow
def test_a_network_exports_with_any_batch_size(name: str) -> None:
    network = fresh(name).eval()
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(network, (pictures(2),), dynamic_shapes={"x": {0: batch}})
    with torch.no_grad():
        torch.testing.assert_close(program.module()(pictures(3)), network(pictures(3)))


@every_model
def test_a_network_trains_in_bf16_and_channels_last(name: str) -> None:
    network = fresh(name).to(memory_format=torch.channels_last)
    x = pictures(2).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(network(x).float(), labels(2))
    loss.backward()
    assert loss.isfinite()
    trained = [p for p in network.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


def test_builders_and_options_are_reached_by_name() -> None:
    depth_32 = make("resnet_32")
    for same in (make("small_resnet", depth=32), make("resnet_20", depth=32), make("ResNet32")):
        assert all(torch.equal(a, b) for a, b in zip(depth_32.parameters(), same.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet_20", {"depht": 32}, r"model: found 'depht'; expected one of depth, shortcut.*'depth'"),
        ("resnet18", {"shortcut": "A"}, r"expected one of depth, stem"),
        ("resnet_20", {"depth": "twenty"}, r"model\.depth: found 'twenty'; expected a whole number"),
        ("resnet_20", {"depth": 20.0}, r"model\.depth: found 20\.0; expected a whole number"),
        ("resnet_20", {"depth": True}, r"model\.depth: found True"),
        ("resnet_20", {"depth": 21}, r"model\.depth: found 21; expected 6n \+ 2"),
        ("resnet_20", {"depth": 2}, r"model\.depth"),
        ("resnet_20", {"shortcut": "C"}, r"model\.shortcut: found 'C'"),
        ("resnet18", {"depth": 20}, r"model\.depth: found 20; expected one of 10, 18, 34, 50"),
        ("resnet18", {"stem": "huge"}, r"model\.stem: found 'huge'"),
        ("resnet_20", {"num_classes": 0}, r"model\.num_classes: found 0"),
        ("resnet_20", {"in_channels": 0}, r"model\.in_channels: found 0"),
        ("resnt_20", {}, r"Did you mean 'resnet_20'"),
    ],
)
def test_mistakes_are_named(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(name, **arguments)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "their_nets.py").write_text(
        "from torch import nn\n"
        "def tiny(*, num_classes, in_channels, width=4):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, width, 8), nn.Flatten(), nn.Linear(width, num_classes))\n"
        "def nothing(*, num_classes, in_channels):\n"
        "    return None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_nets", raising=False)
    return "their_nets"


def test_a_network_comes_from_an_import_path(plugin: str) -> None:
    network = models.build(f"{plugin}:tiny", num_classes=5, in_channels=1, width=6)
    assert network(pictures(2, channels=1, size=8)).shape == (2, 5)


@pytest.mark.parametrize(
    ("tail", "options", "message"),
    [
        (":tiny", {"depth": 3}, "unexpected keyword argument 'depth'"),
        (":missing", {}, "no attribute 'missing'"),
        ("_gone:tiny", {}, "No module named 'their_nets_gone'"),
        (":nothing", {}, "returned a NoneType"),
        (":", {}, "package.module:function"),
    ],
)
def test_a_bad_import_path_is_named(plugin: str, tail: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        models.build(plugin + tail, num_classes=5, **options)  # type: ignore[arg-type]
