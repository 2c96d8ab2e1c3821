"""Before the first run: all that a study will build is built once, without numbers, and what it will cost is said.

A mistake in the seventh arm is found now and not after six arms have been trained. Nothing is written. Besides the
workers this is the only room of `launch` that knows torch.
"""

import dataclasses
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from bakeoff import catalogue, objectives, optim
from bakeoff.data.augment import Augment
from bakeoff.data.mix import Mix
from bakeoff.errors import BakeoffError, RecipeError
from bakeoff.launch import local
from bakeoff.models import cost
from bakeoff.models.cost import Cost
from bakeoff.optim import schedules
from bakeoff.recipe import Recipe
from bakeoff.record import Record
from bakeoff.results import store
from bakeoff.study import Arm, Study
from bakeoff.study.expand import Changes
from bakeoff.training import assembly, checkpoint, pace
from bakeoff.training.pace import Basis, Pace

IMAGES = {"cifar100": (50_000, 10_000), "cifar10": (50_000, 10_000), "digits": (1_438, 359)}  # to train on, to test on
FREE = {"drop_path", "dropout", "attention_dropout"}  # options of networks that cost nothing: they act in training
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
        rows: one an arm, control first.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Network:
    """A network on the meta device, and what was read off it; `price` is None where it cannot be followed."""

    module: nn.Module
    price: Cost | None

    @property
    def params(self) -> int:
        return sum(p.numel() for p in self.module.parameters() if p.requires_grad)

    @property
    def size(self) -> int:
        """Its activations, or where they cannot be counted its weights."""
        return self.price.activations if self.price else self.params

    @property
    def num_bytes(self) -> int:
        return _bytes_of(self.module.state_dict().values())


@dataclass(slots=True)
class _Workshop:
    """Every distinct network, and what every distinct optimizer keeps a byte of weights; each found out once."""

    networks: dict[str, _Network] = field(default_factory=dict)
    kept: dict[str, float] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)

    def network(self, recipe: Recipe) -> _Network:
        key = _key(recipe.model, recipe.data.name, min(2, recipe.batch_size // recipe.accumulate))
        if key not in self.networks:
            module = assembly.outline(recipe, plugin=None)
            self.networks[key] = _Network(module=module, price=_price(recipe, module))
        return self.networks[key]

    def build(self, recipe: Recipe) -> None:
        """Build all parts of a run but its data.

        Raises:
            RecipeError: one of them cannot be built, or does not suit the others.
        """
        if recipe.device not in self.devices:
            assembly.place(recipe.model_copy(update={"compile": False}))
            self.devices.add(recipe.device)
        channels, height, width = catalogue.DATASETS[recipe.data.name].image_shape
        _num_images(recipe)
        optim.build(model=self.network(recipe).module, **recipe.optimizer.model_dump())
        schedules.build(**recipe.schedule.model_dump())
        objectives.build(**recipe.objective.model_dump())
        Augment(**recipe.augment.model_dump()).check(height=height, width=width, channels=channels)
        Mix(**recipe.mix.model_dump())
        if (key := _key(recipe.optimizer)) not in self.kept:
            self.kept[key] = _kept(recipe)

    def run_bytes(self, recipe: Recipe) -> int:
        """Estimate what a run leaves on the disk: two sets of weights, two checkpoints, predictions."""
        weights = self.network(recipe).num_bytes
        state = weights * (1 + bool(recipe.ema_decay) + self.kept[_key(recipe.optimizer)])
        _, val, test = _num_images(recipe)
        row = 4 * catalogue.DATASETS[recipe.data.name].num_classes + 16  # logits, index, label
        return int(2 * weights + checkpoint.KEEP * state + (val + test) * row)


def check(study: Study, *, root: Path, jobs: int | None = None) -> Check:
    """Build everything that a study will need, count what is there, and estimate what is not.

    Args:
        study: expanded.
        root: the folder of all runs.
        jobs: runs side by side; see `launch.local.places`.

    Raises:
        RecipeError: a network, an optimizer or another part cannot be built; it names the arm.
    """
    wanted = study.recipes()
    found, unreadable = store.records_of(wanted.values(), root=root)
    over = {digest for digest, record in found.items() if record.status in ("finished", "diverged")}
    open_runs = {digest: recipe for digest, recipe in wanted.items() if digest not in over}
    with _threads_kept():
        workshop = _examined(study)
        work = {pace.key(recipe): (recipe, workshop.network(recipe).size) for recipe in open_runs.values()}
        paces = pace.paces(work, found.values(), root=root)
    seconds = {d: _seconds(recipe, paces[pace.key(recipe)], found.get(d)) for d, recipe in open_runs.items()}
    side_by_side = sum(place.capacity for place in local.places(open_runs.values(), jobs=jobs))
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
        seconds=max(sum(seconds.values()) / side_by_side, max(seconds.values(), default=0.0)),
        disk_bytes=disk_bytes,
        free_bytes=free_bytes,
        repeats=tuple(_repeats(study.arms, workshop)),
        warnings=(*study.warnings, *_troubles(unreadable, disk_bytes=disk_bytes, free_bytes=free_bytes)),
    )


def _examined(study: Study) -> _Workshop:
    """Build what every arm is made of.

    Raises:
        RecipeError: of the first mistake; it names the arm.
    """
    workshop = _Workshop()
    for arm in study.arms:
        for trial in arm.trials:
            with _naming(f"{study.name}: {', '.join(filter(None, (arm.name, trial.name)))}"):
                workshop.build(trial.recipe)
    return workshop


def _rows(
    study: Study,
    workshop: _Workshop,
    open_runs: Mapping[str, Recipe],
    seconds: Mapping[str, float],
    paces: Mapping[str, Pace],
) -> Iterator[Row]:
    counted: set[str] = set()
    for arm in study.arms:
        all_runs = {recipe.digest: recipe for _, _, recipe in study.runs(arm)}
        own = {digest: recipe for digest, recipe in all_runs.items() if digest in open_runs and digest not in counted}
        counted |= own.keys()
        network = workshop.network(arm.trials[0].recipe)
        yield Row(
            arm=arm.name,
            changed=arm.changed,
            trials=len(arm.trials),
            params=network.params,
            macs=network.price.macs if network.price else None,
            to_do=len(own),
            seconds=sum(seconds[digest] for digest in own),
            basis=next((paces[pace.key(recipe)].basis for recipe in own.values()), None),
        )


def _repeats(arms: Sequence[Arm], workshop: _Workshop) -> Iterator[tuple[str, ...]]:
    """Yield the names of arms that are one network, trained alike; only networks of equal costs are compared."""
    alike: dict[tuple[Cost, str], list[Arm]] = {}
    for arm in arms:
        recipe = arm.trials[0].recipe
        if price := workshop.network(recipe).price:
            alike.setdefault((price, _key(recipe.model_dump(exclude={"model"}))), []).append(arm)
    for group in alike.values():
        names: dict[str | None, list[str]] = {}
        for arm in group if len(group) > 1 else ():
            recipe = arm.trials[0].recipe
            shape = catalogue.DATASETS[recipe.data.name].image_shape
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
    except RecipeError as error:
        raise RecipeError(
            f"{where}: {error.where}", found=error.found, expected=error.expected, hint=error.hint
        ) from error


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Put the number of torch's threads back, which a recipe decides."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _price(recipe: Recipe, module: nn.Module) -> Cost | None:
    """Return what a network costs: looked up where that was counted before."""
    dataset = catalogue.DATASETS[recipe.data.name]
    known = catalogue.costs().get(recipe.model.name)
    if (
        known
        and FREE.issuperset(recipe.model.options)
        and (dataset.num_classes, dataset.image_shape) == (100, (3, 32, 32))
    ):
        return Cost(**dataclasses.asdict(known))
    return assembly.followed(cost.cost, module, dataset.image_shape)


def _kept(recipe: Recipe) -> float:
    """Return what an optimizer keeps between steps, for a byte of weights: by one step of a small network."""
    small = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 64, 3), nn.Conv2d(64, 8, 3))
    optimizer = optim.build(model=small, **recipe.optimizer.model_dump())
    for p in small.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    return _bytes_of(v for state in optimizer.state.values() for v in state.values()) / _bytes_of(small.parameters())


