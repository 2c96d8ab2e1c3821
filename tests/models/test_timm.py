"""timm's networks by `timm:NAME`: built as timm builds them, and every mistake named."""

import sys

import pytest
import timm
import torch
from torch import nn

from bakeoff import catalogue, models
from bakeoff.errors import RecipeError
from bakeoff.recipe import resolve
from tests.formula import fill, numbers


def build(name: str, **arguments: object) -> nn.Module:
    with torch.device("meta"):
        return models.build(f"timm:{name}", **{"num_classes": 10, **arguments})  # type: ignore[arg-type]


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in network.state_dict().items()}


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_is_what_timm_builds(channels: int) -> None:
    ours = models.build("timm:resnet18", num_classes=7, in_channels=channels).eval()
    theirs = timm.create_model("resnet18", num_classes=7, in_chans=channels).eval()
    assert shapes(ours) == shapes(theirs)
    for network in (ours, theirs):
        network.double()
        fill(network)
    x = numbers((2, channels, 32, 32), salt=7)
    assert torch.equal(ours(x), theirs(x))
    assert ours(x).shape == (2, 7)


def test_a_network_of_fixed_size_learns_the_size() -> None:
    network = build("vit_tiny_patch16_224", image_size=32)
    assert network(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)
    assert network.get_parameter("pos_embed").shape == (1, 1 + 4, 192)
    finer = build("vit_tiny_patch16_224", image_size=32, patch_size=4)
    assert finer.get_parameter("pos_embed").shape == (1, 1 + 64, 192)


def test_a_size_that_was_given_stands_over_the_data() -> None:
    network = build("vit_tiny_patch16_224", image_size=32, img_size=64)
    assert network.get_parameter("pos_embed").shape == (1, 1 + 16, 192)


def test_options_reach_timm() -> None:
    assert build("resnet18", drop_rate=0.25).drop_rate == 0.25  # type: ignore[comparison-overlap]
    attended = build("resnet18", block_args={"attn_layer": "eca"})
    assert any("se.conv" in key for key, _ in attended.named_parameters())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet81", {}, r"model\.name: found 'timm:resnet81'.*Did you mean 'resnet(18|101)"),
        ("", {}, r"model\.name: found 'timm:'"),
        ("resnet18", {"depht": 3}, r"model: found 'timm:resnet18' with .*depht.*options that timm can use"),
        ("vit_tiny_patch16_224", {"num_heads": 5}, r"model: found 'timm:vit_tiny_patch16_224' with .*num_heads"),
        ("mixer_b16_224", {"patch_size": 4}, r"model: found 'timm:mixer_b16_224' with"),
    ],
)
def test_mistakes_are_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(name, **options)


def test_without_timm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # how Python marks what cannot be imported
    with pytest.raises(RecipeError, match=r"'timm:resnet18' without timm.*pip install 'bakeoff\[timm\]'"):
        build("resnet18")


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: (asked.append(k["pretrained"]), create(*a, **k))[1])
    build("resnet18")
    assert asked == [False]


def test_the_name_is_taken_wherever_a_recipe_may_name_a_model() -> None:
    """timm was installed on purpose: unlike a plug-in it needs no permission, and gets the modern card."""
    recipe = resolve("timm:resnet18", overrides=["model.drop_rate=0.1"])
    assert recipe.model.name == "timm:resnet18"
    assert recipe.model.options == {"drop_rate": 0.1}
    modern = resolve("convnext_tiny")
    assert modern.optimizer.name == "adamw"
    for section in ("optimizer", "schedule", "augment", "mix", "objective", "epochs"):
        assert getattr(recipe, section) == getattr(resolve("resnet_20", recipe="modern"), section), section
    with pytest.raises(RecipeError, match="timm:NAME"):
        resolve("some.module:network")


def test_no_name_of_the_catalogue_looks_like_one_of_timm() -> None:
    assert not [name for name in catalogue.MODELS if ":" in name]
