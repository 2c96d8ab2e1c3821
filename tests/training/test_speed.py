"""Speed: what is measured is a step of training, counted as the costs are; what a clock says is summed up exactly."""

import copy
import itertools
import math
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bakeoff import models, optim
from bakeoff.errors import BakeoffError, RecipeError
from bakeoff.models import cost
from bakeoff.training import assembly, loop, memory, speed, stopwatch
from bakeoff.training.device import Device, resolve
from bakeoff.training.speed import Protocol, Speed
from bakeoff.training.stopwatch import REPEATS, WARM_UP, Timing, timed
from tests.training import runs, tiny

SMALL = Protocol(batch_size=4, image_size=8, num_classes=3, seconds=0.001)


class Watch:
    """A clock that work moves on: each step by the next of some times, over and over."""

    def __init__(self, steps_s: Iterable[float]) -> None:
        self.steps_s, self.now, self.steps = itertools.cycle(steps_s), 0.0, 0

    def __call__(self) -> float:
        return self.now

    def work(self) -> None:
        self.now += next(self.steps_s)
        self.steps += 1


@pytest.fixture
def device() -> Device:
    return place()


def place(precision: str = "float32") -> Device:
    return resolve(
        device="cpu", precision=precision, compile=False, threads=1, deterministic=True, training_macs=lambda: 0.0
    )


def nothing() -> None:
    """Wait for nobody."""


def test_medians_and_spread_are_those_of_the_repeats() -> None:
    watch = Watch([1.0] * 4 + [0.5, 2.0, 1.0, 1.0, 0.25, 1.0, 1.0, 4.0, 1.0, 1.0])
    found = timed(watch.work, seconds=10.0, repeats=(3, 10), wait=nothing, clock=watch)
    assert found == Timing(steps_s=(0.5, 2.0, 1.0, 1.0, 0.25, 1.0, 1.0, 4.0, 1.0, 1.0), steps=1)
    assert found.median_s == 1.0
    assert (min(found.steps_s), max(found.steps_s)) == (0.25, 4.0)


def test_short_steps_are_timed_many_at_once() -> None:
    """Three to warm up, which take longer than a fifth; one to see how long it takes; ten repeats of four."""
    watch = Watch([0.25])
    found = timed(watch.work, seconds=10.0, repeats=(3, 10), wait=nothing, clock=watch)
    warm_up = math.ceil(10.0 / 5 / 0.25)
    assert found == Timing(steps_s=(0.25,) * 10, steps=4)
    assert watch.steps == warm_up + 1 + 10 * 4


def test_long_steps_are_repeated_often_enough_for_a_median() -> None:
    watch = Watch([100.0])
    found = timed(watch.work, seconds=2.0, repeats=(3, 10), wait=nothing, clock=watch)
    assert len(found.steps_s) == 3
    assert watch.steps == WARM_UP + 1 + 3


def test_what_a_device_still_has_to_do_is_waited_for() -> None:
    watch, queued = Watch([1.0]), [0]

    def work() -> None:
        queued[0] += 1

    def wait() -> None:
        for _ in range(queued[0]):
            watch.work()
        queued[0] = 0

    assert timed(work, seconds=12.0, repeats=(1, 3), wait=wait, clock=watch) == Timing(steps_s=(1.0,) * 3, steps=4)


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60))
def test_most_calls_are_done_within_the_p95(steps_s: list[float]) -> None:
    found = Timing(steps_s=tuple(steps_s), steps=1).p95_s
    assert found in steps_s
    assert sum(step <= found for step in steps_s) >= 0.95 * len(steps_s)
    assert sum(step < found for step in steps_s) < 0.95 * len(steps_s)


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=20), st.integers(1, 512))
def test_what_is_told_agrees_with_itself(steps_s: list[float], batch_size: int) -> None:
    known = cost.Cost(params=7, macs=1000, activations=5)
    timing = Timing(steps_s=tuple(steps_s), steps=2)
    content = Speed(name="x", cost=known, batch_size=batch_size, train=timing, infer=timing).content(peak=1e6)
    for part, passes in (("train", 3), ("infer", 1)):
        told = content[part]
        assert told["images_per_s"] * told["step_ms"] / 1000 == pytest.approx(batch_size)
        assert told["step_ms"] == 1000 * statistics.median(steps_s)
        assert told["least_images_per_s"] <= told["images_per_s"] * (1 + 1e-12)
        assert told["images_per_s"] <= told["most_images_per_s"] * (1 + 1e-12)
        assert told["share_of_peak"] == pytest.approx(passes * 1000 * told["images_per_s"] / 1e6)
        assert (told["repeats"], told["steps_per_repeat"]) == (len(steps_s), 2)


def test_a_network_costs_what_its_table_says(device: Device) -> None:
    found = speed.measure(tiny.PLAIN, SMALL, device=device)
    content = found.content(peak=1e9)
    expected = cost.cost(tiny.plain(num_classes=3, in_channels=3), (3, 8, 8))
    assert found.cost == expected
    assert (content["params"], content["macs"]) == (expected.params, expected.macs)
    assert found.train is not None
    assert found.infer is not None
    assert found.single is not None
    assert all(len(timing.steps_s) >= REPEATS[0] for timing in (found.train, found.infer, found.single))
    assert len(found.single.steps_s) >= 20
    assert found.single.steps == 1


