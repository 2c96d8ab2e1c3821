import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff import catalogue, models
from bakeoff.models.cost import Cost, cost, fingerprint, layers

SHAPE = (3, 16, 16)


class Net(nn.Module):
    """A network with something of everything, each piece of it an argument."""

    def __init__(self, **changed: object) -> None:
        super().__init__()
        self.settings = {
            "width": 8,
            "kernel": 3,
            "stride": 1,
            "padding": 1,
            "dilation": 1,
            "groups": 1,
            "bias": False,
            "padding_mode": "zeros",
            "act": F.relu,
            "pool": nn.MaxPool2d(2),
            "dropout": 0.1,
            "eps": 1e-5,
            "momentum": 0.1,
            "norm": nn.BatchNorm2d,
            "norm_options": {},
            "skip": "stem",
            "scale": 1.0,
            "norm_first": False,
            "shared": False,
            "noise": 0.0,
            "classes": 10,
            "depth": 1,
            "frozen": False,
            **changed,
        }
        s = self.settings
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv = nn.Conv2d(
            8,
            8,
            s["kernel"],
            stride=s["stride"],
            padding=s["padding"],
            dilation=s["dilation"],
            groups=s["groups"],
            bias=s["bias"],
            padding_mode=s["padding_mode"],
        )
        self.mixer = nn.Conv2d(8, s["width"], 1)
        self.unmixer = nn.Conv2d(s["width"], 8, 1)
        options = s["norm_options"] or {"eps": s["eps"], "momentum": s["momentum"]}
        self.norm = s["norm"](8, **options)
        self.extra = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(s["depth"]))
        self.twin = self.extra[0] if s["shared"] else nn.Conv2d(8, 8, 1)
        self.pool = s["pool"]
        self.fc = nn.Linear(8, s["classes"])
        self.stem.weight.requires_grad_(not s["frozen"])

    def forward(self, x: Tensor) -> Tensor:
        s = self.settings
        stem = self.stem(x)
        x = self.conv(stem)
        x = s["act"](self.norm(x)) if not s["norm_first"] else self.norm(s["act"](x))
        inner = self.unmixer(self.mixer(x))
        if s["stride"] == 1 and s["skip"] != "none":
            inner = inner + (stem if s["skip"] == "stem" else x) * s["scale"]
        for layer in self.extra:
            inner = layer(inner)
        x = self.twin(self.pool(inner))
        if self.training and s["noise"]:
            x = x + torch.empty_like(x).bernoulli_(s["noise"])
        return self.fc(F.dropout(x.mean((2, 3)), s["dropout"], self.training))


MUTATIONS: dict[str, dict[str, object]] = {
    "wider": {"width": 16},
    "smaller kernel": {"kernel": 1, "padding": 0},
    "larger kernel": {"kernel": 5, "padding": 2},
    "stride": {"stride": 2},
    "dilation": {"dilation": 2, "padding": 2},
    "padding": {"padding": 2, "stride": 2},
    "padding mode": {"padding_mode": "reflect"},
    "groups": {"groups": 2},
    "depthwise": {"groups": 8},
    "bias": {"bias": True},
    "gelu": {"act": F.gelu},
    "approximate gelu": {"act": lambda x: F.gelu(x, approximate="tanh")},
    "silu": {"act": F.silu},
    "leaky relu": {"act": lambda x: F.leaky_relu(x, 0.1)},
    "leakier relu": {"act": lambda x: F.leaky_relu(x, 0.2)},
    "clipped relu": {"act": F.relu6},
    "no activation": {"act": lambda x: x},
    "average pooling": {"pool": nn.AvgPool2d(2)},
    "overlapping pooling": {"pool": nn.MaxPool2d(3, stride=2, padding=1)},
    "no pooling": {"pool": nn.Identity()},
    "drop-out": {"dropout": 0.2},
    "eps": {"eps": 1e-3},
    "momentum": {"momentum": 0.2},
    "instance norm": {"norm": nn.InstanceNorm2d},
    "group norm": {"norm": lambda c, **_: nn.GroupNorm(2, c)},
    "norm without scale": {"norm_options": {"affine": False}},
    "norm after activation": {"norm_first": True},
    "skip from elsewhere": {"skip": "near"},
    "no skip": {"skip": "none"},
    "scaled skip": {"scale": 0.5},
    "deeper": {"depth": 2},
    "shared weights": {"shared": True},
    "noise in training": {"noise": 0.5},
    "more noise in training": {"noise": 0.25},
    "classes": {"classes": 11},
    "frozen stem": {"frozen": True},
}


