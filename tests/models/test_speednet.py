"""SpeedNet: counts by hand, what its whitening does, how it starts, what its options change, mistakes."""

import pytest
import torch
from torch import Tensor

from bakeoff.errors import RecipeError
from bakeoff.models.cost import cost
from bakeoff.models.speednet import SpeedNet, speednet


def small(**options: object) -> SpeedNet:
    torch.manual_seed(0)
    return speednet(num_classes=10, in_channels=3, image_size=32, widths=(8, 32, 40), **options)  # type: ignore[arg-type]


def pictures(num: int = 200, size: int = 8) -> Tensor:
    """Draw smooth pictures: their pixels go together, as those of photographs do."""
    x = torch.randn(num, 3, size + 4, size + 4, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.avg_pool2d(x, 5, stride=1) * 5 + 0.3


def test_counts_are_those_by_hand() -> None:
    with torch.device("meta"):
        found = cost(speednet(num_classes=100, in_channels=3, image_size=32), (3, 32, 32))
    filters = 9 * (24 * 64 + 2 * 64 * 64 + 64 * 256 + 2 * 256 * 256 + 256 * 512 + 2 * 512 * 512)
    assert found.params == filters + 3 * (64 + 256 + 512) + 512 * 100
    macs = 12 * 24 * 31**2 + 9 * (24 * 64 * 31**2 + 2 * 64 * 64 * 15**2 + 64 * 256 * 15**2 + 2 * 256 * 256 * 7**2)
    assert found.macs == macs + 9 * (256 * 512 * 7**2 + 2 * 512 * 512 * 3**2) + 512 * 100


def test_whitened_patches_have_unit_variance_and_nothing_in_common() -> None:
    network, x = small().double(), pictures().double()
    network.prepare(x.float())
    found = network.whiten(x).permute(1, 0, 2, 3).flatten(1)
    half = len(found) // 2
    assert torch.equal(found[:half], -found[half:])  # each direction both ways
    second_moments = found[:half] @ found[:half].T / found.shape[1]
    assert second_moments.fill_diagonal_(0).abs().max() < 1e-5
    spread = found[:half].square().mean(1)
    assert spread.max() <= 1 + 1e-6
    assert spread.min() > 0.9  # less than one only where a direction is faint


def test_the_whitening_is_not_trained_and_its_filters_do_not_depend_on_the_order_of_pictures() -> None:
    network, again = small(), small()
    network.prepare(pictures())
    again.prepare(pictures().flip(0))
    before = network.whiten.weight.clone()
    torch.testing.assert_close(before.abs(), again.whiten.weight.abs(), rtol=1e-4, atol=1e-4)
    network(pictures(4, 32)).sum().backward()
    assert network.whiten.weight.grad is None
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_filters_start_as_the_identity() -> None:
    filters = small().stage2.conv1.weight  # 8 to 32
    x = torch.randn(1, 8, 5, 5)
    assert torch.equal(torch.nn.functional.conv2d(x, filters[:8], padding=1), x)
    assert not torch.equal(small(dirac=False).stage2.conv1.weight, filters)


def test_without_whitening_the_first_convolution_is_trained() -> None:
    network = small(whiten=False)
    before = network.whiten.weight.detach().clone()
    network.prepare(pictures())
    assert torch.equal(network.whiten.weight, before)
    network(pictures(4, 32)).sum().backward()
    assert network.whiten.weight.grad is not None


@pytest.mark.parametrize("size", [9, 20, 24, 32, 40])
def test_pictures_of_other_sizes_fit(size: int) -> None:
    assert small().eval()(pictures(2, size)).shape == (2, 10)


def test_mistakes_are_refused() -> None:
    with pytest.raises(RecipeError, match="widths"):
        speednet(num_classes=10, in_channels=3, image_size=32, widths=(8, 8))
    with pytest.raises(RecipeError, match=r"model.depth: found 4; expected 2 or 3"):
        speednet(num_classes=10, in_channels=3, image_size=32, depth=4)
    with pytest.raises(RecipeError, match="pictures of 8 px"):
        speednet(num_classes=10, in_channels=3, image_size=8)
