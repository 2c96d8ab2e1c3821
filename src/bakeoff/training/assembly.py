"""Assembly: a recipe and its data become the parts of a run."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from bakeoff import catalogue, data, models, objectives, optim
from bakeoff.data import images as splits
from bakeoff.data import own
from bakeoff.data.augment import Augment
from bakeoff.data.batches import Batches, plain
from bakeoff.data.images import ImageSet
from bakeoff.data.mix import Mix
from bakeoff.errors import RecipeError
from bakeoff.models import cost, stages
from bakeoff.objectives import Objective
from bakeoff.objectives.classify import balanced_weights
from bakeoff.objectives.outcome import adapter
from bakeoff.optim import average, schedules
from bakeoff.recipe import Recipe
from bakeoff.training import autotune, graph
from bakeoff.training.device import UNDECIDED, Device, Way, resolve
from bakeoff.training.loop import Parts
from bakeoff.training.ranks import Ranks
from bakeoff.training.sync_norms import synchronise
from bakeoff.training.teacher import Teacher
from bakeoff.training.teacher import load as load_teacher

_log = logging.getLogger(__name__)

PREPARED_ON = 5_000  # images that a network is shown before its first step, where it asks for them

T = TypeVar("T")
Shape = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The training images as split: indices into the source's train part, and the two sets."""

    source_fingerprint: str
    train_index: np.ndarray
    val_index: np.ndarray
    train: ImageSet
    val: ImageSet | None

    @property
    def split(self) -> dict[str, Any]:
        """Which images train and which are held out, and of what data, as a run's split.json keeps it."""
        return {
            "fingerprint": self.source_fingerprint,
            "train": self.train_index.tolist(),
            "val": self.val_index.tolist(),
        }


