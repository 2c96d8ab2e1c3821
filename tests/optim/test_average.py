import io

import pytest
import torch
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.optim import average


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3)).double()


def wander(net: nn.Module, *, step: int) -> None:
    """Change weights and statistics as training would."""
    generator = torch.Generator().manual_seed(step)
    for p in net.parameters():
        p.data.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    dtype = next(net.parameters()).dtype
    net(torch.randn(5, 1, 6, 6, generator=generator, dtype=dtype) + step)


def tensors(net: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


@pytest.mark.parametrize("warmup", [False, True])
def test_it_is_the_average_a_hand_computes(warmup: bool) -> None:
    net = make_net()
    averaged = average.build(net, decay=0.6, warmup=warmup)
    expected: dict[str, Tensor] = {}
    for t in range(12):
        wander(net, step=t)
        averaged.update_parameters(net)
        keep = min(0.6, (1 + t) / (10 + t)) if warmup else 0.6
        keep = 0.0 if t == 0 else keep
        for key, value in tensors(net).items():
            old = expected.get(key, value)
            expected[key] = keep * old + (1 - keep) * value if value.is_floating_point() else value
    assert set(expected) == set(averaged.module.state_dict())
    for key, value in averaged.module.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-12, atol=1e-12)
    assert not torch.equal(expected["1.running_mean"], net[1].running_mean)  # statistics are averaged, too


def test_the_warm_up_ends() -> None:
    net = make_net()
    averaged = average.build(net, decay=0.5)
    averaged.n_averaged.fill_(1000)
    before, after = tensors(averaged.module), None
    wander(net, step=0)
    averaged.update_parameters(net)
    after = tensors(averaged.module)
    torch.testing.assert_close(after["3.weight"], (before["3.weight"] + net[3].weight.data) / 2)


def test_the_average_is_for_evaluation_and_the_model_is_left_alone() -> None:
    net = make_net()
    before = tensors(net)
    averaged = average.build(net, decay=0.9)
    averaged.update_parameters(net)
    assert not averaged.module.training
    assert not any(p.requires_grad for p in averaged.parameters())
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_resuming_from_a_saved_state_is_the_same_to_the_bit(dtype: torch.dtype) -> None:
    def run(net: nn.Module, averaged: nn.Module, steps: range) -> None:
        for step in steps:
            wander(net, step=step)
            averaged.update_parameters(net)  # type: ignore[operator]

    never = make_net().to(dtype)
    never_averaged = average.build(never, decay=0.999)
    run(never, never_averaged, range(6))

    stopped = make_net().to(dtype)
    stopped_averaged = average.build(stopped, decay=0.999)
    run(stopped, stopped_averaged, range(3))
    file = io.BytesIO()
    torch.save([stopped.state_dict(), stopped_averaged.state_dict()], file)
    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)

    resumed = make_net().to(dtype)
    resumed_averaged = average.build(resumed, decay=0.999)
    resumed.load_state_dict(saved[0])
    resumed_averaged.load_state_dict(saved[1])
    run(resumed, resumed_averaged, range(3, 6))
    ours, theirs = resumed_averaged.state_dict(), never_averaged.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert {value.dtype for value in ours.values()} == {dtype, torch.int64}

    # The control: without the saved average it is another one.
    fresh = average.build(resumed, decay=0.999).state_dict()
    assert not torch.equal(fresh["module.3.weight"], theirs["module.3.weight"])


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_an_impossible_decay_is_named(decay: float) -> None:
    with pytest.raises(RecipeError, match="ema_decay"):
        average.build(make_net(), decay=decay)
