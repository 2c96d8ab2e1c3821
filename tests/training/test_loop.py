"""The loop: the schedule, the gradients and the position at each step; nothing waits for the device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bakeoff.data import pixels
from bakeoff.optim import schedules
from bakeoff.optim.muon import Muon
from bakeoff.training import loop
from bakeoff.training.loop import Parts, Position
from tests.training import runs, tiny
from tests.training.kills import same

PLAIN = ("clip_norm=null", "augment.crop_padding=0", "schedule=constant")


def train(parts: Parts, position: Position, *, epochs: int = 1) -> list[float]:
    """Run whole epochs from the position and return the losses of the last."""
    for _ in range(epochs):
        for _ in loop.epoch(parts, position):
            pass
        position.epoch += 1
    return [float(loss) for loss in position.losses]


@contextmanager
def before_each_step(parts: Parts) -> Iterator[list[list[Tensor]]]:
    """Collect what the optimizer is about to apply: the gradients of each step."""
    seen: list[list[Tensor]] = []

    def note(*_: object) -> None:
        seen.append([p.grad.clone() for p in parts.model.parameters() if p.grad is not None])

    handle = parts.optimizer.register_step_pre_hook(note)
    yield seen
    handle.remove()


def norm(gradients: list[Tensor]) -> float:
    return float(torch.cat([g.flatten() for g in gradients]).norm())


@pytest.mark.parametrize("name", sorted(schedules.SCHEDULES))
def test_each_step_has_the_learning_rate_of_its_place_in_the_run(name: str) -> None:
    recipe = runs.recipe(f"schedule={name}", "schedule.warmup=0.1", "lr=0.3")
    parts, position = runs.parts(recipe)
    rates: list[float] = []
    parts.optimizer.register_step_pre_hook(lambda *_: rates.append(parts.optimizer.param_groups[0]["lr"]))
    train(parts, position, epochs=3)
    curve = schedules.build(**recipe.schedule.model_dump())
    assert rates == [0.3 * curve(step / 24) for step in range(24)]
    assert len(set(rates)) > 2


def test_every_group_of_the_optimizer_follows_the_schedule() -> None:
    parts, position = runs.parts(runs.recipe("optimizer=muon", "schedule=cosine"))
    train(parts, position)
    last = parts.schedule(7 / 24)
    groups = parts.optimizer.param_groups
    assert [group["lr"] for group in groups] == [group["initial_lr"] * last for group in groups]
    assert {group["initial_lr"] for group in groups} == {0.02, 0.001}


def test_a_step_is_taken_down_the_gradient_of_the_batch() -> None:
    """Against the same step written out."""
    bare = ("optimizer.nesterov=false", "optimizer.momentum=0", "weight_decay=0", "lr=0.1")
    parts, position = runs.parts(runs.recipe(*PLAIN, *bare, model=tiny.PLAIN))
    before = [p.detach().clone().requires_grad_() for p in parts.model.parameters()]
    batch = next(iter(parts.batches.epoch(0)))
    names = [name for name, _ in parts.model.named_parameters()]
    logits = torch.func.functional_call(parts.model, dict(zip(names, before, strict=True)), (batch.x,))
    loss = F.cross_entropy(logits, batch.targets)
    gradients = torch.autograd.grad(loss, before)
    next(loop.epoch(parts, position))
    assert float(position.losses[0]) == pytest.approx(float(loss.detach()), rel=1e-6)
    for p, old, gradient in zip(parts.model.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(p.detach(), old.detach() - 0.1 * gradient, rtol=1e-6, atol=1e-7)
        assert p.grad is None


@pytest.mark.parametrize("features", [(), ("label_smoothing=0.1", "mixup=0.4", "optimizer=adamw")])
def test_a_batch_in_four_parts_has_the_gradients_and_steps_of_a_whole_one(features: tuple[str, ...]) -> None:
    seen, losses, rates = [], [], []
    for k in (1, 4):
        parts, position = runs.parts(runs.recipe(*PLAIN, *features, f"accumulate={k}", model=tiny.PLAIN))
        with before_each_step(parts) as gradients:
            losses.append(train(parts, position))
        seen.append(gradients)
        rates.append([group["lr"] for group in parts.optimizer.param_groups])
    assert len(seen[0]) == len(seen[1]) == 8
    assert rates[0] == rates[1]
    for whole, cut in zip(*seen, strict=True):
        assert norm([a - b for a, b in zip(whole, cut, strict=True)]) < 1e-4 * norm(whole)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] != losses[1] or seen[0][0][0].equal(seen[1][0][0])


def test_clipping_shortens_a_long_gradient_and_does_not_turn_it() -> None:
    found = {}
    for clip in ("null", "0.01", "1000"):
        parts, position = runs.parts(runs.recipe(*PLAIN, f"clip_norm={clip}", model=tiny.PLAIN))
        with before_each_step(parts) as gradients:
            next(loop.epoch(parts, position))
        found[clip] = gradients[0]
    free, clipped = (torch.cat([g.flatten() for g in found[clip]]) for clip in ("null", "0.01"))
    assert float(free.norm()) > 0.1
    assert float(clipped.norm()) == pytest.approx(0.01, rel=1e-4)
    assert float(F.cosine_similarity(free, clipped, dim=0)) == pytest.approx(1, abs=1e-6)
    assert same(found["1000"], found["null"])


def test_it_yields_after_each_step_and_goes_on_from_where_it_stands() -> None:
    whole, position = runs.parts(runs.recipe(model=tiny.PLAIN))
    assert [position.step for _ in loop.epoch(whole, position)] == list(range(1, 9))
    cut, again = runs.parts(runs.recipe(model=tiny.PLAIN))
    steps = loop.epoch(cut, again)
    for _ in range(3):
        next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert again.step_in_epoch == 3
    assert [again.step for _ in loop.epoch(cut, again)] == [4, 5, 6, 7, 8]
    assert torch.equal(again.losses, position.losses)
    assert same(cut.model.state_dict(), whole.model.state_dict())


def test_the_average_follows_every_step() -> None:
    parts, position = runs.parts(runs.recipe("ema_decay=0.5", model=tiny.PLAIN))
    assert parts.average is not None
    for _ in loop.epoch(parts, position):
        assert int(parts.average.n_averaged) == position.step


class Waits(TorchDispatchMode):
    """Collect what makes the host wait for a device: reading a number out of a tensor, or counting its entries.

    Every item(), float() and bool() ends in the first of these operations, also inside torch. What is computed
    of the `host` tensors, which stay on the host whatever the device is, makes nobody wait.
    """

    WAITING = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "_unique2", "masked_select")

    def __init__(self, *host: Tensor) -> None:
        super().__init__()
        self.found: list[str] = []
        self.host = list(host)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        tensors = [a for a in args if isinstance(a, Tensor)]
        on_host = bool(tensors) and all(any(a is h for h in self.host) for a in tensors)
        if on_host and isinstance(answer, Tensor):
            self.host.append(answer)
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if (name in self.WAITING or by_mask) and not on_host:
            self.found.append(str(func))
        return answer


@contextmanager
def watched(*host: Tensor) -> Iterator[Waits]:
    waits = Waits(*host)

    def noted(name: str) -> Callable[[Tensor], object]:
        real = getattr(Tensor, name)
        return lambda x: (waits.found.append(name), real(x))[1]

    with pytest.MonkeyPatch.context() as patch, waits:
        for name in ("tolist", "cpu"):  # on a CPU these are no operations
            patch.setattr(Tensor, name, noted(name))
        yield waits


WAITING: tuple[Callable[[Tensor], object], ...] = (
    lambda x: x.sum().item(),
    lambda x: float(x[0]),
    lambda x: int(x[1]),
    lambda x: bool(x[0] > 0),
    lambda x: x.tolist(),
    lambda x: x.cpu(),
    lambda x: x.nonzero(),
    lambda x: x[x > 1],
    lambda x: x.equal(x + 1),
    lambda x: x.unique(),
)


@pytest.mark.parametrize("wait", WAITING)
def test_the_counter_of_waits_counts(wait: Callable[[Tensor], object]) -> None:
    x = torch.arange(3.0)
    with watched() as waits:
        wait(x)
    assert waits.found


def test_a_number_kept_on_the_host_makes_nobody_wait() -> None:
    x = torch.tensor(1.0)
    with watched(x) as waits:
        assert x + 1 > 0
    assert not waits.found


FEATURES = {
    "sgd": ("optimizer=sgd", "clip_norm=1"),
    "adamw, average": ("optimizer=adamw", "ema_decay=0.9", "accumulate=2"),
    "adam, mixtures": ("optimizer=adam", "mixup=0.4", "cutmix=1.0", "label_smoothing=0.1"),
    "muon": ("optimizer=muon",),
    "muon, sgd for the rest": ("optimizer=muon", "optimizer.rest=sgd"),
    "adagrad": ("optimizer=adagrad",),
    "rmsprop, erase": ("optimizer=rmsprop", "augment.erase=0.5", "augment.flip=random"),
    "cutout": ("augment.cutout=3", "augment.flip=alternate"),
    "policy": ("augment.policy=rand",),
}


@pytest.mark.parametrize("case", FEATURES)
def test_nothing_waits_for_the_device_between_the_steps_of_an_epoch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "on_host", lambda _: False)  # the route of other devices
    parts, position = runs.parts(runs.recipe(*FEATURES[case]))
    steps = loop.epoch(parts, position)
    next(steps)  # before its first step an epoch may plan on the host
    # These torch and Muon keep on the host: the number of averaged steps, and AdamW's own count of them.
    host = [parts.average.n_averaged] if parts.average is not None else []
    if isinstance(parts.optimizer, Muon):
        host += [state["step"] for state in parts.optimizer.state.values() if "step" in state]
    with watched(*host) as waits:
        for _ in steps:
            pass
    assert waits.found == []


def test_bf16_learns_as_float32_does() -> None:
    means = {}
    for precision in ("float32", "bf16"):
        parts, position = runs.parts(runs.recipe(f"precision={precision}", "batch_size=12", "lr=0.02"))
        assert parts.device.precision == precision
        means[precision] = sum(train(parts, position)[:20]) / 20
        assert all(p.dtype == torch.float32 for p in parts.model.parameters())
    assert means["bf16"] == pytest.approx(means["float32"], rel=0.01)
    assert means["bf16"] != means["float32"]
