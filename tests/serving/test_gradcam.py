"""Where a network looked: by hand, as class activation maps say, in every network, and nothing of it left behind."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bakeoff import catalogue, models
from bakeoff.models import stages
from bakeoff.serving import gradcam
from tests.training import tiny

SHAPE = (3, 32, 32)
META = torch.device("meta")

# The smallest network of each builder that has all its parts.
SMALL: dict[str, dict[str, Any]] = {
    "cct": {"width": 16, "depth": 1, "num_heads": 2},
    "coatnet": {"widths": (16, 16, 32, 32), "depths": (1, 1, 1, 1), "stem_width": 8, "head_width": 16},
    "coatnet_cifar": {"widths": (16, 16, 16, 32, 32), "depths": (1, 1, 1, 1, 1), "num_heads": 2},
    "convnext": {"widths": (8, 16, 16, 16), "depths": (1, 1, 1, 1)},
    "cspresnet": {"widths": (16, 16, 16, 16), "depths": (1, 1, 1, 1)},
    "ghost_resnet": {"depth": 8},
    "ghostnet": {"width": 0.25},
    "gmlp": {"width": 16, "depth": 2},
    "hornet": {"widths": (16, 16, 16, 32), "depths": (1, 1, 1, 1)},
    "improved_resnet": {},
    "lsknet": {"widths": (8, 8, 16, 16), "depths": (1, 1, 1, 1)},
    "mlp_mixer": {"width": 16, "depth": 2},
    "mscan": {"widths": (8, 8, 16, 16), "depths": (1, 1, 1, 1)},
    "resnest": {"depth": 14},
    "resnet": {"depth": 10},
    "small_resnet": {"depth": 8, "attention": {"name": "cbam"}},
    "speednet": {"widths": (8, 16, 16)},
}


class ByHand(nn.Module):
    """One convolution, the mean over the picture, one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.fc = nn.Linear(2, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1))
            self.fc.weight.copy_(torch.tensor([[1.0, 0.25], [-1.0, 0.0]]))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.conv(x).mean((2, 3)))
        return logits


class Odd(nn.Module):
    """A network of timm's kind, with channels at the end, or with a class token."""

    def __init__(self, *, tokens: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 8, stride=8)
        self.blocks = nn.Sequential(*(nn.Linear(8, 8) for _ in range(2)))
        self.head = nn.Linear(8, 10)
        self.num_prefix_tokens = int(tokens)
        self.feature_info = [{"module": f"blocks.{i}", "num_chs": 8} for i in range(2)]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        if self.num_prefix_tokens:
            x = x.flatten(1, 2)
            x = torch.cat([x.mean(1, keepdim=True), x], 1)
            x = self.blocks[0](x)
            x = self.blocks[1](x + x.mean(1, keepdim=True))[:, 0]
        else:
            x = self.blocks(x).mean((1, 2))
        logits: Tensor = self.head(x)
        return logits


def small(builder: str) -> nn.Module:
    torch.manual_seed(0)
    return models.build(builder, num_classes=10, in_channels=3, image_size=32, **SMALL[builder]).eval()


def found(network: nn.Module, shape: gradcam.Shape = SHAPE) -> gradcam.Layer:
    layer = gradcam.find(network, shape)
    assert layer is not None
    return layer


def test_a_map_that_can_be_computed_by_hand() -> None:
    """The channels are x and -2x; their weighted sum is (w1 - 2 w2) x / 4: of the classes x / 8 and -x / 4."""
    x = torch.tensor([[[[1.0, 2.0], [3.0, -4.0]]]])
    network = ByHand()
    layer = found(network, (1, 2, 2))
    assert (layer.name, layer.size) == ("conv", (2, 2))
    heat = gradcam.maps(network, x, torch.tensor([[0, 1]]), layer=layer)
    expected = torch.tensor([[[[0.125, 0.25], [0.375, 0.0]], [[0.0, 0.0], [0.0, 1.0]]]])
    torch.testing.assert_close(heat, expected)


def test_before_a_mean_and_a_matrix_it_is_the_class_activation_map() -> None:
    """Zhou et al., https://arxiv.org/abs/1512.04150: the channels by the weights of the matrix. Ours has no signs."""
    torch.manual_seed(0)
    network = tiny.staged(num_classes=5, in_channels=3, width=6).eval()
    x, layer = torch.randn(4, *SHAPE), found(network)
    assert (layer.name, layer.size) == ("stage3", (8, 8))
    with torch.no_grad():
        _, maps = stages.Tapped(network, ["stage3"])(x)
        cam = torch.einsum("kc,bchw->bkhw", network.get_parameter("fc.weight"), maps[0])
    heat = gradcam.maps(network, x, torch.arange(5).expand(4, 5), layer=layer)
    torch.testing.assert_close(heat, cam.relu() / 64)
    assert (heat > 0).any()


