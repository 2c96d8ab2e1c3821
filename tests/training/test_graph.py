"""A step recorded once and played again is the step: on a CPU by a stand-in that freezes what the host computed."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bakeoff import catalogue, models, objectives
from bakeoff.data.augment import Augment
from bakeoff.optim import muon
from bakeoff.recipe import Recipe
from bakeoff.results.store import Run
from bakeoff.training import assembly, graph, loop
from bakeoff.training.graph import WARM_UP, Recorder, Replay
from bakeoff.training.loop import Parts, Position
from bakeoff.training.ranks import Ranks
from tests.training import runs, tiny
from tests.training.kills import same
from tests.training.tape import Aside, Tape

CUDA = torch.device("cuda")
CASES = {
    "sgd, clipping": ("optimizer=sgd", "clip_norm=0.5"),
    "sgd, average, accumulation": ("optimizer=sgd", "ema_decay=0.9", "accumulate=2"),
    "adamw, average": ("optimizer=adamw", "ema_decay=0.5"),
    "adam, mixtures": ("optimizer=adam", "mixup=0.4", "cutmix=1.0", "label_smoothing=0.1"),
    "policy, erasing, cutout": ("augment.policy=rand", "augment.erase=0.5", "augment.cutout=3"),
    "class weights, focal loss": ("objective.class_weights=balanced", "objective.focal_gamma=2", "data.balance=true"),
    "muon": ("optimizer=muon", "ema_decay=0.9"),
    "muon, sgd for the rest": ("optimizer=muon", "optimizer.rest=sgd", "optimizer.unit_filters=true"),
}


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Muon's rest takes the route of a GPU, where one kernel reads rate and count."""
    monkeypatch.setattr(muon, "_fused", lambda _: True)


def assembled(*overrides: str, recorder: Recorder | None = None, grow: bool = False) -> tuple[Parts, Position]:
    """Assemble a short run. Its rates fall, and float32 holds them exactly; pictures may grow from 6 to 8 pixels."""
    parts, position = runs.parts(runs.recipe("lr=0.0625", *overrides, model=tiny.STAGED))
    if grow:
        parts.batches.augment = Augment(crop_padding=1, resolution=((0.4, 6),))
    parts = replace(parts, schedule=lambda progress: 0.5 ** int(6 * progress))
    return (parts if recorder is None else replace(parts, replay=Replay(parts, recorder))), position


def train(parts: Parts, position: Position, *, epochs: int = 3) -> list[float]:
    """Train as a trainer does, and return the losses of the last epoch."""
    for _ in range(epochs):
        torch.manual_seed(position.epoch)
        for _ in loop.epoch(parts, position):
            pass
        position.epoch += 1
    return position.losses.tolist()


def state(parts: Parts) -> dict[str, Any]:
    average = None if parts.average is None else parts.average.state_dict()
    return {"model": parts.model.state_dict(), "optimizer": parts.optimizer.state_dict(), "average": average}