def test_every_single_change_changes_the_fingerprint() -> None:
    prints = {name: fingerprint(Net(**change), SHAPE) for name, change in MUTATIONS.items()}
    prints["unchanged"] = fingerprint(Net(), SHAPE)
    prints["other size"] = fingerprint(Net(), (3, 18, 18))
    assert len(MUTATIONS) > 30
    assert len(set(prints.values())) == len(prints), prints


class Renamed(nn.Module):
    """The first net of the twins, with other names, registered in another order, ReLU in place."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 10)
        self.body = nn.ModuleDict({"n": nn.BatchNorm2d(4), "c": nn.Conv2d(3, 4, 3, bias=False)})

    def forward(self, picture: Tensor) -> Tensor:
        hidden = F.relu_(self.body["n"](self.body["c"](picture)))
        return self.head(hidden.mean(dim=(2, 3)))


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.unused = nn.Linear(7, 7)
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def test_twins_under_other_names_have_one_fingerprint() -> None:
    assert fingerprint(Plain(), SHAPE) == fingerprint(Renamed(), SHAPE)


def test_a_fingerprint_sees_neither_weights_nor_mode_nor_layout() -> None:
    torch.manual_seed(0)
    first = fingerprint(models.build("resnet_20", num_classes=10), SHAPE)
    torch.manual_seed(1)
    other = models.build("resnet_20", num_classes=10).eval().to(memory_format=torch.channels_last)
    assert fingerprint(other, SHAPE) == first
    assert len(first) == 64


# Names that stand for one and the same network.
TWINS = [
    {"resnet_20", "resnet20_no_eca"},
    {"eca_resnet_20", "ecanet20_fixed_k3", "ecanet20_adaptive"},
]


def test_the_zoo_has_just_the_known_twins() -> None:
    by_print: dict[str, set[str]] = {}
    for name in catalogue.MODELS:
        with torch.device("meta"):
            network = models.build(name, num_classes=100)
        by_print.setdefault(fingerprint(network, (3, 32, 32)), set()).add(name)
    assert sorted(map(sorted, by_print.values())) == sorted(
        map(sorted, [*TWINS, *({name} for name in set(catalogue.MODELS) - set().union(*TWINS))])
    )


@pytest.mark.parametrize("name", ["resnet_20", "resnet50", "timm:vit_tiny_patch16_224"])
@pytest.mark.parametrize("depth", [1, 2, 9])
def test_the_lines_of_a_network_add_up_to_its_cost(name: str, depth: int) -> None:
    network = models.build(name, num_classes=100)
    table, whole = layers(network, (3, 32, 32), depth=depth), cost(network, (3, 32, 32))
    assert sum(line.params for line in table) == whole.params
    assert sum(line.macs for line in table) == whole.macs
    assert len({line.name for line in table}) == len(table)
    assert table[-1].shape == (100,) or table[-1].name == ""


@pytest.mark.parametrize("look", [cost, fingerprint])
def test_looking_changes_nothing(look: Callable[[nn.Module, tuple[int, int, int]], object]) -> None:
    network = Net(noise=0.5)
    network.norm.eval()  # one part in another mode than the rest
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]
    first = look(network, SHAPE)
    assert look(network, SHAPE) == first
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()  # type: ignore[index]
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(p.device.type == "cpu" and p.grad is None for p in network.parameters())


def test_cost_is_what_a_hand_counts() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),  # 216 parameters, 8 x 16 x 16 outputs of 27 products
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=4),  # 8 x 2 x 9 + 8, 8 x 8 x 8 outputs of 18
        nn.Flatten(),
        nn.Linear(512, 10),  # 5130, 10 outputs of 512
    )
    assert cost(network, SHAPE) == Cost(
        params=216 + 152 + 5130,
        macs=2048 * 27 + 512 * 18 + 5120,
        activations=2048 + 512 + 10,
    )


def test_frozen_parameters_are_not_counted_as_trainable() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 10), nn.Linear(10, 2))
    network[1].requires_grad_(False)
    assert cost(network, SHAPE).params == 22