def test_a_picture_has_the_same_map_in_any_batch() -> None:
    network = small("small_resnet")
    x, layer = torch.randn(5, *SHAPE), found(network)
    together = gradcam.maps(network, x, torch.tensor([[0], [1], [2], [3], [4]]), layer=layer)
    alone = gradcam.maps(network, x[3:4], torch.tensor([[3]]), layer=layer)
    torch.testing.assert_close(together[3:4], alone, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("builder", sorted(models.BUILDERS))
def test_every_kind_of_network_has_maps(builder: str) -> None:
    network = small(builder)
    layer = found(network)
    heat = gradcam.maps(network, torch.randn(2, *SHAPE), torch.arange(4).expand(2, 4), layer=layer)
    assert heat.shape == (2, 4, *layer.size)
    assert heat.isfinite().all()
    assert (heat >= 0).all()
    assert (heat > 0).any()


@pytest.mark.parametrize("name", catalogue.MODELS)
def test_every_name_is_looked_at_in_its_last_stage(name: str) -> None:
    with META:
        network = models.build(name, num_classes=10, in_channels=3, image_size=32)
    layer = gradcam.find(network, SHAPE, device=META)
    assert layer is not None
    assert layer.name == stages.names(network)[-1]
    assert min(layer.size) >= 2


def test_frozen_weights_are_no_hindrance() -> None:
    network = ByHand().requires_grad_(False)
    layer = found(network, (1, 2, 2))
    with torch.no_grad():
        heat = gradcam.maps(network, torch.ones(1, 1, 2, 2), torch.tensor([[0]]), layer=layer)
    torch.testing.assert_close(heat, torch.full((1, 1, 2, 2), 0.125))


def test_the_network_is_left_as_it_was() -> None:
    network = small("small_resnet").train()
    network.get_submodule("layer1").eval()
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.randn(2, *SHAPE, requires_grad=True)
    gradcam.maps(network, x, torch.tensor([[0], [1]]), layer=found(network))
    assert [module.training for module in network.modules()] == modes
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert x.grad is None
    torch.testing.assert_close(dict(network.state_dict()), state, rtol=0, atol=0)


def test_it_is_left_as_it_was_by_a_pass_that_fails() -> None:
    network = small("small_resnet").train()
    layer = found(network)
    with pytest.raises(RuntimeError, match="channels"):
        gradcam.maps(network, torch.randn(1, 5, 32, 32), torch.tensor([[0]]), layer=layer)
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_that_says_nothing_is_looked_at_in_its_last_map() -> None:
    layers = [nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(4, 3))
    assert found(network, (1, 8, 8)) == gradcam.Layer(name="1", size=(4, 4))


def test_a_network_without_a_map_has_none() -> None:
    assert gradcam.find(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), (1, 8, 8)) is None


def test_the_weights_of_an_attention_are_no_map() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.softmax, self.fc = nn.Softmax(-1), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)  # [b 64 1]
            tokens = self.softmax(tokens[:, None] @ tokens[:, None].transpose(2, 3))[:, 0] @ tokens
            logits: Tensor = self.fc(tokens.unflatten(1, (8, 8)).mean((1, 3)))
            return logits

    assert gradcam.find(Attends(), (1, 8, 8)) is None


def test_channels_at_the_end_are_read_as_channels() -> None:
    torch.manual_seed(0)
    network = Odd(tokens=False)
    layer = found(network)
    assert layer == gradcam.Layer(name="blocks.1", size=(4, 4), channels_last=True)
    x = torch.randn(1, *SHAPE)
    with torch.no_grad():
        maps = network.blocks(network.stem(x).permute(0, 2, 3, 1))
        cam = (maps @ network.head.weight[7]).relu() / 16
    torch.testing.assert_close(gradcam.maps(network, x, torch.tensor([[7]]), layer=layer)[:, 0], cam)


def test_where_a_class_token_answers_the_block_before_is_read() -> None:
    torch.manual_seed(0)
    network = Odd(tokens=True)
    layer = found(network)
    assert layer == gradcam.Layer(name="blocks.0", size=(4, 4), prefix=1)
    heat = gradcam.maps(network, torch.randn(2, *SHAPE), torch.arange(10).expand(2, 10), layer=layer)
    assert heat.shape == (2, 10, 4, 4)
    assert (heat > 0).any()


def test_timms_transformers_have_maps() -> None:
    pytest.importorskip("timm")
    torch.manual_seed(0)
    options = {"patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
    network = models.build("timm:vit_tiny_patch16_224", num_classes=10, in_channels=3, image_size=32, **options)
    nn.init.normal_(network.get_parameter("head.weight"))  # timm begins with zeros
    layer = found(network)
    assert (layer.name, layer.size, layer.prefix) == ("blocks.1", (4, 4), 1)
    heat = gradcam.maps(network, torch.randn(1, *SHAPE), torch.arange(10)[None], layer=layer)
    assert math.isfinite(heat.sum())
    assert (heat > 0).any()
