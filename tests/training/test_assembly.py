"""What a recipe asks of its network is tried before any data is read."""

import pytest

from bakeoff import data, models
from bakeoff.errors import RecipeError
from bakeoff.models.cost import fingerprint
from bakeoff.recipe import resolve
from bakeoff.training import assembly


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("convnext_tiny", ["data=digits"], "found pictures of 8 px; expected 16 px or more"),
        ("coatnet_0", ["data=digits", "model.stem=imagenet"], "a multiple of 32 px"),
        ("resnest14d", ["data=digits", "batch=1"], "trains on 1 of them at once"),
        ("resnet18", ["data=digits", "batch=4", "accumulate=4"], "trains on 1 of them at once"),
        ("timm:vit_tiny_patch16_224", ["data=digits"], "found pictures of 1x8x8"),
        ("timm:resnet18", ["model.drop_rate=abc"], "could not convert string to float"),
        ("timm:resnet18", ["model.features_only=true"], "gives logits"),
        ("timm:resnet18", ["model.checkpoint_path=weights.bin"], "it is built fresh"),
        ("timm:resnet18", ["model.act_layer=foo"], "KeyError: 'foo'"),
        ("timm:resnet18.no_such_tag", [], "tag"),
        ("resnet_20", ["model.attention_position=after_add"], "'after_add' without attention"),
        ("resnet_20", ["model.attention={name: eca, 1: 2}"], "found '1'"),
        ("resnet_20", ["model.attention={name: simam, e_lambda: .inf}"], "a number above 0"),
        ("gmlp_tiny", ["model.depth=1000000000000"], "at most 10,000"),
        ("cct_7_3x1", ["model.mlp_ratio=.inf"], "expected a number"),
    ],
)
def test_what_a_network_cannot_do_is_said_before_data_is_read(
    model: str, settings: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "load", None)
    with pytest.raises(RecipeError) as caught:
        assembly.check(resolve(model, overrides=settings), plugin=model)
    assert message in str(caught.value)


@pytest.mark.parametrize("model", ["resnet_20", "convnext_atto", "mlp_mixer_tiny", "timm:vit_tiny_patch16_224"])
def test_what_a_network_can_do_passes(model: str) -> None:
    assembly.check(resolve(model), plugin=model)


def test_a_whole_number_is_a_number() -> None:
    for name in ("convnext_atto", "hornet_micro", "segnext_mscan_tiny"):
        assembly.check(resolve(name, overrides=["model.layer_scale=1"]), plugin=name)


def test_a_section_without_a_name_changes_that_of_the_catalogue() -> None:
    changed = models.build("eca_resnet_20", num_classes=10, attention={"kernel_size": 7})
    assert fingerprint(changed, (3, 32, 32)) == fingerprint(
        models.build("ecanet20_fixed_k7", num_classes=10), (3, 32, 32)
    )