@pytest.mark.parametrize("grow", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_recorded_step_trains_what_the_loop_trains(case: str, grow: bool) -> None:
    """Bit for bit, dropout included; others than SGD round otherwise with a rate on the device: they have it twice."""
    tape, other = Tape(), Aside() if case.startswith(("adam", "muon")) else None
    recorded, there = assembled(*CASES[case], recorder=tape, grow=grow)
    plain, here = assembled(*CASES[case], recorder=other, grow=grow)
    losses = train(recorded, there)
    assert losses == train(plain, here)
    assert same(state(recorded), state(plain))
    if "muon" not in case:
        assert losses == pytest.approx(train(*assembled(*CASES[case], grow=grow)), rel=1e-4)
    shapes = 2 if grow else 1
    assert (tape.recorded, tape.asides, len(tape.seen)) == (shapes, shapes * WARM_UP, 24 - shapes * WARM_UP)


def test_what_a_recording_works_on_stays_where_it_is() -> None:
    tape = Tape()
    train(*assembled("optimizer=adamw", "ema_decay=0.9", "clip_norm=1", recorder=tape))
    assert len(tape.seen) == 22
    assert len(tape.seen[0]) > 20
    assert all(row == tape.seen[0] for row in tape.seen)


def test_the_stand_in_freezes_what_the_host_computes() -> None:
    """Without rates on the device a recorded step is another one: so the comparisons above can fail."""
    tape = Tape()
    parts, position = assembled(recorder=tape)
    plain = train(*assembled())
    assert isinstance(parts.replay, Replay)
    parts.replay._step = lambda shape, progress: loop.step(parts, shape.x, shape.targets, progress)  # type: ignore[method-assign]
    assert train(parts, position) != plain


def test_outside_a_step_rates_are_numbers() -> None:
    parts, position = assembled("optimizer=adamw", recorder=Tape())
    for _ in loop.epoch(parts, position):
        assert all(type(group["lr"]) is float and not group["capturable"] for group in parts.optimizer.param_groups)


def test_a_loaded_state_is_recorded_anew() -> None:
    """A resume into the same parts: the optimizer's state lies elsewhere afterwards."""
    tape = Tape()
    parts, position = assembled("optimizer=sgd", recorder=tape)
    train(parts, position, epochs=1)
    kept, model = parts.optimizer.state_dict(), {k: v.clone() for k, v in parts.model.state_dict().items()}
    kept = {"state": {k: {n: v.clone() for n, v in s.items()} for k, s in kept["state"].items()}, **{
        "param_groups": kept["param_groups"]
    }}  # fmt: skip
    once = train(parts, position, epochs=1)
    parts.optimizer.load_state_dict(kept)
    parts.model.load_state_dict(model)
    position.epoch, position.step = 1, 8
    assert train(parts, position, epochs=1) == once
    assert tape.recorded == 2


def test_a_run_that_is_cut_goes_on_to_the_same_numbers() -> None:
    """The steps after a resume are ordinary ones again, and the same."""
    whole, position = assembled("optimizer=adam", "ema_decay=0.9", recorder=Tape())
    cut, again = assembled("optimizer=adam", "ema_decay=0.9", recorder=Tape())
    torch.manual_seed(0)
    for _ in loop.epoch(whole, position):
        pass
    torch.manual_seed(0)
    steps = loop.epoch(cut, again)
    for _ in range(5):
        next(steps)
    random = torch.get_rng_state()
    steps.close()  # type: ignore[attr-defined]
    resumed = replace(cut, replay=Replay(cut, Tape()))
    torch.set_rng_state(random)
    for _ in loop.epoch(resumed, again):
        pass
    assert torch.equal(again.losses, position.losses)
    assert same(state(resumed), state(whole))


def test_what_cannot_be_recorded_is_launched_as_before(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Tape):
        def record(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
            raise RuntimeError("operation not permitted when stream is capturing")

    with caplog.at_level(logging.WARNING, logger="bakeoff"):
        losses = train(*assembled("ema_decay=0.9", recorder=Broken()))
    assert losses == train(*assembled("ema_decay=0.9"))
    assert [record.message for record in caplog.records if "not permitted" in record.message]
    assert len(caplog.records) == 1


class Copies(TorchDispatchMode):
    """Collects what brings tensors from the host to the device, which is "meta" here, and waits for it.

    On "meta" nothing can be read: what waits for a number raises. A number alone, without dimensions, is no copy:
    kernels take it as an argument.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        answer = func(*args, **kwargs)
        given = [a for a in args if isinstance(a, Tensor)]
        name, waits = func.overloadpacket.__name__, not kwargs.get("non_blocking", False)
        crosses = isinstance(answer, Tensor) and {a.device.type for a in (*given, answer)} == {"cpu", "meta"}
        if name in ("_to_copy", "copy_") and crosses and waits:
            self.found.append(str(func))
        return answer


def on_meta(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> tuple[Parts, Position]:
    """Assemble a run on a device without numbers, which has the routes of a GPU through batches and losses."""
    place = assembly.place
    there = {"kind": torch.device("meta")}
    monkeypatch.setattr(assembly, "place", lambda recipe, **rest: replace(place(recipe, **rest), **there))
    monkeypatch.setattr(muon, "_fused", lambda _: None)
    return runs.parts(runs.recipe(*overrides, model=tiny.STAGED))


@pytest.mark.parametrize("case", [case for case in CASES if "adam" not in case and case != "muon"])
def test_a_step_brings_nothing_from_the_host(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the loop's half nor that of the batches; Adam has no route for "meta"."""
    parts, position = on_meta(monkeypatch, *CASES[case])
    assert {p.device.type for p in parts.model.parameters()} == {"meta"}
    steps = loop.epoch(parts, position)
    next(steps)  # before its first step an epoch may be planned, and brought
    with Copies() as copies:
        assert sum(1 for _ in steps) == 7
    assert copies.found == []


def test_the_counter_of_copies_counts() -> None:
    with Copies() as copies:
        torch.ones(3).to("meta")
        torch.empty(3, device="meta").copy_(torch.ones(3))
        torch.ones(3).to("meta", non_blocking=True)
        torch.ones(3).clone()
    assert len(copies.found) == 2


ONE_A_BUILDER = {entry.builder: name for name, entry in reversed(catalogue.MODELS.items())}


@pytest.mark.parametrize("builder", ONE_A_BUILDER)
def test_no_network_brings_or_reads_anything_in_a_step(builder: str) -> None:
    """Or it could not be recorded. On "meta" what reads a number raises."""
    with torch.device("meta"):
        network = models.build(ONE_A_BUILDER[builder], num_classes=10, in_channels=3, image_size=32)
    x, targets = torch.empty(4, 3, 32, 32, device="meta"), torch.empty(4, 10, device="meta")
    with Copies() as copies:
        objectives.build("classify")(network.train(), x, targets).loss.backward()
    assert copies.found == []


def test_muon_moves_as_far_by_a_rate_on_the_device() -> None:
    torch.manual_seed(0)
    start, direction = torch.randn(4, 3), torch.randn(4, 3).to(torch.bfloat16)
    by_number, by_tensor = start.clone(), start.clone()
    muon._descend(by_number, direction, rate=0.3)
    muon._descend(by_tensor, direction, rate=torch.tensor(0.3))
    torch.testing.assert_close(by_tensor, by_number, rtol=1e-6, atol=1e-7)
    assert not torch.equal(by_tensor, start)


def unsuited(*overrides: str, model: str = "resnet_20", ranks: Ranks | None = None, kind: torch.device = CUDA) -> str:
    recipe = runs.recipe(*overrides, model=model)
    place = replace(assembly.place(runs.recipe()), kind=kind, ranks=ranks or Ranks())
    return graph.unsuited(recipe, place)


def test_runs_that_graphs_do_not_suit_are_told_why() -> None:
    for optimizer in sorted(graph.SUITED):
        assert unsuited(f"optimizer={optimizer}") == ""
    assert "cpu" in unsuited(kind=torch.device("cpu"))
    assert "ranks" in unsuited(ranks=Ranks(0, 2))
    assert "teacher" in unsuited("objective=kd", "teacher=random:resnet_20")
    assert "rmsprop" in unsuited("optimizer=rmsprop")
    assert "catalogue" in unsuited(model=tiny.NAME)
    assert unsuited("cuda_graph=true", model=tiny.NAME) == ""


@pytest.mark.parametrize("wish", ["auto", "true", "false"])
def test_on_a_processor_there_is_no_graph_and_who_asked_is_told(wish: str) -> None:
    place = assembly.place(runs.recipe(f"cuda_graph={wish}"))
    assert not place.graphed
    assert ("no CUDA graphs" in place.note) == (wish == "true")
    assert graph.replaying(runs.parts(runs.recipe())[0]).replay is None


def test_ways_are_tried_with_graphs_where_the_run_has_them() -> None:
    place = assembly.place(runs.recipe())
    assert not place.trying(place.way).graphed
    assert replace(place, graphed=True).trying(place.way).graphed


def test_a_recipe_without_the_word_is_what_it_was() -> None:
    recipe: Recipe = runs.recipe()
    assert "cuda_graph" not in recipe.to_yaml()
    assert runs.recipe("cuda_graph=auto").digest == recipe.digest
    assert runs.recipe("cuda_graph=false").digest != recipe.digest


def test_a_run_writes_down_whether_its_steps_were_graphs(tmp_path: Path) -> None:
    run: Run = runs.start(tmp_path / "run", "epochs=1")
    assert run.read_json(run.environment_path)["cuda_graph"] is False


needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no CUDA device: what a graph computes is compared on one"
    ),
]


