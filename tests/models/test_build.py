"""What must hold for every network of the catalogue, whatever its paper."""

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
from bakeoff.models.cost import cost

SMALL = [name for name, model in catalogue.MODELS.items() if model.macs < 2.6e8]
every_model = pytest.mark.parametrize("name", catalogue.MODELS)


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
def test_the_catalogue_tells_the_true_cost(name: str) -> None:
    model = catalogue.MODELS[name]
    with torch.device("meta"):
        network = make(name)
    counted = cost(network, (3, 32, 32))
    assert (counted.params, counted.macs) == (model.params, model.macs)


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
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key
        assert p.grad.abs().max() > 0, key


@every_model
def test_evaluation_repeats_itself_and_does_not_depend_on_the_batch(name: str) -> None:
    x = pictures(128 if name == "resnet_20" else 8)
    network = settle_norms(fresh(name), x)
    with torch.no_grad():
        together, again, alone = (network(part).softmax(1) for part in (x, x, x[:1]))
    assert torch.equal(together, again)
    assert together.std(0).max() > 1e-4  # pictures get different answers, else the next line says nothing
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-5)


@every_model
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 64)])
def test_other_shapes_of_pictures_work(name: str, channels: int, size: int) -> None:
    network = make(name, num_classes=10, in_channels=channels).eval()
    with torch.no_grad():
        assert network(pictures(1, channels=channels, size=size)).shape == (1, 10)


@pytest.mark.parametrize("name", SMALL)
def test_the_seed_decides_the_weights(name: str) -> None:
    first, second = make(name).state_dict(), make(name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = models.build(name, num_classes=100).state_dict()  # the generator has moved on
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


@pytest.mark.parametrize("name", ["resnet_20", "resnet_56", "resnet10"])
def test_one_batch_can_be_learnt_by_heart(name: str) -> None:
    network, x, y = fresh(name), pictures(8, size=16), labels(8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(20):
        loss = F.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5
    assert (network(x).argmax(1) == y).all()


@pytest.mark.parametrize("name", ["resnet_20", "resnet50"])
def test_a_network_compiles_as_one_graph(name: str) -> None:
    torch.compiler.reset()
    network = fresh(name)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(pictures(2)), network(pictures(2)))


@pytest.mark.parametrize("name", ["resnet_20", "resnet10"])
def test_a_network_exports_with_any_batch_size(name: str) -> None:
    network = fresh(name).eval()
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(network, (pictures(2),), dynamic_shapes={"x": {0: batch}})
    with torch.no_grad():
        torch.testing.assert_close(program.module()(pictures(3)), network(pictures(3)))


def test_builders_and_options_are_reached_by_name() -> None:
    depth_32 = make("resnet_32")
    for same in (make("small_resnet", depth=32), make("resnet_20", depth=32), make("ResNet32")):
        assert all(torch.equal(a, b) for a, b in zip(depth_32.parameters(), same.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet_20", {"depht": 32}, r"model: found 'depht'; expected one of depth, shortcut.*'depth'"),
        ("resnet18", {"shortcut": "A"}, r"expected one of depth, stem"),
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
