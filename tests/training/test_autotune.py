"""How a run computes is measured where that pays: the choice, what is kept of it, and that nothing else changes."""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bakeoff.errors import StorageError
from bakeoff.launch import worker
from bakeoff.recipe import Recipe, overlay, resolve
from bakeoff.results.store import Run
from bakeoff.training import assembly, autotune, provenance, trained
from bakeoff.training import device as devices
from bakeoff.training import run as training
from bakeoff.training.autotune import COMPILING_S, HOPELESS, LEAST_GAIN, Choice, Notes, Timing, Trial
from bakeoff.training.device import Way
from tests.training import on_ranks, runs, tiny
from tests.training.kills import differences, outcome_of

USUAL = Way(precision="bf16", threads=8, layout="channels_last", compiled=False)
ALL = frozenset({"precision", "threads", "layout", "compiled"})
LONG = 1_000_000  # steps
seconds = st.floats(1e-4, 10.0)
timings = st.one_of(st.none(), st.builds(Timing, step_s=seconds, compiling_s=seconds.map(lambda s: 50 * s)))


class Stopwatch:
    """Measures without measuring: what a way takes is told, or 1 s; it remembers what it was asked."""

    def __init__(self, step_s: Mapping[Way, float | None]) -> None:
        self.step_s, self.asked = step_s, list[tuple[Way, float]]()

    def __call__(self, way: Way, enough_s: float) -> Timing | None:
        self.asked.append((way, enough_s))
        step_s = self.step_s.get(way, 1.0)
        return step_s and Timing(step_s=step_s, compiling_s=60.0 if way.compiled else 0.0)

    @property
    def ways(self) -> list[Way]:
        return [way for way, _ in self.asked]


def choose(stopwatch: Stopwatch, *, baseline: Way = USUAL, open_: frozenset[str] = ALL, steps: int = LONG) -> Way:
    found = autotune.choose(baseline, open_=open_, steps=steps, measure=stopwatch)
    assert found is not None
    return found.way


@given(st.data(), st.frozensets(st.sampled_from(sorted(ALL))), st.integers(1, LONG), st.sampled_from([1, 2, 3, 8]))
def test_no_choice_is_slower_than_what_is_usual_and_none_touches_what_is_fixed(
    data: st.DataObject, open_: frozenset[str], steps: int, threads: int
) -> None:
    baseline = replace(USUAL, threads=threads)
    drawn = {baseline: data.draw(timings.filter(bool))}

    def measure(way: Way, enough_s: float) -> Timing | None:
        assert enough_s > 0
        if way not in drawn:
            drawn[way] = data.draw(timings)
        return drawn[way]

    found = autotune.choose(baseline, open_=open_, steps=steps, measure=measure)
    assert found is not None
    assert found.tried[found.way].run_s(steps) <= found.tried[baseline].run_s(steps)
    assert found.way == baseline or found.tried[found.way].step_s <= found.tried[baseline].step_s * (1 - LEAST_GAIN)
    for way in found.tried:
        assert all(getattr(way, name) == getattr(baseline, name) for name in ALL - open_)
    again = autotune.choose(baseline, open_=open_, steps=steps, measure=lambda way, _: found.tried.get(way))
    assert again == found


def test_ways_are_tried_one_change_after_another() -> None:
    stopwatch = Stopwatch({})
    assert choose(stopwatch) == USUAL
    changes: list[dict[str, Any]] = [{}, {"layout": "contiguous"}, {"threads": 4}, {"threads": 1}]
    changes += [{"precision": "float32"}, {"compiled": True}]
    assert stopwatch.ways == [replace(USUAL, **change) for change in changes]
    assert stopwatch.asked[0][1] == math.inf
    assert {enough_s for _, enough_s in stopwatch.asked[1:]} == {HOPELESS}


def test_a_change_stays_for_the_next_to_build_on() -> None:
    contiguous = replace(USUAL, layout="contiguous")
    single = replace(contiguous, threads=1)
    stopwatch = Stopwatch({contiguous: 0.9, single: 0.5})
    assert choose(stopwatch) == single
    assert stopwatch.ways[-1] == replace(single, compiled=True)


@pytest.mark.parametrize(("step_s", "taken"), [(1.0, False), (0.98, False), (0.96, True)])
def test_a_tie_keeps_what_is_usual(step_s: float, taken: bool) -> None:
    contiguous = replace(USUAL, layout="contiguous")
    assert (choose(Stopwatch({contiguous: step_s})) == contiguous) == taken


def test_one_thread_and_float32_leave_nothing_to_lessen() -> None:
    least = Way(precision="float32", threads=1, layout="channels_last", compiled=False)
    stopwatch = Stopwatch({})
    choose(stopwatch, baseline=least)
    assert stopwatch.ways == [least, replace(least, layout="contiguous"), replace(least, compiled=True)]