@pytest.mark.parametrize(("only", "there"), [("train", {"train"}), ("infer", {"infer", "single"})])
def test_only_what_was_asked_for_is_measured(only: str, there: set[str], device: Device) -> None:
    protocol = Protocol(
        batch_size=4, image_size=8, num_classes=3, seconds=0.001, train=only == "train", infer=only == "infer"
    )
    content = speed.measure(tiny.PLAIN, protocol, device=device).content(peak=1e9)
    assert {"train", "infer", "single"} & set(content) == there


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_weights_move_and_stay_finite(precision: str) -> None:
    device, x = place(precision), torch.randn(4, 3, 8, 8)
    network = device.place(tiny.network(num_classes=3, in_channels=3))
    before = copy.deepcopy(network.state_dict())
    optimizer = optim.build("sgd", network, lr=speed.LR, weight_decay=speed.WEIGHT_DECAY)
    work = speed.training_step(network, optimizer, x, torch.eye(3)[[0, 1, 2, 0]], device=device)
    for _ in range(20):
        work()
    for name, value in network.named_parameters():
        assert value.isfinite().all(), name
        assert not value.equal(before[name]), name
        assert value.grad is None, name


def test_a_step_is_one_of_the_loop() -> None:
    """On the same batch it leaves the same weights, to the bit."""
    recipe = runs.recipe("schedule=constant", model=tiny.PLAIN)
    parts = assembly.assemble(recipe, assembly.load(recipe), plugin=tiny.PLAIN, root=Path())
    network = copy.deepcopy(parts.model)
    optimizer = optim.build(model=network, **recipe.optimizer.model_dump())
    batch = next(iter(parts.batches.epoch(0)))
    step = speed.training_step(network, optimizer, batch.x, batch.targets, device=parts.device)
    step()
    next(loop.epoch(parts, loop.Position.at_start(parts)))
    for ours, theirs in zip(network.parameters(), parts.model.parameters(), strict=True):
        assert ours.equal(theirs)


def test_drawing_weights_leaves_the_global_stream_alone(device: Device) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    speed.measure(tiny.PLAIN, SMALL, device=device)
    assert torch.rand(3).equal(expected)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("resnet_21", RecipeError, "Did you mean 'resnet_20'?"),
        ("convnext_atto", RecipeError, "expected 16 px or more"),
        (tiny.POISONED, RecipeError, "poisoned"),
        ("tests.training.test_speed:broken", BakeoffError, "ValueError: out of order"),
    ],
)
def test_what_cannot_be_measured_says_why(name: str, kind: type[BakeoffError], said: str, device: Device) -> None:
    with pytest.raises(BakeoffError, match=name) as caught:
        speed.measure(name, SMALL, device=device)
    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert caught.value.__context__ is None  # which would keep the network's tensors for as long as the error


def broken(*, num_classes: int, in_channels: int) -> torch.nn.Module:
    raise ValueError("out of order")


def test_batch_norm_that_meets_one_value_a_channel_is_refused_in_training_alone(device: Device) -> None:
    one = Protocol(batch_size=1, image_size=8, seconds=0.001)
    with pytest.raises(RecipeError, match="trains on 1 of them"):
        speed.measure("resnet18", one, device=device)
    found = speed.measure("resnet18", Protocol(batch_size=1, image_size=8, seconds=0.001, train=False), device=device)
    assert found.infer is not None


def test_the_peak_is_that_of_the_fastest_product(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "PEAK_WIDTHS", {"cpu": 8})
    ticks = itertools.count()
    watch = Watch([1.0])
    times = itertools.chain([1.0] * 4, [2.0, 0.5], itertools.repeat(1.0))

    def mm(*_: object, out: torch.Tensor) -> torch.Tensor:
        next(ticks)
        watch.now += next(times)
        return out

    monkeypatch.setattr(torch, "mm", mm)
    assert speed.peak_macs_per_s(device, seconds=3.0, clock=watch) == 8**3 / 0.5
    assert next(ticks) == 3 + 1 + 10


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own count")
@pytest.mark.parametrize("num", [0, 1, 4])
def test_memory_is_what_the_work_holds_at_its_peak(num: int) -> None:
    """With what was there before, each storage once; malloc may need more than is asked of it, never less."""
    held, mb = torch.ones(2_000_000), 64

    def work() -> None:
        blocks = [torch.ones(mb * 250_000) for _ in range(num)]
        del blocks

    work()
    found = memory.peak_mb(work, kind=torch.device("cpu"), held=[held, held[1:]])
    if found is None:
        pytest.skip("not to be told here")
    assert num * mb + 8 <= found + 1
    assert found <= 3 * num * mb + 8 + 8


def test_memory_is_not_told_where_nobody_keeps_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_CLEAR", tmp_path)  # a folder: refused
    assert memory.peak_mb(nothing, kind=torch.device("cpu"), held=[]) is None
    assert memory.peak_mb(nothing, kind=torch.device("meta"), held=[]) is None


def test_nobody_waits_for_the_processor() -> None:
    assert stopwatch.waiter(torch.device("cpu"))() is None


def test_timm_has_the_network_or_says_so() -> None:
    pytest.importorskip("timm")
    assert models.timm.require("resnet26d").__name__ == "timm"
    with pytest.raises(RecipeError, match="Did you mean"):
        models.timm.require("resnet26dd")
