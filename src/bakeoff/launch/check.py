"""Before the first run: all that a study will build is built once, without numbers, and what it will cost is said.

A mistake in the seventh arm is found now and not after six arms have been trained. Nothing is written. What builds is
the workshop.
"""

import math
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from bakeoff.errors import BakeoffError, DataError, RecipeError
from bakeoff.launch.executors import HERE, Placement
from bakeoff.launch.workshop import Workshop, identity, num_images
from bakeoff.models import cost
from bakeoff.models.cost import Cost
from bakeoff.recipe import Recipe
from bakeoff.record import Record
from bakeoff.results import store
from bakeoff.study import Arm, Study
from bakeoff.study.expand import Changes, differences
from bakeoff.training import assembly, pace
from bakeoff.training import run as training
from bakeoff.training.pace import Basis, Pace

FORWARD = 1 / 3  # of a training step's work is the forward pass, which is all that evaluation does


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What one arm asks for.

    Args:
        arm: its name.
        changed: setting -> (in the control, here).
        trials: how many settings validation will choose among.
        params: trainable parameters of its first trial's network.
        macs: multiply-adds of that network for one picture; None where they cannot be counted.
        to_do: how many of its runs are not done. A run that two arms share is counted for the first.
        seconds: estimate for these runs, one after another.
        basis: what the estimate stands on; None where nothing is to do.
    """

    arm: str
    changed: Changes
    trials: int
    params: int
    macs: int | None
    to_do: int
    seconds: float
    basis: Basis | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What a study will do and cost.

    Args:
        rows: one a teacher, then one an arm, control first.
        total: runs of all arms.
        distinct: runs that there are: equal recipes are run once.
        finished: distinct runs that are done.
        diverged: distinct runs that left the finite numbers; they are not run again.
        interrupted: distinct runs that will be gone on with.
        running: distinct runs that a process is at work on.
        to_do: distinct runs that are neither finished nor diverged.
        jobs: runs side by side.
        seconds: estimate until the last run ends.
        disk_bytes: estimate of what the runs to do will take.
        free_bytes: what the disk has.
        repeats: arms whose networks are equal and which train alike: how they will differ is noise.
        warnings: what a reader of the plan has to know.
    """

    study: Study
    rows: tuple[Row, ...]
    total: int
    distinct: int
    finished: int
    diverged: int
    interrupted: int
    running: int
    to_do: int
    jobs: int
    seconds: float
    disk_bytes: int
    free_bytes: int
    repeats: tuple[tuple[str, ...], ...]
    warnings: tuple[str, ...]


def check(study: Study, *, root: Path, placement: Placement = HERE) -> Check:
    """Build everything that a study will need, count what is there, and estimate what is not.

    Args:
        study: expanded.
        root: the folder of all runs.
        placement: where its runs would be made.

    Raises:
        RecipeError: a network, an optimizer or another part cannot be built; it names the arm.
    """
    wanted = study.recipes()
    found, unreadable = store.records_of(wanted.values(), root=root)
    over = {digest for digest, record in found.items() if record.status in ("finished", "diverged")}
    open_runs = {digest: recipe for digest, recipe in wanted.items() if digest not in over}
    with _threads_kept():
        workshop = _examined(study, root=root)
        work = {pace.key(recipe): (recipe, workshop.network(recipe).size) for recipe in open_runs.values()}
        paces = pace.paces(work, found.values(), root=root)
    seconds = {d: _seconds(recipe, workshop, paces, found.get(d)) for d, recipe in open_runs.items()}
    side_by_side = placement.side_by_side(list(open_runs.values()), root=root)
    disk_bytes = sum(workshop.run_bytes(recipe) for recipe in open_runs.values())
    free_bytes = shutil.disk_usage(next(p for p in (root.absolute(), *root.absolute().parents) if p.exists())).free
    status = Counter(record.status for record in found.values())
    return Check(
        study=study,
        rows=tuple(_rows(study, workshop, open_runs, seconds, paces)),
        total=sum(len(list(study.runs(arm))) for arm in study.arms),
        distinct=len(wanted),
        finished=status["finished"],
        diverged=status["diverged"],
        interrupted=status["interrupted"],
        running=status["running"],
        to_do=len(open_runs),
        jobs=side_by_side,
        seconds=max(sum(seconds.values()) / max(side_by_side, 1), _longest(open_runs, seconds)),
        disk_bytes=disk_bytes,
        free_bytes=free_bytes,
        repeats=tuple(_repeats(study.arms, workshop)),
        warnings=(*study.warnings, *_troubles(unreadable, disk_bytes=disk_bytes, free_bytes=free_bytes)),
    )


def measure_teachers(study: Study, *, root: Path) -> None:
    """Measure every teacher that the study does not train itself, once for each objective, before the first run.

    Raises:
        RecipeError, DataError: of the first that is of no use; it names the arm.
    """
    own = {recipe.digest for recipe in study.teachers.values()}
    seen: set[str] = set()
    for arm in study.arms:
        for trial in arm.trials:
            teacher = trial.recipe.teacher
            if teacher is None or teacher.digest in own or identity(teacher, trial.recipe.objective) in seen:
                continue
            seen.add(identity(teacher, trial.recipe.objective))
            with _naming(f"{study.name}: {', '.join(filter(None, (arm.name, trial.name)))}"), _threads_kept():
                training.measure_teacher(trial.recipe, root=root)