@pytest.mark.parametrize(("steps", "taken"), [(1000, True), (700, True), (500, False)])
def test_compiling_must_earn_its_minute(steps: int, taken: bool) -> None:
    stopwatch = Stopwatch({replace(USUAL, compiled=True): 0.9})
    assert choose(stopwatch, steps=steps).compiled == taken
    assert stopwatch.ways[-1].compiled == (steps * 0.1 >= COMPILING_S)  # a short run does not even try
    dear = Stopwatch({replace(USUAL, compiled=True): 0.95})
    assert choose(dear, steps=1300).compiled
    assert not choose(dear, steps=1100).compiled  # tried, and 55 s gained in 60


def test_a_way_that_cannot_be_gone_is_left_out() -> None:
    contiguous = replace(USUAL, layout="contiguous")
    found = autotune.choose(USUAL, open_=ALL, steps=LONG, measure=Stopwatch({contiguous: None}))
    assert found is not None
    assert contiguous not in found.tried
    assert autotune.choose(USUAL, open_=ALL, steps=LONG, measure=Stopwatch({USUAL: None})) is None


@pytest.mark.parametrize(("settings", "open_"), [
    ((), ALL),
    (("threads=2",), ALL - {"threads"}),
    (("precision=bf16", "compile=false"), {"layout", "threads"}),
])  # fmt: skip
def test_what_the_recipe_says_is_not_open(settings: tuple[str, ...], open_: frozenset[str]) -> None:
    recipe = resolve("resnet_20", overrides=settings)
    assert autotune.left_open(recipe, on_cpu=True) == open_
    assert autotune.left_open(recipe, on_cpu=False) == open_ - {"threads"}


def test_only_long_runs_are_measured() -> None:
    place = assembly.place(runs.recipe())
    enough: dict[str, Any] = {"macs": lambda: devices.LONG_RUN_MACS["cpu"], "steps": autotune.LEAST_STEPS}
    assert autotune.pays(runs.recipe(), place, **enough)
    assert not autotune.pays(runs.recipe("autotune=false"), place, **enough)
    assert not autotune.pays(runs.recipe("compile=true"), place, **enough)
    assert not autotune.pays(runs.recipe(), place, **enough | {"macs": lambda: devices.LONG_RUN_MACS["cpu"] * 0.99})
    assert not autotune.pays(runs.recipe(), place, **enough | {"steps": autotune.LEAST_STEPS - 1})


def test_a_recipe_that_measures_is_what_it_was_before_there_was_any_measuring() -> None:
    recipe = runs.recipe()
    assert recipe.autotune
    assert "autotune" not in recipe.model_dump()
    assert "autotune" not in recipe.to_yaml()
    assert runs.recipe("autotune=true").digest == recipe.digest
    off = runs.recipe("autotune=false")
    assert off.digest != recipe.digest
    assert overlay(Recipe(), off.model_dump(), where="").digest == off.digest


# Measuring, of which no test says how long it takes.


@pytest.fixture
def tuning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make every run long, and its machine one of which nothing is known."""
    monkeypatch.setattr(autotune, "LEAST_STEPS", 1)
    monkeypatch.setitem(devices.LONG_RUN_MACS, "cpu", 0.0)
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))


class Preset:
    """Stands in for a trial: contiguous maps take half the time. It counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _: Trial, way: Way, __: float) -> Timing:
        self.count += 1
        return Timing(step_s=0.5 if way.layout == "contiguous" else 1.0)


@pytest.fixture
def preset(tuning: None, monkeypatch: pytest.MonkeyPatch) -> Preset:
    made = Preset()
    monkeypatch.setattr(Trial, "__call__", lambda *arguments: made(*arguments))
    return made


def decide(recipe: Recipe, *, steps: int = 100) -> Choice:
    share = assembly.load(recipe)
    network = assembly.build(recipe, num_classes=10, image_shape=share.train.shape, plugin=recipe.model.name)
    found = autotune.decide(recipe, network, share.train, device=assembly.place(recipe), steps=steps)
    assert found is not None
    return found


def test_what_was_measured_is_not_measured_again(preset: Preset, tmp_path: Path) -> None:
    first = decide(runs.recipe())
    assert first.way.layout == "contiguous"
    assert preset.count == 2
    assert decide(runs.recipe("seed=1", "lr=0.3", "epochs=9")) == first
    assert preset.count == 2
    (file,) = (tmp_path / "cache" / "choices").iterdir()
    assert json.loads(file.read_text())["measured"][1]["step_s"] == 0.5


