"""The fastest way to compute a run on this machine: measured before its first step, and remembered.

Which way is fastest depends on network, batch and machine, and on whether kernels of our own fit: rules guess wrong. So
a few training steps are made in each of a few ways, on a copy of the network and pictures of noise; run, weights and
random numbers are as if there had been none. What was measured is kept, so that the next run like it begins at once,
and decides the same.

Ways are tried one change after another, each from the best so far, not in all combinations.
"""

import copy
import hashlib
import json
import logging
import math
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from bakeoff import objectives, optim
from bakeoff.data import images as splits
from bakeoff.data.augment import Augment
from bakeoff.data.batches import Batches
from bakeoff.data.images import ImageSet
from bakeoff.data.mix import Mix
from bakeoff.errors import StorageError
from bakeoff.library import cache_folder
from bakeoff.recipe import Recipe
from bakeoff.results.files import write_atomically
from bakeoff.training import graph, loop, provenance
from bakeoff.training.device import LAYOUTS, LONG_RUN_MACS, Device, Way, compile_fault, cores
from bakeoff.training.loop import Parts, Position

_log = logging.getLogger(__name__)

STEPS: Final = 10  # of a trial
WARM_UP: Final = 2  # of them, which count for nothing
LEAST_GAIN: Final = 0.03  # of a step's time: a smaller one may be chance
HOPELESS: Final = 1.25  # times the best: such a way is not tried to the end
LEAST_STEPS: Final = 1_000  # of a run: the trials, some fifty steps, are a small part of it
COMPILING_S: Final = 60.0  # what compiling takes, about: it is tried where a tenth of the run is more
COMPILING_GAINS: Final = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What was measured of a way.

    Args:
        step_s: the median of a few training steps.
        compiling_s: what compiling took, once, besides.
    """

    step_s: float
    compiling_s: float = 0.0

    def run_s(self, steps: int) -> float:
        """Return how long a run of so many steps takes."""
        return steps * self.step_s + self.compiling_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The way that was chosen, and all that were tried, in order, the first of them what is usual."""

    way: Way
    tried: Mapping[Way, Timing]

    @property
    def told(self) -> tuple[dict[str, Any], ...]:
        """What was tried, as a run's environment.json and the cache keep it."""
        return tuple(
            {**asdict(way), "ms_per_step": round(timing.step_s * 1e3, 4), "compiling_s": round(timing.compiling_s, 1)}
            for way, timing in self.tried.items()
        )


# Measures a way; one whose steps take longer than so many seconds is given up. None: it cannot be gone.
Measure = Callable[[Way, float], Timing | None]


def pays(recipe: Recipe, device: Device, *, macs: Callable[[], float], steps: int) -> bool:
    """Whether measuring is wanted, and the run long enough for it to pay.

    Where a recipe asks for a compiled network, every trial would be compiled: that costs more than it finds.
    """
    if not recipe.autotune or recipe.compile is True or steps < LEAST_STEPS:
        return False
    return macs() >= LONG_RUN_MACS.get(device.kind.type, math.inf)


def left_open(recipe: Recipe, *, on_cpu: bool) -> frozenset[str]:
    """Return what of a way the recipe leaves to be measured. A GPU does not wait for the host's threads."""
    keys = {"precision": "precision", "compiled": "compile", **({"threads": "threads"} if on_cpu else {})}
    return frozenset({"layout"} | {name for name, key in keys.items() if getattr(recipe, key) == "auto"})


def choose(baseline: Way, *, open_: Collection[str], steps: int, measure: Measure) -> Choice | None:
    """Choose a way for a run of so many steps. The usual one is left only for what is clearly faster.

    Args:
        baseline: the usual way.
        open_: which fields of it may be changed.
        steps: of the run.
        measure: how long a step takes.

    Returns:
        None where not even the usual way can be measured.
    """
    usual = measure(baseline, math.inf)
    if usual is None:
        return None
    best, tried = baseline, {baseline: usual}
    for change in _changes(baseline, open_):
        way, fastest = replace(best, **change), tried[best]
        if way.compiled and not best.compiled and fastest.run_s(steps) * COMPILING_GAINS < COMPILING_S:
            continue
        timing = measure(way, fastest.step_s * HOPELESS)
        if timing is None:
            continue
        tried[way] = timing
        is_faster = timing.step_s <= fastest.step_s * (1 - LEAST_GAIN)
        if is_faster and timing.run_s(steps) < fastest.run_s(steps):
            best = way
    return Choice(way=best, tried=tried)


