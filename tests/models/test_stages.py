"""The maps of stages, beside the logits: the same numbers, and nothing of them left behind."""

import pytest
import torch

from bakeoff import models
from bakeoff.errors import RecipeError
from bakeoff.models import stages

SHAPE = (3, 32, 32)


def network(name: str = "resnet_20") -> torch.nn.Module:
    return models.build(name, num_classes=10, in_channels=3, image_size=32)


def test_maps_are_what_the_stages_put_out() -> None:
    plain = network().eval()
    x = torch.randn(2, *SHAPE)
    with torch.no_grad():
        expected = [torch.relu(plain.get_submodule("bn1")(plain.get_submodule("conv1")(x)))]
        for name in ("layer1", "layer2", "layer3"):
            expected.append(plain.get_submodule(name)(expected[-1]))
        logits = plain(x)
        found, maps = stages.Tapped(plain, stages.names(plain))(x)
    torch.testing.assert_close(found, logits, rtol=0, atol=0)
    for ours, theirs in zip(maps, expected[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_it_compiles_as_one_graph_with_gradients() -> None:
    plain = network()
    tapped = stages.Tapped(plain, stages.names(plain))
    compiled = torch.compile(tapped, fullgraph=True, backend="aot_eager")
    x = torch.randn(4, *SHAPE)
    for run in (tapped, compiled):
        plain.zero_grad()
        logits, maps = run(x)
        (logits.square().mean() + maps[1].square().mean()).backward()
    assert len(maps) == 3
    assert plain.get_parameter("conv1.weight").grad is not None


def test_nothing_is_kept_when_the_network_is_called_alone() -> None:
    plain = network().eval()
    tapped = stages.Tapped(plain, stages.names(plain))
    tapped(torch.randn(1, *SHAPE))
    plain(torch.randn(1, *SHAPE))
    assert tapped._seen is None


def test_its_weights_are_the_networks_own_by_other_names() -> None:
    plain = network()
    tapped = stages.Tapped(plain, stages.names(plain))
    assert [id(p) for p in tapped.parameters()] == [id(p) for p in plain.parameters()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet_20", [(16, 32, 32), (32, 16, 16), (64, 8, 8)]),
        ("resnet18", [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]),
        ("convnext_atto", [(40, 16, 16), (80, 8, 8), (160, 4, 4), (320, 2, 2)]),
    ],
)
def test_shapes_are_told_without_a_pass(name: str, expected: list[tuple[int, int, int]]) -> None:
    assert stages.shapes(network(name), SHAPE, where="model") == expected


def test_timms_networks_tell_their_stages() -> None:
    pytest.importorskip("timm")
    assert len(stages.shapes(network("timm:resnet18"), SHAPE, where="model")) == 5


@pytest.mark.parametrize("name", ["mlp_mixer_tiny", "cct_7_3x1"])
def test_tokens_are_no_maps(name: str) -> None:
    with pytest.raises(RecipeError, match="stages that put out"):
        stages.shapes(network(name), SHAPE, where="model")


def test_a_network_without_stages_says_so() -> None:
    with pytest.raises(RecipeError, match="does not say where its stages are"):
        stages.shapes(torch.nn.Flatten(), SHAPE, where="model")
