"""Where a run computes: decided once, from the recipe and this machine, and never a failure for want of a compiler."""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch._dynamo  # here: it looks at torch's devices while it is imported, and some tests put others in their place
from torch import nn

from bakeoff.errors import RecipeError
from bakeoff.training import assembly, loop
from bakeoff.training import device as devices
from bakeoff.training.device import LONG_RUN_MACS, Device, Way
from tests.training import runs, tiny


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def resolve(**changed: Any) -> Device:
    settings: dict[str, Any] = {
        "device": "cpu",
        "precision": "float32",
        "compile": False,
        "threads": 1,
        "deterministic": True,
        "training_macs": lambda: 0.0,
    }
    return devices.resolve(**{**settings, **changed})


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(RecipeError, match=f"found '{name}', .*expected one of auto, cpu"):
        resolve(device=name)
    assert resolve(device="auto").kind == torch.device("cpu")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_are_those_of_the_recipe(threads: int) -> None:
    assert resolve(threads=threads).threads == threads
    assert torch.get_num_threads() == threads


def test_auto_is_a_thread_for_each_core_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(threads="auto").threads == len(os.sched_getaffinity(0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7})
    assert resolve(threads="auto").threads == 3


@pytest.mark.parametrize(
    ("wish", "macs", "compiled"),
    [
        (False, 1e30, False),
        (True, 0.0, True),
        ("auto", LONG_RUN_MACS["cpu"] * 0.99, False),
        ("auto", LONG_RUN_MACS["cpu"] * 1.01, True),
    ],
)
def test_compiling_is_asked_for_or_must_pay(
    wish: object, macs: float, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "compile_fault", lambda kind: "")
    place = resolve(compile=wish, training_macs=lambda: macs)
    assert (place.compiled, place.note) == (compiled, "")


def test_counting_is_not_done_in_vain() -> None:
    def never() -> float:
        raise AssertionError

    assert not resolve(compile=False, training_macs=never).compiled


@pytest.mark.parametrize("wish", [True, "auto"])
def test_without_a_compiler_the_run_goes_on_uncompiled_and_says_so(
    wish: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    place = resolve(compile=wish, training_macs=lambda: 1e30)
    assert not place.compiled
    assert "no C++ compiler" in place.note
    model = nn.Linear(1, 1)
    assert place.compile(model) is model


def test_the_note_is_told(monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    parts, _ = runs.parts(runs.recipe("compile=true"))
    assert not parts.device.compiled
    assert "no C++ compiler" in told.text


def test_a_short_run_is_not_compiled_and_a_long_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "compile_fault", lambda kind: "")
    for epochs, compiled in ((1, False), (100_000, True)):
        recipe = runs.recipe("compile=auto", f"epochs={epochs}", "data.limit=1000", model="resnet_20")
        parts, _ = runs.parts(recipe)
        assert parts.device.compiled == compiled


@pytest.mark.parametrize(("precision", "hardware", "expected"), [
    ("float32", True, "float32"), ("bf16", False, "bf16"), ("auto", True, "bf16"), ("auto", False, "float32"),
])  # fmt: skip
def test_bf16_is_asked_for_or_must_gain(
    precision: str, hardware: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gains_from_bf16", lambda _: hardware)
    place = resolve(precision=precision)
    assert place.precision == expected
    with place.autocast():
        made = nn.Linear(4, 4)(torch.ones(1, 4)).dtype
    assert made == {"bf16": torch.bfloat16, "float32": torch.float32}[expected]


def test_gain_is_a_matter_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for features, gains in (({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({"avx2": True}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda features=features: features)
        assert devices.gains_from_bf16(torch.device("cpu")) == gains


@pytest.mark.parametrize("layout", [None, "channels_last", "contiguous"])
def test_models_are_placed_channels_last_unless_otherwise_decided(layout: devices.Layout | None) -> None:
    place = resolve(decided=Way(layout=layout))
    placed = place.place(nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    assert place.layout == (layout or "channels_last")
    assert placed.weight.is_contiguous() == (layout == "contiguous")  # type: ignore[union-attr, operator]
    assert placed.weight.is_contiguous(memory_format=place.memory_format)  # type: ignore[union-attr, operator]


def test_a_compiler_that_fails_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: object) -> object:
        raise RuntimeError("Python.h: No such file")

    monkeypatch.setattr(torch, "compile", broken)
    place = resolve(compile=True)
    assert not place.compiled
    assert "Python.h" in place.note


def test_two_runs_of_one_process_may_differ() -> None:
    assert [resolve(precision=precision).precision for precision in ("bf16", "float32", "bf16")] == [
        "bf16", "float32", "bf16",
    ]  # fmt: skip


def test_weights_are_drawn_from_the_seed_and_the_global_stream_is_left_alone() -> None:
    share = assembly.load(runs.recipe())
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(99)
        before = torch.get_rng_state()
        recipe = runs.recipe(f"seed={seed}")
        network = assembly.build(
            recipe, num_classes=len(share.train.classes), image_shape=share.train.shape, plugin=recipe.model.name
        )
        drawn.append(next(network.parameters()).detach())
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(5)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.slow
def test_a_compiled_run_learns_as_an_uncompiled_one() -> None:
    losses = {}
    for compiled in (False, True):
        # Without dropout: compiled, it draws other random numbers.
        parts, position = runs.parts(runs.recipe(f"compile={str(compiled).lower()}", model=tiny.PLAIN))
        if compiled and not parts.device.compiled:
            pytest.skip("needs a C++ compiler")
        parts = replace(parts, model=parts.device.compile(parts.model))
        for _ in loop.epoch(parts, position):
            pass
        losses[compiled] = position.losses
    torch.testing.assert_close(losses[True], losses[False], rtol=1e-3, atol=1e-3)