def _examined(study: Study, *, root: Path) -> Workshop:
    """Build what every teacher and every arm is made of.

    Raises:
        RecipeError: of the first mistake; it names the arm.
    """
    workshop = Workshop(root=root, teachers={recipe.digest: recipe for recipe in study.teachers.values()})
    for name, recipe in study.teachers.items():
        with _naming(f"{study.name}: teacher {name}"):
            workshop.build(recipe)
    for arm in study.arms:
        for trial in arm.trials:
            with _naming(f"{study.name}: {', '.join(filter(None, (arm.name, trial.name)))}"):
                workshop.build(trial.recipe)
    return workshop


def _rows(
    study: Study,
    workshop: Workshop,
    open_runs: Mapping[str, Recipe],
    seconds: Mapping[str, float],
    paces: Mapping[str, Pace],
) -> Iterator[Row]:
    """Yield a row a teacher, then a row an arm."""
    counted: set[str] = set()

    def row(name: str, changed: Changes, trials: int, first: Recipe, runs: Mapping[str, Recipe]) -> Row:
        own = {digest: recipe for digest, recipe in runs.items() if digest in open_runs and digest not in counted}
        counted.update(own)
        network = workshop.network(first)
        return Row(
            arm=name,
            changed=changed,
            trials=trials,
            params=network.params,
            macs=network.price.macs if network.price else None,
            to_do=len(own),
            seconds=sum(seconds[digest] for digest in own),
            basis=next((paces[pace.key(recipe)].basis for recipe in own.values()), None),
        )

    control = study.control.trials[0].recipe
    for name, recipe in study.teachers.items():
        yield row(f"teacher {name}", differences(control, recipe), 1, recipe, {recipe.digest: recipe})
    for arm in study.arms:
        runs = {recipe.digest: recipe for _, _, recipe in study.runs(arm)}
        yield row(arm.name, arm.changed, len(arm.trials), arm.trials[0].recipe, runs)


def _longest(open_runs: Mapping[str, Recipe], seconds: Mapping[str, float]) -> float:
    """Return how long the longest run takes, the teacher that it waits for counted in."""
    of_teacher = {
        digest: seconds.get((recipe.teacher and recipe.teacher.digest) or "", 0.0)
        for digest, recipe in open_runs.items()
    }
    return max((seconds[digest] + of_teacher[digest] for digest in open_runs), default=0.0)


def _repeats(arms: Sequence[Arm], workshop: Workshop) -> Iterator[tuple[str, ...]]:
    """Yield the names of arms that are one network, trained alike; only networks of equal costs are compared."""
    alike: dict[tuple[Cost, str], list[Arm]] = {}
    for arm in arms:
        recipe = arm.trials[0].recipe
        if price := workshop.network(recipe).price:
            alike.setdefault((price, identity(recipe.model_dump(exclude={"model"}))), []).append(arm)
    for group in alike.values():
        names: dict[str | None, list[str]] = {}
        for arm in group if len(group) > 1 else ():
            recipe = arm.trials[0].recipe
            shape = assembly.dataset(recipe).image_shape
            fingerprint = assembly.followed(cost.fingerprint, workshop.network(recipe).module, shape)
            names.setdefault(fingerprint, []).append(arm.name)
        yield from (tuple(same) for fingerprint, same in names.items() if fingerprint and len(same) > 1)


def _troubles(unreadable: Iterable[BakeoffError], *, disk_bytes: int, free_bytes: int) -> Iterator[str]:
    yield from map(str, unreadable)
    if disk_bytes > free_bytes:
        yield f"The runs will take about {disk_bytes / 1e9:,.1f} GB, and the disk has {free_bytes / 1e9:,.1f} GB."


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Say of a mistake in which arm it is."""
    try:
        yield
    except (RecipeError, DataError) as error:
        raise error.inside(where) from error


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Put the number of torch's threads back, which a recipe decides."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _seconds(recipe: Recipe, workshop: Workshop, paces: Mapping[str, Pace], record: Record | None) -> float:
    """Estimate what is left of a run. A teacher costs a forward pass more, as long as no such run has been measured."""
    of, teacher = paces[pace.key(recipe)], workshop.teacher_of(recipe)
    if teacher is not None and of.basis == "finished run":
        teacher = None
    elif teacher is not None:  # one trial serves the student with and without
        of = paces.get(pace.key(recipe.model_copy(update={"teacher": None})), of)
    asked = 0.0
    if teacher is not None:
        sizes = workshop.network(teacher).size / workshop.network(recipe).size
        asked = FORWARD * of.seconds_per_image * sizes
    train, val, test = num_images(recipe)
    done = record.rows[-1].get("epoch", 0) if record and record.rows else 0
    left = recipe.epochs - done
    images = left * train + FORWARD * (math.ceil(left / recipe.eval_every) * val + val + test)
    return images * of.seconds_per_image + left * train * asked
