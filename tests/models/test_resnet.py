import pytest
import torch
from torch import nn

from bakeoff import models
from bakeoff.models.layers import conv, initialise
from bakeoff.models.resnet import PadShortcut


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