def on_gpu(*overrides: str, recorder: Callable[[], Recorder] | None) -> tuple[Parts, Position]:
    parts, position = runs.parts(runs.recipe("device=cuda", "lr=0.0625", *overrides, model=tiny.STAGED))
    parts = replace(parts, schedule=lambda progress: 0.5 ** int(6 * progress))
    return (replace(parts, replay=Replay(parts, recorder())) if recorder else parts), position


@pytest.mark.parametrize("case", [pytest.param(case, marks=needs_gpu) for case in CASES])
def test_a_gpu_plays_what_it_would_launch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit against ordinary steps on the recording's stream, and closely against those without any."""
    monkeypatch.undo()
    real = partial(graph.CudaRecorder, CUDA)

    class Launched(graph.CudaRecorder):
        def record(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
            return lambda: self.aside(work)

    played, there = on_gpu(*CASES[case], recorder=real)
    launched, here = on_gpu(*CASES[case], recorder=lambda: Launched(CUDA))
    plain, where = on_gpu(*CASES[case], recorder=None)
    losses = train(played, there)
    assert losses == train(launched, here)
    assert same(state(played), state(launched))
    assert losses == pytest.approx(train(plain, where), rel=0.02)


@pytest.mark.parametrize(
    "model", [pytest.param(tiny.STAGED, marks=needs_gpu), pytest.param("speednet", marks=needs_gpu)]
)
def test_a_run_on_a_gpu_with_graphs_ends_as_one_without(model: str, tmp_path: Path) -> None:
    last = []
    for wish in ("true", "false"):
        settings = ("device=cuda", "data=cifar100", "data.limit=2000", "epochs=2", "batch_size=100")
        run = runs.start(tmp_path / wish, *settings, f"cuda_graph={wish}", model=model)
        assert run.read_json(run.environment_path)["cuda_graph"] is (wish == "true")
        last.append(run.metrics.rows()[-1]["train/loss"])
    assert last[0] == pytest.approx(last[1], rel=0.02)
