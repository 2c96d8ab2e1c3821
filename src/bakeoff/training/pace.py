"""How long an image takes in training on this machine: from finished runs, else by trying, else from other networks."""

import json
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from bakeoff.catalogue import Dataset
from bakeoff.data import images as splits
from bakeoff.errors import BakeoffError
from bakeoff.recipe import Recipe
from bakeoff.recipe.objective import Classify
from bakeoff.record import Record
from bakeoff.results import store
from bakeoff.training import assembly, loop, provenance
from bakeoff.training.assembly import Share
from bakeoff.training.loop import Position

TRIALS_S = 2.0  # for trying networks out, all together
STEPS = 4  # of a trial, the first of them to warm up
BATCH = 32  # of a trial: enough for the time an image takes to be near that of a whole batch
# Of a recipe, what its pace follows from.
DECIDES = {"model", "device", "precision", "threads", "compile", "autotune", "cuda_graph"}
NEIGHBOURS = 3  # finished runs of a model that are asked for their speed, besides those that are given

Basis = Literal["finished run", "trial", "other network"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How long an image takes, forward and backward, and what that is known from."""

    seconds_per_image: float
    basis: Basis


def key(recipe: Recipe) -> str:
    """Return what decides the pace on one machine, small things aside."""
    fields = recipe.model_dump(mode="json", include=DECIDES)
    taught = [recipe.objective.name, recipe.teacher.digest or recipe.teacher.name] if recipe.teacher else []
    return json.dumps([fields, recipe.data.source, *taught])


def paces(work: Mapping[str, tuple[Recipe, int]], found: Iterable[Record], *, root: Path) -> dict[str, Pace]:
    """Return the pace of every recipe by `key`.

    Args:
        work: the recipe of each key, and the activations of its network. Over sixteen networks of the zoo on one
            core, seconds an activation spread by a factor of 1.4 (one standard deviation), seconds a multiply-add by
            2.3: hence the former.
        found: runs that may have been made here.
        root: the folder of all runs, where there may be more of these networks.
    """
    known = dict(_measured({key: recipe for key, (recipe, _) in work.items()}, found, root=root))
    unknown = sorted((key for key in work if key not in known), key=lambda key: work[key][1])
    left_s, tried = TRIALS_S, ""
    for key in unknown:
        recipe, size = work[key]
        if tried and left_s < STEPS * BATCH * known[tried].seconds_per_image * size / work[tried][1]:
            break
        started, tried = time.perf_counter(), key
        known[key] = Pace(seconds_per_image=seconds_per_image(recipe), basis="trial")
        left_s -= time.perf_counter() - started
    return known | {key: _scaled(work[key][1], known, work) for key in unknown if key not in known}


def seconds_per_image(recipe: Recipe) -> float:
    """Return the seconds that an image takes by the fastest of a few small steps of the real loop, uncompiled.

    The fastest, since whatever else the machine does can only slow a step down. The pictures are noise.
    The number of threads stays as the recipe has it.

    Raises:
        RecipeError: parts that cannot be built.
    """
    batch_size = min(recipe.batch_size, BATCH)
    alone = {"objective": Classify(), "teacher": None}  # which may not be trained yet
    small = recipe.model_copy(
        update={"batch_size": batch_size, "accumulate": 1, "compile": False, "epochs": 1, **alone}
    )
    parts = assembly.assemble(small, _noise(assembly.dataset(recipe), num=STEPS * batch_size), plugin=None, root=Path())
    position = Position.at_start(parts)
    times = [time.perf_counter()]
    for _ in loop.epoch(parts, position):
        float(position.losses.sum())  # waits for the device
        times.append(time.perf_counter())
    return min(after - before for before, after in pairwise(times[1:])) / batch_size


def _scaled(size: int, known: Mapping[str, Pace], work: Mapping[str, tuple[Recipe, int]]) -> Pace:
    """Return the pace of a network by that of the known one that is nearest in size."""
    near = min(known, key=lambda key: abs(math.log(work[key][1] / size)))
    return Pace(seconds_per_image=known[near].seconds_per_image * size / work[near][1], basis="other network")


def _measured(needed: Mapping[str, Recipe], found: Iterable[Record], *, root: Path) -> Iterator[tuple[str, Pace]]:
    """Yield the pace of networks of which this machine has finished a run."""
    models = {recipe.model.name.replace(":", ".") for recipe in needed.values()}
    speeds: dict[str, list[float]] = {}
    here = ""
    for record in (*found, *_neighbours(models, root=root)):
        name = key(record.recipe)
        if record.status == "finished" and name in needed and record.rows:
            here = here or provenance.collect(assembly.place(needed[name]), command=())["hardware"]
            speed = record.rows[-1].get("images_per_s") or 0.0
            if record.environment.get("hardware") == here and speed > 0:
                speeds.setdefault(name, []).append(float(speed))
    for name, images_per_s in speeds.items():
        yield name, Pace(seconds_per_image=1 / statistics.median(images_per_s), basis="finished run")


def _neighbours(models: Iterable[str], *, root: Path) -> Iterator[Record]:
    """Yield a few runs of each model that have a summary."""
    runs = store.list_runs(root)
    for model in models:
        ended = (run for run in runs if run.folder.parent.name == model and run.summary_path.is_file())
        for run in islice(ended, NEIGHBOURS):
            try:
                yield run.record()
            except BakeoffError:  # whoever lists runs is told of it
                continue


def _noise(dataset: Dataset, *, num: int) -> Share:
    """Return pictures of noise in the shape of a data set."""
    images = splits.noise(dataset.image_shape, num_classes=dataset.num_classes, num=num)
    index = np.arange(num)
    return Share(source_fingerprint="", train_index=index, val_index=index[:0], train=images, val=None)