def _bytes_of(values: Iterable[object]) -> int:
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, torch.Tensor))


def _num_images(recipe: Recipe) -> tuple[int, int, int]:
    """Return how many images train, validate and test.

    Raises:
        RecipeError: more images are asked for than there are, fewer than fill a batch, none to validate on.
    """
    there, test = IMAGES[recipe.data.name]
    limit = recipe.data.limit or there
    if limit > there:
        raise RecipeError("data.limit", found=f"{limit}", expected=f"1 to the {there} that {recipe.data.name} has")
    rest = limit - min(limit, catalogue.DATASETS[recipe.data.name].num_classes)  # one of each class is trained on
    val = min(round(recipe.data.val_fraction * limit), rest) if recipe.protocol == "dev" else 0
    if recipe.protocol == "dev" and not val:
        found = f"{recipe.data.val_fraction}, which leaves none of {limit} images for validation"
        raise RecipeError("data.val_fraction", found=found, expected="at least one validation image in protocol dev")
    if recipe.batch_size > limit - val:
        expected = f"1 to {limit - val}, the number of training images"
        raise RecipeError("batch_size", found=f"{recipe.batch_size}", expected=expected)
    return limit - val, val, test


def _seconds(recipe: Recipe, of: Pace, record: Record | None) -> float:
    """Estimate what is left of a run."""
    train, val, test = _num_images(recipe)
    done = record.rows[-1].get("epoch", 0) if record and record.rows else 0
    left = recipe.epochs - done
    images = left * train + FORWARD * (math.ceil(left / recipe.eval_every) * val + val + test)
    return images * of.seconds_per_image


def _key(*parts: object) -> str:
    return json.dumps([part.model_dump(mode="json") if hasattr(part, "model_dump") else part for part in parts])
