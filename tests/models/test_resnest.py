"""ResNeSt: counts, the forms, split attention, the options."""

import pytest
import torch
from torch import nn

from bakeoff.errors import RecipeError
from bakeoff.models.cost import cost
from bakeoff.models.frames import ResidualNet
from bakeoff.models.layers import DropPath
from bakeoff.models.resnest import SplitAttention, resnest
from tests.formula import fill, numbers


def on_meta(**options: object) -> ResidualNet:
    with torch.device("meta"):
        return resnest(**{"num_classes": 100, "in_channels": 3, "image_size": 32, **options})  # type: ignore[arg-type]


def stage_sizes(network: ResidualNet, size: int) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    for stage in network.stages:
        network.get_submodule(stage).register_forward_hook(lambda *args: seen.append(args[-1].shape[1:3]))
    network.eval()(torch.empty(1, 3, size, size, device="meta"))
    return [tuple(pair) for pair in seen]


@pytest.mark.parametrize(
    ("options", "params", "macs"),
    [
        ({}, 25_639_140, 1_667_065_856),
        ({"depth": 14}, 8_767_588, 810_063_872),
        ({"depth": 26}, 15_225_348, 1_095_798_784),
    ],
)
def test_counts(options: dict[str, object], params: int, macs: int) -> None:
    counted = cost(on_meta(**options), (3, 32, 32))
    assert (counted.params, counted.macs) == (params, macs)


@pytest.mark.parametrize("radix", [1, 2, 4])
def test_the_count_of_split_attention_by_hand(radix: int) -> None:
    """Each part's filters see a part of the input, so that more parts do not cost more; the attention does."""
    inner = max(64 * radix // 4, 32)
    expected = 9 * 64 * 64 + 2 * 64 * radix + (64 * inner + inner) + 2 * inner + (inner + 1) * 64 * radix
    assert sum(p.numel() for p in SplitAttention(64, radix=radix).parameters()) == expected


@pytest.mark.parametrize(
    ("image_size", "sizes"),
    [(32, (32, 16, 8, 4)), (64, (64, 32, 16, 8)), (127, (127, 64, 32, 16)), (224, (56, 28, 14, 7))],
)
def test_stages_see_the_picture_at(image_size: int, sizes: tuple[int, ...]) -> None:
    found = stage_sizes(on_meta(image_size=image_size, depth=14), image_size)
    assert found == list(zip((256, 512, 1024, 2048), sizes, strict=True))


def test_both_forms_have_the_same_shapes() -> None:
    small, large = on_meta(), on_meta(stem="imagenet")
    assert {k: v.shape for k, v in small.state_dict().items()} == {k: v.shape for k, v in large.state_dict().items()}
    assert stage_sizes(large, 32) == [(256, 8), (512, 4), (1024, 2), (2048, 1)]


@pytest.mark.parametrize("stem", ["small", "imagenet"])
def test_any_picture_will_do(stem: str) -> None:
    network = on_meta(depth=14, stem=stem).eval()
    for size in (1, 2, 7):
        assert network(torch.empty(1, 3, size, size, device="meta")).shape == (1, 100)


@pytest.mark.parametrize("radix", [1, 2, 4])
def test_split_attention_is_its_equations(radix: int) -> None:
    module = SplitAttention(8, radix=radix).double().eval()
    fill(module)
    x = numbers((2, 8, 5, 5), salt=7)
    with torch.no_grad():
        found = module(x)
        maps = module.bn0(module.conv(x)).clamp(min=0).reshape(2, radix, 8, 5, 5)
        pooled = maps.sum(1).mean((2, 3))
        hidden = module.bn1((pooled @ module.fc1.weight[:, :, 0, 0].T + module.fc1.bias)[..., None, None]).clamp(min=0)
        scores = (hidden.flatten(1) @ module.fc2.weight[:, :, 0, 0].T + module.fc2.bias).reshape(2, radix, 8)
        weights = scores.sigmoid() if radix == 1 else scores.exp() / scores.exp().sum(1, keepdim=True)
    assert weights.std() > 0.01
    torch.testing.assert_close(found, torch.einsum("brchw,brc->bchw", maps, weights), rtol=0, atol=1e-12)


def test_the_first_stage_pools_nowhere_and_the_others_once_in_the_block_and_once_in_its_shortcut() -> None:
    pools = [name for name, module in on_meta().named_modules() if isinstance(module, nn.AvgPool2d)]
    assert pools == [f"layer{i}.0.{where}" for i in (2, 3, 4) for where in ("pool", "downsample.0")]


def test_drop_path_grows_linearly() -> None:
    modules = on_meta(depth=26, drop_path=0.7).modules()
    assert [module.rate for module in modules if isinstance(module, DropPath)] == pytest.approx(
        [0.1 * i for i in range(8)]
    )


def test_filters_start_with_two_over_fan_out_and_no_norm_at_zero() -> None:
    torch.manual_seed(0)
    network = resnest(num_classes=10, in_channels=3, image_size=32, depth=14)
    for convolution in (network.conv1[0], network.conv1[3], network.conv1[6], network.layer1[0].conv2.conv):
        fan_out = 9 * convolution.out_channels // convolution.groups
        assert convolution.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.15)
    assert all((m.weight == 1).all() for m in network.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 101}, r"model\.depth: found 101; expected one of 14, 26, 50"),
        ({"radix": 3}, r"model\.radix: found 3; expected one of 1, 2, 4"),
        ({"drop_path": -0.1}, r"model\.drop_path"),
        ({"stem": "deep"}, r"model\.stem: found 'deep'"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        on_meta(**options)
