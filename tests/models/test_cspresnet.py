"""CSPResNet: counts, the forms, the two parts of a stage, the options."""

import copy

import pytest
import torch
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.cost import cost
from bakeoff.models.cspresnet import CrossStage, CspResNet, cspresnet


def on_meta(**options: object) -> CspResNet:
    with torch.device("meta"):
        return cspresnet(**{"num_classes": 100, "in_channels": 3, "image_size": 32, **options})  # type: ignore[arg-type]


def tiny(**options: object) -> CspResNet:
    torch.manual_seed(0)
    arguments = {"num_classes": 5, "in_channels": 3, "image_size": 32, "depths": [2, 1], "widths": [8, 16]}
    return cspresnet(**{**arguments, **options})  # type: ignore[arg-type]


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in network.state_dict().items()}


def stage_sizes(network: CspResNet, size: int) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    for stage in network.stages:
        network.get_submodule(stage).register_forward_hook(lambda *args: seen.append(args[-1].shape[1:3]))
    network.eval()(torch.empty(1, 3, size, size, device="meta"))
    return [tuple(pair) for pair in seen]


def test_cspresnet50_has_the_count_of_timms_and_the_cost_of_the_small_form() -> None:
    counted = cost(on_meta(), (3, 32, 32))
    assert (counted.params, counted.macs) == (20_693_668, 1_100_255_232)


def test_the_count_of_one_stage_by_hand() -> None:
    """Stride, widening, one bottleneck, both transitions; each convolution with a norm of two numbers a channel."""
    down, widen = 9 * 6 * 6 + 12, 6 * 16 + 32
    bottleneck = 8 * 4 + 8 + 9 * 4 * 4 + 8 + 4 * 8 + 16
    transitions = 8 * 8 + 16 + 16 * 8 + 16
    stage = CrossStage(6, 8, stride=2, rates=[0.0])
    assert sum(p.numel() for p in stage.parameters()) == down + widen + bottleneck + transitions


@pytest.mark.parametrize(
    ("image_size", "sizes"),
    [(32, (32, 16, 8, 4)), (64, (64, 32, 16, 8)), (127, (127, 64, 32, 16)), (224, (56, 28, 14, 7))],
)
def test_stages_see_the_picture_at(image_size: int, sizes: tuple[int, ...]) -> None:
    found = stage_sizes(on_meta(image_size=image_size), image_size)
    assert found == list(zip((128, 256, 512, 1024), sizes, strict=True))


def test_both_forms_have_the_same_shapes_and_differ_in_the_stem_only() -> None:
    small, large = on_meta(), on_meta(stem="imagenet")
    assert shapes(small) == shapes(large)
    assert stage_sizes(large, 32) == [(128, 8), (256, 4), (512, 2), (1024, 1)]


@pytest.mark.parametrize("stem", ["small", "imagenet"])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_any_picture_will_do(stem: str, size: int) -> None:
    with torch.no_grad():
        assert tiny(stem=stem, in_channels=1).eval()(torch.randn(1, 1, size, size)).shape == (1, 5)


def test_half_of_a_stage_goes_around_its_blocks() -> None:
    stage = tiny().layer2.eval()
    without = copy.deepcopy(stage)
    without.blocks = nn.Identity()
    x = torch.randn(1, 8, 8, 8)
    seen: list[Tensor] = []
    for each in (stage, without):
        each.conv_transition.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        with torch.no_grad():
            each(x)
    (around, through), (also_around, not_through) = (part.chunk(2, dim=1) for part in seen)
    assert torch.equal(around, also_around)
    assert around.min() < -0.1  # the way around is linear
    assert not torch.allclose(through, not_through)


def test_drop_path_grows_block_by_block_and_leaves_the_way_around() -> None:
    network = tiny(depths=[2, 3], drop_path=0.4)
    rates = [block.drop_path.rate for stage in (network.layer1, network.layer2) for block in stage.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    x = torch.randn(16, 3, 8, 8)
    assert not torch.equal(network(x), network(x))
    assert torch.equal(network.eval()(x), network(x))


def test_no_norm_starts_at_zero() -> None:
    network = tiny()
    assert all((m.weight == 1).all() for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert network.fc.weight.std().item() == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": []}, r"model\.depths: found \[\]"),
        ({"depths": [1, 0]}, r"model\.depths: found \[1, 0\]; expected one block or more"),
        ({"widths": [8]}, r"model\.widths: found \[8\]; expected 2 even widths"),
        ({"widths": [8, 15]}, r"model\.widths: found \[8, 15\]"),
        ({"widths": [8, 0]}, r"model\.widths"),
        ({"drop_path": 1.0}, r"model\.drop_path"),
        ({"stem": "large"}, r"model\.stem: found 'large'"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        tiny(**options)