def _changes(baseline: Way, open_: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield what is changed, one thing at a time."""
    if "layout" in open_:
        yield {"layout": "contiguous"}
    threads = baseline.threads or 1
    if "threads" in open_:
        yield from ({"threads": fewer} for fewer in dict.fromkeys((threads // 2, 1)) if 1 <= fewer < threads)
    if "precision" in open_ and baseline.precision == "bf16":
        yield {"precision": "float32"}
    if "compiled" in open_:
        yield {"compiled": True}


def decide(recipe: Recipe, network: nn.Module, images: ImageSet, *, device: Device, steps: int) -> Choice | None:
    """Choose the way of a run, from what is known of this machine and what is measured now.

    Several ranks measure side by side, as they will train; the slowest counts, and the first decides for all.

    Args:
        recipe: of the run.
        network: as built, on the host; it is left as it is.
        images: what the run trains on; of them only shape and classes matter.
        device: where the run computes, in the usual way.
        steps: of the run.
    """
    ranks = device.ranks
    baseline, open_ = ranks.first(lambda: (device.way, left_open(recipe, on_cpu=device.kind.type == "cpu")))
    notes = Notes(_path(recipe, images, device=device, open_=open_))
    known = ranks.first(notes.read)
    trial = Trial(recipe=recipe, network=network, images=images, device=device)

    def measure(way: Way, enough_s: float) -> Timing | None:
        if way not in known:
            timings = ranks.gather(trial(way, enough_s))
            slowest = [timing for timing in timings if timing is not None]
            if len(slowest) < len(timings):
                return None
            known[way] = max(slowest, key=lambda timing: timing.step_s)
        return known[way]

    def settle() -> Choice | None:
        # Another run may have measured meanwhile: its numbers stand, so that both go the same way.
        before = notes.read()
        numbers = known | before
        choice = choose(baseline, open_=open_, steps=steps, measure=lambda way, _: numbers.get(way))
        if set(numbers) - set(before):
            notes.write(numbers)
        return choice

    if baseline not in known:
        _log.info("Measuring how this network trains fastest here, once; autotune=false leaves it.")
    choose(baseline, open_=open_, steps=steps, measure=measure)
    choice = ranks.first(settle)
    if choice is not None:
        _log.info("It trains %s.", _words(choice))
    return choice


def recorded(environment: Mapping[str, Any], *, num_ranks: int) -> Way:
    """Return the way that a run went when it began, from its environment.json.

    Of a run that measured nothing only whether it was compiled, which the length of the run decided: all else follows
    again from recipe and machine, and is compared. Another number of ranks shares the cores anew.
    """
    if "autotune" not in environment:
        return Way(compiled=environment.get("compiled"))
    kept = {key: environment.get(key) for key in Way.__slots__}
    if environment.get("world_size") != num_ranks:
        kept["threads"] = None
    return Way(**kept)


def _words(choice: Choice) -> str:
    way, timing = choice.way, choice.tried[choice.way]
    parts = [f"in {way.precision}", f"with {way.threads} threads", str(way.layout).replace("_", "-")]
    parts += ["compiled"] if way.compiled else []
    return f"{', '.join(parts)}: {timing.step_s * 1e3:.3g} ms a step"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A few training steps in one way or another: the real loop on a copy of the network, its learning rate 0.

    A teacher, where there is one, is left out.
    """

    recipe: Recipe
    network: nn.Module
    images: ImageSet
    device: Device

    def __call__(self, way: Way, enough_s: float) -> Timing | None:
        """Measure a way; None where it cannot be gone."""
        if way.compiled and compile_fault(self.device.kind):
            return None
        on_gpu = self.device.kind.type == "cuda"
        try:
            with torch.random.fork_rng(devices=[torch.cuda.current_device()] if on_gpu else []):
                return _timed(self._parts(self.device.trying(way)), enough_s)
        except Exception as error:  # too little memory, or whatever a compiler or somebody's network raises
            _log.info("A way to train cannot be tried (%s: %s).", type(error).__name__, str(error)[:200])
            return None
        finally:
            if way.compiled:
                torch.compiler.reset()  # the run compiles its own network, and finds nothing of this one

    def _parts(self, device: Device) -> Parts:
        recipe, num = self.recipe, self.recipe.batch_size
        network = device.place(copy.deepcopy(self.network))
        ranks = self.device.ranks
        batches = Batches(
            splits.noise(self.images.shape, num_classes=len(self.images.classes), num=num),
            batch_size=num,
            augment=Augment(**recipe.augment.model_dump() | {"resolution": []}),
            mix=Mix(**recipe.mix.model_dump()),
            seed=0,
            device=device.kind,
            share=ranks.shares(num, parts=recipe.accumulate) if ranks.size > 1 else None,
            layout=device.memory_format,
        )
        parts = Parts(
            model=device.compile(network),
            objective=objectives.build("classify"),
            batches=batches,
            optimizer=optim.build(model=network, **recipe.optimizer.model_dump()),
            schedule=lambda _: 0.0,
            average=None,
            device=device,
            total_steps=STEPS,
            accumulate=recipe.accumulate,
            clip_norm=recipe.clip_norm,
        )
        return graph.replaying(parts)


def _timed(parts: Parts, enough_s: float) -> Timing:
    """Make the steps of a trial, each an epoch of one batch."""
    position, times = Position.at_start(parts), list[float]()
    for number in range(STEPS):
        position.epoch, started = number, time.perf_counter()
        for _ in loop.epoch(parts, position):
            float(position.losses[0])  # waits for the device
        times.append(time.perf_counter() - started)
        if number > WARM_UP and min(times[WARM_UP:]) > enough_s:
            break
    step_s = statistics.median(times[WARM_UP:])
    compiling_s = max(0.0, sum(times[:WARM_UP]) - WARM_UP * step_s) if parts.device.compiled else 0.0
    return Timing(step_s=step_s, compiling_s=compiling_s)


@dataclass(frozen=True, slots=True)
class Notes:
    """What was measured of one kind of run on this machine, in a file. What cannot be read is not there."""

    path: Path

    def read(self) -> dict[Way, Timing]:
        """Return what is known."""
        try:
            rows = json.loads(self.path.read_text(encoding="utf-8"))["measured"]
            return {_way(row): _timing(row) for row in rows}
        except (OSError, ValueError, TypeError, LookupError):
            return {}

    def write(self, known: Mapping[Way, Timing]) -> None:
        """Keep what is known; where that cannot be, the next run measures again."""
        rows = [asdict(way) | asdict(timing) for way, timing in known.items()]
        try:
            write_atomically(self.path, json.dumps({"measured": rows}, indent=1).encode())
        except StorageError as error:
            _log.warning("What was measured is not kept: %s", error)


def _way(row: Mapping[str, Any]) -> Way:
    way = Way(**{name: row[name] for name in Way.__slots__})
    is_sound = way.precision in ("float32", "bf16") and way.layout in LAYOUTS and isinstance(way.compiled, bool)
    if not (is_sound and type(way.threads) is int and way.threads >= 1):
        raise ValueError(row)
    return way


def _timing(row: Mapping[str, Any]) -> Timing:
    timing = Timing(step_s=float(row["step_s"]), compiling_s=float(row["compiling_s"]))
    if not (0 < timing.step_s < math.inf and 0 <= timing.compiling_s < math.inf):
        raise ValueError(row)
    return timing


def _path(recipe: Recipe, images: ImageSet, *, device: Device, open_: Collection[str]) -> Path:
    """Return where it is kept what was measured of runs like this one: of equal steps on an equal machine."""
    about = provenance.collect(device, command=())
    machine = [about[key] for key in ("versions", "device", "hardware", "kernels", "world_size")]
    steps = [recipe.model.name, recipe.model.options, images.shape, len(images.classes), recipe.batch_size]
    steps += [recipe.accumulate, recipe.optimizer.name, sorted(open_), asdict(device.way)]
    steps += ["cuda graph"] if device.graphed else []
    told = json.dumps([steps, machine, cores()], sort_keys=True, default=str)
    return cache_folder() / "choices" / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"