def key(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return the seed of one use of randomness, keyed by what it is for: never a shared stream."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{epoch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def load(recipe: Recipe) -> Share:
    """Load the train part, cut it to size, and hold out the validation images of protocol `dev`."""
    images = data.load(part="train", **recipe.data.source)
    index = np.arange(len(images))
    if recipe.data.limit is not None:
        index = _limited(recipe, images)
    if recipe.protocol == "paper":
        train, val = np.arange(len(index)), np.arange(0)
    else:
        train, val = _hold_out(recipe, images.take(index))
        if not len(val):
            raise RecipeError(
                "data.val_fraction",
                found=f"{recipe.data.val_fraction}, which leaves none of {len(index)} images for validation",
                expected="at least one validation image in protocol dev",
                hint="Use more images or a larger fraction, or protocol=paper.",
            )
    return Share(
        source_fingerprint=images.fingerprint,
        train_index=index[train],
        val_index=index[val],
        train=images.take(index[train]),
        val=images.take(index[val]) if len(val) else None,
    )


def _limited(recipe: Recipe, images: ImageSet) -> np.ndarray:
    """Choose so many training images; what the source sets apart for validation is validated on, all of it."""
    assert recipe.data.limit is not None
    apart = images.reserved if recipe.protocol == "dev" and images.reserved is not None else np.arange(0)
    free = np.setdiff1d(np.arange(len(images)), apart)
    chosen = splits.limit(images.labels[free], num_images=recipe.data.limit, seed=recipe.seed)
    return np.sort(np.concatenate([free[chosen], apart]))


def _hold_out(recipe: Recipe, images: ImageSet) -> tuple[np.ndarray, np.ndarray]:
    """Part training images in those to train on and those to validate on, as the source does where it does."""
    if images.reserved is not None:
        return np.setdiff1d(np.arange(len(images)), images.reserved), images.reserved
    fraction = recipe.data.val_fraction
    return splits.hold_out(images.labels, fraction=fraction, seed=recipe.seed, groups=images.groups)


@cache
def described(
    name: str, size: int = 0, fit: str = "", image: str | None = None, label: str | None = None
) -> catalogue.Dataset:
    """Return what a recipe's data are: of own pictures, what their names say, looked at once in a process."""
    if not catalogue.is_own(name):
        return catalogue.DATASETS[name]
    return own.describe(name, size=size, image=image, label=label)


def dataset(recipe: Recipe) -> catalogue.Dataset:
    """Return what a recipe's data are, without opening a picture.

    Raises:
        DataError: own pictures that are not there, or are no data set.
    """
    return described(**recipe.data.source)


def build(recipe: Recipe, *, num_classes: int, image_shape: Shape, plugin: str | None) -> nn.Module:
    """Build the model with weights drawn from the recipe's seed; the global stream is left alone.

    A name of the form `package.module:function` runs code, which a file must not be able to ask for: it
    has to be `plugin`, what a person typed.
    """
    name, (in_channels, image_size, _) = recipe.model.name, image_shape
    if catalogue.is_plugin(name) and name != plugin:
        raise RecipeError(
            "model.name",
            found=f"'{name}' in a run's recipe.yaml, which would run code",
            expected="a name of the catalogue, or the same name on the command line",
            hint=f"If you trust it, add model={name}",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(recipe.seed, "weights"))
        return models.build(
            name, num_classes=num_classes, in_channels=in_channels, image_size=image_size, **recipe.model.options
        )


def outline(recipe: Recipe, *, plugin: str | None) -> nn.Module:
    """Build the network on the meta device, for the declared shape of the recipe's data, and show it a batch.

    What a plug-in does without numbers is its own affair: it is shown nothing.

    Raises:
        RecipeError: an unknown name or option, or pictures or batches that the network cannot take.
    """
    declared = dataset(recipe)
    with torch.device("meta"):
        network = build(recipe, num_classes=declared.num_classes, image_shape=declared.image_shape, plugin=plugin)
    if not catalogue.is_plugin(recipe.model.name):
        num = min(2, recipe.batch_size // recipe.accumulate)
        show_batch(network, num=num, image_shape=declared.image_shape, num_classes=declared.num_classes)
    return network


def check(recipe: Recipe, *, plugin: str | None) -> None:
    """Refuse, before any data is read, what `outline` refuses; a plug-in's code is not run once more for it."""
    if not catalogue.is_plugin(recipe.model.name):
        outline(recipe, plugin=plugin)


def show_batch(network: nn.Module, *, num: int, image_shape: Shape, num_classes: int) -> None:
    """Show a batch without numbers to a network on the meta device, and look at the shape of its answer.

    Args:
        network: on the meta device; it is left training.
        num: pictures; one alone is shown to it training, since there batch norm may refuse it.
        image_shape: of each.
        num_classes: logits that each must get.

    Raises:
        RecipeError: it cannot take them, or gives something else.
    """
    expected = f"a network that trains on {num or 1} of them at once and gives {num_classes} logits for each"
    try:
        with torch.no_grad():
            # Only a batch of one meets what evaluation would not, and there batch norm takes half the time.
            answer = network.train(num == 1)(torch.empty(num, *image_shape, device="meta"))
            network.train()
        shape = tuple(answer.shape)
    except Exception as error:  # whatever a network raises that cannot use them
        found = f"pictures of {'x'.join(map(str, image_shape))} ({type(error).__name__}: {error})"
        raise RecipeError("model", found=found, expected=expected) from error
    if shape != (num, num_classes):
        raise RecipeError("model", found=f"an answer of the shape {shape}", expected=expected)


def place(recipe: Recipe, *, decided: Way = UNDECIDED, training_macs: Callable[[], float] = lambda: 0.0) -> Device:
    """Decide where and how the run computes; what the recipe leaves open is as `decided` has it, if it says."""
    device = resolve(
        device=recipe.device,
        precision=recipe.precision,
        compile=recipe.compile,
        threads=recipe.threads,
        deterministic=recipe.deterministic,
        training_macs=training_macs,
        decided=decided,
    )
    reason = graph.unsuited(recipe, device)
    if recipe.cuda_graph is True and reason:
        note = f"{device.note} Its steps are no CUDA graphs: {reason}.".strip()
        device = replace(device, note=note)
    return replace(device, graphed=recipe.cuda_graph is not False and not reason)


def _place_and_tune(recipe: Recipe, network: nn.Module, images: ImageSet, *, decided: Way, tune: bool) -> Device:
    """Decide where and how the run computes; where it is new and long, by measuring."""

    @cache
    def training_macs() -> float:
        price = followed(cost.cost, network, images.shape)
        # One forward pass and twice that backward.
        return 3.0 * price.macs * len(images) * recipe.epochs if price else 0.0

    if tune and recipe.autotune:
        usual = place(recipe, decided=Way(compiled=False))
        _require_whole_shares(recipe, usual.ranks)
        steps = recipe.epochs * (len(images) // recipe.batch_size)
        if usual.ranks.first(lambda: autotune.pays(recipe, usual, macs=training_macs, steps=steps)):
            choice = autotune.decide(recipe, network, images, device=usual, steps=steps)
            if choice is not None:
                return replace(place(recipe, decided=choice.way), tried=choice.told)
    return place(recipe, decided=decided, training_macs=training_macs)


def assemble(
    recipe: Recipe,
    share: Share,
    *,
    plugin: str | None,
    root: Path,
    decided: Way = UNDECIDED,
    tune: bool = False,
    teacher: Teacher | None = None,
) -> Parts:
    """Turn the recipe into the parts of a run.

    Args:
        recipe: resolved.
        share: the images.
        plugin: the `package.module:function` that may be imported as the model.
        root: the folder of all runs, where a teacher is looked for.
        decided: how to compute, as it was decided when the run began, if it did.
        tune: whether to measure how, where the recipe leaves it open and the run is long.
        teacher: that of the recipe, where it was measured before.
    """
    shape = share.train.shape
    network = build(recipe, num_classes=len(share.train.classes), image_shape=shape, plugin=plugin)

    device = _place_and_tune(recipe, network, share.train, decided=decided, tune=tune)
    if device.note:
        _log.warning(device.note)
    _require_whole_shares(recipe, device.ranks)
    if recipe.sync_norms and device.ranks.size > 1:
        synchronise(network)
    network = device.place(network)
    _prepare(recipe, network, share.train, device)
    batches = Batches(
        share.train,
        batch_size=recipe.batch_size,
        augment=Augment(**recipe.augment.model_dump()),
        mix=Mix(**recipe.mix.model_dump()),
        seed=recipe.seed,
        device=device.kind,
        resident=recipe.data.resident,
        balance=recipe.data.balance,
        epochs=recipe.epochs,
        share=device.ranks.shares(recipe.batch_size, parts=recipe.accumulate) if device.ranks.size > 1 else None,
        layout=device.memory_format,
    )
    if recipe.teacher is not None and teacher is None:
        teacher = load_teacher(
            recipe,
            images=share.train,
            val=share.val,
            index=share.val_index if share.val is not None else share.train_index,
            device=device,
            root=root,
            key=key(recipe.seed, "teacher"),
        )
    objective = _objective(recipe, network, share.train, teacher)
    if isinstance(objective, nn.Module) and recipe.sync_norms and device.ranks.size > 1:
        synchronise(objective)
    if isinstance(objective, nn.Module):
        objective = device.place(objective)
    return Parts(
        model=network,
        objective=objective,
        teacher=teacher,
        batches=batches,
        optimizer=optim.build(model=_trained(network, objective), **recipe.optimizer.model_dump()),
        schedule=schedules.build(**recipe.schedule.model_dump()),
        average=average.build(network, decay=recipe.ema_decay) if recipe.ema_decay else None,
        device=device,
        total_steps=recipe.epochs * batches.steps_per_epoch,
        accumulate=recipe.accumulate,
        clip_norm=recipe.clip_norm,
    )


def _prepare(recipe: Recipe, network: nn.Module, images: ImageSet, device: Device) -> None:
    """Show a network that asks for it (by a method `prepare`) some training images before its first step."""
    if prepare := getattr(network, "prepare", None):
        drawn = np.random.default_rng(key(recipe.seed, "prepare")).permutation(len(images))[:PREPARED_ON]
        shown, layout = images.take(np.sort(drawn)), device.memory_format
        x, _ = next(plain(shown, batch_size=PREPARED_ON, device=device.kind, layout=layout))
        prepare(x)


def _require_whole_shares(recipe: Recipe, ranks: Ranks) -> None:
    """Refuse a batch that cannot be shared out evenly: some images would weigh more than others."""
    pieces = ranks.size * recipe.accumulate
    if recipe.batch_size % pieces:
        of = f"{ranks.size} ranks" + (f" and accumulate={recipe.accumulate}" if recipe.accumulate > 1 else "")
        below = recipe.batch_size // pieces * pieces
        near = " or ".join(str(size) for size in (below, below + pieces) if size)
        expected = f"a multiple of {pieces}, such as {near}"
        raise RecipeError("batch_size", found=f"{recipe.batch_size}, for {of}", expected=expected)


def _objective(recipe: Recipe, network: nn.Module, images: ImageSet, teacher: Teacher | None) -> Objective:
    """Build the objective; its own modules, where it has any, are drawn from the recipe's seed."""
    options, shapes = recipe.objective.model_dump(), None
    if options.pop("class_weights", "none") == "balanced":
        counts = np.bincount(images.labels, minlength=len(images.classes))
        # Where the loss is computed: brought there at each step, they would make the host wait.
        options["class_weights"] = balanced_weights(torch.from_numpy(counts)).to(next(network.parameters()).device)
    if teacher is not None and teacher.tapped:
        shapes = (stages.shapes(network, images.shape, where="model"), teacher.shapes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(recipe.seed, "objective"))
        return objectives.build(teacher=teacher, shapes=shapes, **options)


def _trained(network: nn.Module, objective: Objective) -> nn.Module:
    """Return what the optimizer is made for: the network, and the objective's own modules where it has any."""
    own = adapter(objective)
    return network if own is None else nn.ModuleDict({"model": network, "objective": own})


def followed(measure: Callable[[nn.Module, Shape], T], network: nn.Module, shape: Shape) -> T | None:
    """Return a network's cost or fingerprint, or None: a plug-in may do what cannot be followed without numbers."""
    try:
        return measure(network, shape)
    except Exception as error:  # whatever somebody else's network raises, it can still be trained
        _log.warning("The network's %s cannot be computed (%s: %s).", measure.__name__, type(error).__name__, error)
        return None


def card(recipe: Recipe, images: ImageSet) -> dict[str, Any]:
    """Return what the weights need beside them to be used: everything but the weights."""
    return {
        "model": recipe.model.name,
        "options": recipe.model.options,
        "num_classes": len(images.classes),
        "image_shape": list(images.shape),
        "classes": list(images.classes),
        "mean": list(images.mean),
        "std": list(images.std),
        "data": recipe.data.name,
        **({} if recipe.data.is_published else {"fit": recipe.data.fit}),
        "digest": recipe.digest,
    }