@pytest.mark.parametrize("setting", ["batch_size=16", "accumulate=2", "optimizer=adam", "threads=2", "model.width=4"])
def test_another_kind_of_run_is_measured_for_itself(preset: Preset, setting: str) -> None:
    decide(runs.recipe())
    decide(runs.recipe(setting))
    assert preset.count == 4


@pytest.mark.parametrize("key", ["hardware", "versions", "kernels"])
def test_another_machine_is_measured_for_itself(preset: Preset, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(runs.recipe())
    collect = provenance.collect
    monkeypatch.setattr(provenance, "collect", lambda *a, **k: collect(*a, **k) | {key: "another"})
    decide(runs.recipe())
    assert preset.count == 4
    monkeypatch.setattr(autotune, "cores", lambda: 1000)
    decide(runs.recipe())
    assert preset.count == 6


@pytest.mark.parametrize("damage", [
    "", "{", "[]", '{"measured": 3}', '{"measured": [{}]}', '{"measured": [[1]]}', "\x00", "{}",
    *(({"threads": 0}), {"threads": "many"}, {"precision": "int4"}, {"layout": "round"}, {"compiled": None}),
    *({"step_s": 0}, {"step_s": -1}, {"step_s": "NaN"}, {"step_s": None}, {"compiling_s": "Infinity"}),
])  # fmt: skip
def test_a_damaged_file_is_measured_anew(preset: Preset, tmp_path: Path, damage: str | dict[str, object]) -> None:
    before = decide(runs.recipe())
    (file,) = (tmp_path / "cache" / "choices").iterdir()
    whole = file.read_text()
    if isinstance(damage, dict):
        content = json.loads(whole)
        content["measured"][0] |= damage
        damage = json.dumps(content)
    file.write_text(damage)
    assert decide(runs.recipe()) == before
    assert preset.count == 4
    assert file.read_text() == whole


def test_what_cannot_be_kept_is_no_failure(
    preset: Preset, monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise StorageError(str(path), found="a full disk", expected="room", hint="")

    monkeypatch.setattr(autotune, "write_atomically", full)
    assert decide(runs.recipe()).way.layout == "contiguous"
    assert "not kept" in told.text


def test_of_two_that_measure_at_once_both_go_the_same_way(preset: Preset, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another run has written while this one measured stands, whatever this one has found."""
    usual = assembly.place(runs.recipe()).way
    theirs = {usual: Timing(step_s=1.0), replace(usual, layout="contiguous"): Timing(step_s=2.0)}
    answers = iter([{}, theirs])
    monkeypatch.setattr(Notes, "read", lambda _: next(answers))
    assert decide(runs.recipe()).way == usual
    assert preset.count == 2


@pytest.mark.parametrize("model", [tiny.NAME, "resnet_20"])
def test_measuring_leaves_all_as_it_was(tuning: None, model: str) -> None:
    recipe = runs.recipe("mixup=0.2", "ema_decay=0.9", "augment.erase=0.2", "optimizer=adamw", model=model)
    share = assembly.load(recipe)
    network = assembly.build(recipe, num_classes=10, image_shape=share.train.shape, plugin=model)
    place = assembly.place(recipe)
    before = {name: (value.clone(), value.stride()) for name, value in network.state_dict().items()}
    torch.manual_seed(7)
    state = torch.get_rng_state()
    choice = autotune.decide(recipe, network, share.train, device=place, steps=100)
    assert choice is not None
    assert len(choice.tried) == 2
    assert all(0 < timing.step_s < math.inf for timing in choice.tried.values())
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name][0])
        assert value.stride() == before[name][1]
    assert all(weight.grad is None for weight in network.parameters())


@pytest.mark.slow
def test_compiling_is_told_from_stepping(tuning: None) -> None:
    recipe = runs.recipe()
    share = assembly.load(recipe)
    network = assembly.build(recipe, num_classes=10, image_shape=share.train.shape, plugin=tiny.NAME)
    place = assembly.place(recipe)
    if devices.compile_fault(place.kind):
        pytest.skip("needs a C++ compiler")
    torch.manual_seed(7)
    state = torch.get_rng_state()
    timing = Trial(recipe=recipe, network=network, images=share.train, device=place)(
        replace(place.way, compiled=True), math.inf
    )
    assert timing is not None
    assert timing.compiling_s > timing.step_s
    assert torch.equal(torch.get_rng_state(), state)


def test_a_trial_that_fails_leaves_the_rules(tuning: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Timing:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(autotune, "_timed", broken)
    recipe = runs.recipe()
    parts = assembly.assemble(recipe, assembly.load(recipe), plugin=tiny.NAME, root=Path(), tune=True)
    assert parts.device.tried == ()
    assert parts.device.layout == "channels_last"


# What becomes of the choice.


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Timing:
        raise AssertionError

    monkeypatch.setattr(Trial, "__call__", never)


def test_the_choice_is_written_down_and_gone_on_with(
    preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = outcome_of(runs.start(tmp_path / "a" / "run"))
    run = runs.interrupt(tmp_path / "b" / "run", at=13)
    about = run.read_json(run.environment_path)
    assert about["layout"] == "contiguous"
    assert [row["layout"] for row in about["autotune"]] == ["channels_last", "contiguous"]
    assert [row["ms_per_step"] for row in about["autotune"]] == [1000.0, 500.0]
    shutil.rmtree(tmp_path / "cache" / "choices")
    forbid(monkeypatch)
    runs.resume(run)
    after = run.read_json(run.environment_path)
    assert after["autotune"] == about["autotune"]
    assert len(after["resumed"]) == 1
    assert differences(undisturbed, outcome_of(run)) == []


@pytest.mark.parametrize("off", ["a setting", "a short run", "runs beside it"])
def test_nothing_is_measured_where_nothing_should_be(
    off: str, tuning: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch)
    if off == "a short run":
        monkeypatch.setitem(devices.LONG_RUN_MACS, "cpu", 1e30)
    recipe = runs.recipe("epochs=1", *(["autotune=false"] if off == "a setting" else []))
    training.start(recipe, tmp_path / "runs" / "run", tune=off != "runs beside it")
    run = Run(tmp_path / "runs" / "run")
    about = run.read_json(run.environment_path)
    assert "autotune" not in about
    assert about["layout"] == "channels_last"


def test_a_run_of_a_study_is_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr(training, "start", lambda *_, **settings: asked.update(settings))
    job = worker.Job(recipe=runs.recipe(), folder=tmp_path / "run", plugin=tiny.NAME, test=False)
    worker._train(job, worker.Channel.__new__(worker.Channel))
    assert asked["tune"] is False


def test_what_is_recorded_is_what_a_resumed_run_is_told() -> None:
    about = {"precision": "float32", "threads": 3, "layout": "contiguous", "compiled": True, "world_size": 2}
    assert autotune.recorded(about, num_ranks=2) == Way(compiled=True)
    measured = about | {"autotune": []}
    whole = Way(precision="float32", threads=3, layout="contiguous", compiled=True)
    assert autotune.recorded(measured, num_ranks=2) == whole
    assert autotune.recorded(measured, num_ranks=1) == replace(whole, threads=None)
    assert autotune.recorded({}, num_ranks=1) == Way()


def test_a_decision_holds_for_what_is_open_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gains_from_bf16", lambda _: True)
    monkeypatch.setattr(devices, "compile_fault", lambda _: "")
    monkeypatch.setattr(devices, "cores", lambda: 2)
    threads = torch.get_num_threads()
    decided = Way(precision="float32", threads=1, layout="contiguous", compiled=True)
    try:
        free = resolve("resnet_20", overrides=["device=cpu"])
        assert assembly.place(free, decided=decided).way == decided
        assert assembly.place(free, decided=replace(decided, threads=64)).threads == 2
        fixed = resolve("resnet_20", overrides=["device=cpu", "threads=2", "precision=bf16", "compile=false"])
        kept = assembly.place(fixed, decided=decided).way
        assert kept == Way(precision="bf16", threads=2, layout="contiguous", compiled=False)
        monkeypatch.setattr(devices, "gains_from_bf16", lambda _: False)  # another machine: a resumed run is refused
        assert assembly.place(free, decided=replace(decided, precision="bf16")).precision == "float32"
    finally:
        torch.set_num_threads(threads)


def test_a_run_from_before_there_were_layouts_goes_on(tmp_path: Path) -> None:
    run = runs.interrupt(tmp_path / "run", at=13)
    about = run.read_json(run.environment_path)
    assert about.pop("layout") == "channels_last"
    run.write_json(run.environment_path, about)
    runs.resume(run)
    assert run.status() == "finished"


def test_a_trained_network_answers_in_the_precision_it_was_trained_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.start(tmp_path / "run", "epochs=1", "precision=auto")
    monkeypatch.setattr(devices, "gains_from_bf16", lambda _: True)
    assert trained.load(run, plugin=tiny.NAME).device.precision == "bf16"
    about = run.read_json(run.environment_path)
    run.write_json(run.environment_path, about | {"precision": "float32", "autotune": []})
    assert trained.load(run, plugin=tiny.NAME).device.precision == "float32"


def test_all_ranks_go_the_way_that_the_first_has_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    told = on_ranks.launch(2, "tuned", tmp_path / "out")
    assert "contiguous" in told["way"]
    assert told["ranks"] == 2
    assert told["ms_per_step"] == [2000.0, 1500.0]  # the slowest counts
    assert told["asked"] == [[2, 2], [2, 2]]  # the second time all is known
