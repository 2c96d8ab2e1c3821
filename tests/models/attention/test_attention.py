"""What each plug-in promises, and how they are asked for."""

import pytest
import torch
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models import attention
from bakeoff.models.attention import ATTENTIONS
from bakeoff.models.attention.eca import ECA, adaptive_kernel_size
from bakeoff.models.attention.lsk import LSK

every_plugin = pytest.mark.parametrize("name", ATTENTIONS)


def make(spec: object, *, width: int = 16) -> nn.Module:
    torch.manual_seed(0)
    return attention.build(spec, width=width)  # type: ignore[arg-type]


def maps(*, width: int = 16, height: int = 5, across: int = 7) -> Tensor:
    """Numbers from 0.5 to 1.5, so that what multiplies them can be told by dividing."""
    return torch.rand(3, width, height, across, generator=torch.Generator().manual_seed(1)) + 0.5


def gate(plugin: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return plugin(x) / x


@every_plugin
@pytest.mark.parametrize("size", [(5, 7), (1, 1)])
def test_the_shape_stays_and_the_numbers_are_finite(name: str, size: tuple[int, int]) -> None:
    plugin, x = make(name).eval(), maps(height=size[0], across=size[1])
    out = plugin(x)
    assert out.shape == x.shape
    assert out.isfinite().all()


@every_plugin
def test_pictures_do_not_see_each_other(name: str) -> None:
    plugin, x = make(name).eval(), maps()
    torch.testing.assert_close(plugin(x)[1:2], plugin(x[1:2]))


@pytest.mark.parametrize("name", ["eca", "se", "cbam", "simam", "coordinate"])
def test_a_gate_is_between_0_and_1_and_differs(name: str) -> None:
    gates = gate(make(name), maps())
    assert gates.min() > 0
    assert gates.max() < 1
    assert gates.std() > 1e-4


@pytest.mark.parametrize("name", ["eca", "se"])
def test_a_channel_has_one_gate(name: str) -> None:
    gates = gate(make(name), maps())
    torch.testing.assert_close(gates, gates[:, :, :1, :1].expand_as(gates))


@pytest.mark.parametrize(("spec", "width", "num_parameters"), [
    ("eca", 64, 3),
    ("eca", 256, 5),
    ({"name": "eca", "kernel_size": 9}, 64, 9),
    ("se", 64, 2 * 64 * 4 + 4 + 64),
    ("se", 8, 2 * 8 * 1 + 1 + 8),
    ({"name": "se", "reduction": 4}, 64, 2 * 64 * 16 + 16 + 64),
    ("cbam", 64, 2 * 64 * 4 + 4 + 64 + 2 * 7 * 7 + 2),
    ({"name": "cbam", "reduction": 8, "kernel_size": 3}, 64, 2 * 64 * 8 + 8 + 64 + 2 * 3 * 3 + 2),
    ("simam", 64, 0),
    ("coordinate", 64, 64 * 8 + 2 * 8 + 2 * (8 * 64 + 64)),
    ("coordinate", 512, 512 * 16 + 2 * 16 + 2 * (16 * 512 + 512)),
    ("lsk", 96, 21_510),
    ("lsk", 192, 70_470),
    ("none", 64, 0),
])  # fmt: skip
def test_counts(spec: object, width: int, num_parameters: int) -> None:
    assert sum(p.numel() for p in make(spec, width=width).parameters()) == num_parameters


def test_the_adaptive_kernel_follows_the_width() -> None:
    kernels = {16: 3, 32: 3, 64: 3, 127: 3, 128: 5, 256: 5, 512: 5, 1024: 5, 2047: 5, 2048: 7}
    assert {width: adaptive_kernel_size(width) for width in kernels} == kernels
    assert ECA(128).conv.kernel_size == (5,)
    assert ECA(128, kernel_size=3).conv.kernel_size == (3,)


def test_eca_looks_at_the_neighbouring_channels_only() -> None:
    plugin, x = make({"name": "eca", "kernel_size": 5}), maps()
    other = x.clone()
    other[:, 8] += 1
    changed = (gate(plugin, x) != gate(plugin, other)).any(3).any(2).any(0)
    assert changed.nonzero().flatten().tolist() == [6, 7, 8, 9, 10]


def test_simam_opens_for_what_stands_out() -> None:
    x = torch.ones(1, 2, 8, 8)
    x[0, 0, 3, 3] = 2
    gates = gate(make("simam", width=2), x)
    assert gates[0, 0].argmax() == 3 * 8 + 3
    assert gates[0, 0, 3, 3] > 0.9
    torch.testing.assert_close(gates[0, 1], torch.full((8, 8), 0.5).sigmoid())  # nothing stands out


def test_coordinate_gates_are_rows_times_columns() -> None:
    gates = gate(make("coordinate"), maps())
    torch.testing.assert_close(gates[:, :, 1:, 1:] * gates[:, :, :1, :1], gates[:, :, 1:, :1] * gates[:, :, :1, 1:])
    assert (gates[:, :, 0, 0] - gates[:, :, 0, 1]).abs().max() > 1e-4
    assert (gates[:, :, 0, 0] - gates[:, :, 1, 0]).abs().max() > 1e-4


def test_the_far_view_of_lsk_sees_23_pixels() -> None:
    plugin = LSK(2)
    x = torch.randn(1, 2, 41, 41, generator=torch.Generator().manual_seed(1)).requires_grad_()
    plugin.conv_spatial(plugin.conv0(x))[0, 0, 20, 20].backward()
    assert x.grad is not None
    seen = x.grad[0, 0].nonzero()
    assert seen.amin(0).tolist() == [20 - 11, 20 - 11]
    assert seen.amax(0).tolist() == [20 + 11, 20 + 11]


def test_lsk_chooses_pixel_by_pixel() -> None:
    """With the near weight at 1 and the far at 0 only the near view is left."""
    plugin, x = LSK(4), maps(width=4)
    with torch.no_grad():
        plugin.conv_squeeze.weight.zero_()
        plugin.conv_squeeze.bias.copy_(torch.tensor([100.0, -100.0]))
        torch.testing.assert_close(plugin(x), x * plugin.conv(plugin.conv1(plugin.conv0(x))))


def test_none_is_the_identity() -> None:
    x = maps()
    assert make("none")(x) is x
    assert isinstance(make({"name": "none"}), nn.Identity)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("ecaa", r"model\.attention: found 'ecaa'; expected one of none, eca, se, .*Did you mean 'eca'"),
        ({"name": "simm"}, r"Did you mean 'simam'"),
        ({"name": "eca", "kernel": 3}, r"model\.attention: found 'kernel'; expected one of kernel_size.*'kernel_size'"),
        ({"name": "lsk", "kernel_size": 3}, r"found 'kernel_size'; expected nothing here"),
        ({"name": "none", "reduction": 3}, r"found 'reduction'; expected nothing here"),
        ({"kernel_size": 3}, r"expected a name, or a mapping"),
        ({"name": 3}, r"expected a name, or a mapping"),
        (["eca"], r"expected a name, or a mapping"),
        (None, r"expected a name, or a mapping"),
        ({"name": "eca", "kernel_size": 4}, r"model\.attention\.kernel_size: found 4; expected an odd number"),
        ({"name": "eca", "kernel_size": -3}, r"model\.attention\.kernel_size: found -3"),
        ({"name": "eca", "kernel_size": "adaptiv"}, r"found 'adaptiv'; expected an odd number, such as 3, or adaptive"),
        ({"name": "eca", "kernel_size": True}, r"model\.attention\.kernel_size: found True"),
        ({"name": "eca", "kernel_size": 3.0}, r"model\.attention\.kernel_size: found 3\.0"),
        ({"name": "se", "reduction": 0}, r"model\.attention\.reduction: found 0; expected a whole number, 1 or more"),
        ({"name": "se", "reduction": "16"}, r"model\.attention\.reduction: found '16'"),
        ({"name": "se", "reduction": True}, r"model\.attention\.reduction: found True"),
        ({"name": "cbam", "kernel_size": 6}, r"model\.attention\.kernel_size: found 6; expected an odd number"),
        ({"name": "simam", "e_lambda": 0}, r"model\.attention\.e_lambda: found 0; expected a number above 0"),
        ({"name": "simam", "e_lambda": "small"}, r"model\.attention\.e_lambda: found 'small'"),
    ],
)
def test_mistakes_are_named(spec: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(spec)


def test_lsk_needs_two_channels() -> None:
    with pytest.raises(RecipeError, match="2 channels or more"):
        make("lsk", width=1)
