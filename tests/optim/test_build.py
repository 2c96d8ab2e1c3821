import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from bakeoff import optim
from bakeoff.errors import RecipeError

NAMES = list(optim.OPTIMIZERS)


class Net(nn.Module):
    """A filter, a norm, a layer scale, a bias of two dimensions and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.mixer = nn.Linear(8, 8)
        self.scale = nn.Parameter(torch.full((8,), 0.5))
        self.table_bias = nn.Parameter(torch.zeros(2, 8))
        self.frozen = nn.Parameter(torch.ones(3, 3), requires_grad=False)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu().mean((2, 3))
        return self.fc(self.mixer(x) * self.scale + self.table_bias.sum(0))


def make_net(*, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def make(name: str, net: nn.Module, **arguments: object) -> Optimizer:
    return optim.build(name, net, **{"lr": 0.05, "weight_decay": 0.01, **arguments})  # type: ignore[arg-type]


def train(net: nn.Module, optimizer: Optimizer, *, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 3, 6, 6, generator=generator)
        if isinstance(net, Net) and net.conv.weight.is_contiguous(memory_format=torch.channels_last):
            x = x.contiguous(memory_format=torch.channels_last)
        y = torch.randint(4, (8,), generator=generator)
        optim.set_lr(optimizer, 1 - step / 10)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()


def names_by_decay(net: nn.Module, optimizer: Optimizer) -> dict[str, float]:
    names = {id(p): name for name, p in net.named_parameters()}
    return {names[id(p)]: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_is_for_filters_and_matrices(name: str) -> None:
    net = make_net()
    decays = names_by_decay(net, make(name, net, decay_norms_and_biases=False))
    assert {key for key, decay in decays.items() if decay} == {"conv.weight", "mixer.weight", "fc.weight"}
    assert set(decays) == {key for key, p in net.named_parameters() if p.requires_grad}
    assert set(decays.values()) == {0.01, 0.0}


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_is_for_all_when_asked(name: str) -> None:
    net = make_net()
    decays = names_by_decay(net, make(name, net, decay_norms_and_biases=True))
    assert set(decays) == {key for key, p in net.named_parameters() if p.requires_grad}
    assert set(decays.values()) == {0.01}


@pytest.mark.parametrize("name", NAMES)
def test_one_multiplier_moves_every_learning_rate(name: str) -> None:
    optimizer = make(name, make_net())
    peaks = [group["lr"] for group in optimizer.param_groups]
    for multiplier in (0.5, 0.0, 0.25, 1.0):
        optim.set_lr(optimizer, multiplier)
        assert [group["lr"] for group in optimizer.param_groups] == [p * multiplier for p in peaks]
    assert [group["initial_lr"] for group in optimizer.param_groups] == peaks


PLAIN: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, foreach=False),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05, foreach=False),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, foreach=False),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05, foreach=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.05, foreach=False),
}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_the_fused_update_is_the_plain_one(name: str, channels_last: bool) -> None:
    ours, theirs = make_net(), make_net()
    if channels_last:
        ours = ours.to(memory_format=torch.channels_last)
    optimizer = make(name, ours)
    wanted = {"weight_decay": 0.01}
    plain = PLAIN[name](
        [
            {"params": [theirs.conv.weight, theirs.mixer.weight, theirs.fc.weight], **wanted},
            {"params": [p for n, p in theirs.named_parameters() if "weight" not in n or "norm" in n]}
            | {"weight_decay": 0.0},
        ]
    )
    for group in plain.param_groups:
        group["initial_lr"] = group["lr"]
    train(ours, optimizer, steps=range(4))
    train(theirs, plain, steps=range(4))
    for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adagrad"])
def test_the_fused_update_is_used(name: str) -> None:
    assert make(name, make_net()).defaults["fused"] is True


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in NAMES] + [("muon", {"rest": "sgd"}), ("sgd", {"nesterov": False})],
)
def test_resuming_from_a_saved_state_is_the_same_to_the_bit(name: str, options: dict[str, object]) -> None:
    never, before = make_net(), make_net()
    unbroken, stopped = make(name, never, **options), make(name, before, **options)
    train(never, unbroken, steps=range(6))
    train(before, stopped, steps=range(3))
    file = io.BytesIO()
    torch.save({"net": before.state_dict(), "optimizer": stopped.state_dict()}, file)
    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)

    after = make_net(seed=1)
    resumed = make(name, after, **options)
    after.load_state_dict(saved["net"])
    resumed.load_state_dict(saved["optimizer"])
    train(after, resumed, steps=range(3, 6))
    assert all(torch.equal(p, q) for p, q in zip(after.parameters(), never.parameters(), strict=True))
    assert str(resumed.state_dict()) == str(unbroken.state_dict())

    # The control: without the optimizer's state it is another run.
    forgetful = make_net(seed=1)
    forgetful.load_state_dict(saved["net"])
    train(forgetful, make(name, forgetful, **options), steps=range(3, 6))
    assert not torch.equal(forgetful.conv.weight, never.conv.weight)


@pytest.mark.parametrize("name", NAMES)
def test_frozen_parameters_and_those_without_gradient_stay(name: str) -> None:
    net = make_net()
    optimizer = make(name, net)
    before = copy.deepcopy(net.state_dict())
    net.conv(torch.randn(1, 3, 6, 6)).sum().backward()  # only the filter gets a gradient
    optimizer.step()
    changed = [key for key, value in net.state_dict().items() if not torch.equal(value, before[key])]
    assert changed == ["conv.weight"]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("adanw", {}, r"optimizer: found 'adanw'; expected one of sgd, adam.*Did you mean 'adamw'\?"),
        ("sgd", {"nestrov": True}, r"found 'nestrov'; expected one of momentum, nesterov.*'nesterov'"),
        ("adam", {"momentum": 0.9}, r"expected one of beta1, beta2, eps"),
        ("sgd", {"lr": -1.0}, "learning rate"),
        ("sgd", {"momentum": 0.0}, "Nesterov"),
        ("adamw", {"beta1": 1.5}, "beta"),
        ("muon", {"rest": "adam"}, r"optimizer\.rest: found 'adam'; expected one of sgd, adamw"),
        ("muon", {"rest_lr": -1.0}, r"optimizer\.rest_lr"),
        ("muon", {"lr": float("nan")}, r"optimizer\.lr"),
        ("muon", {"momentum": 1.0}, r"optimizer\.momentum"),
    ],
)
def test_mistakes_are_named(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(name, make_net(), **arguments)
