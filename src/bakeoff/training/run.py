"""From a recipe to a record: the only place in this room that reads a recipe."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bakeoff import data, models, objectives, optim
from bakeoff.data import images as splits
from bakeoff.data.augment import Augment
from bakeoff.data.batches import Batches
from bakeoff.data.images import ImageSet
from bakeoff.data.mix import Mix
from bakeoff.errors import BakeoffError, RecipeError, ResumeRefused
from bakeoff.models import cost
from bakeoff.optim import average, schedules
from bakeoff.recipe import Recipe, overlay
from bakeoff.record import Record
from bakeoff.results import lock, metrics, predictions, store
from bakeoff.results.files import storage_errors, write_atomically
from bakeoff.results.store import Run
from bakeoff.training import checkpoint, device, provenance, weights
from bakeoff.training.checkpoint import Checkpoint
from bakeoff.training.device import Device
from bakeoff.training.evaluate import evaluate
from bakeoff.training.loop import Parts
from bakeoff.training.signals import StopRequest, listen
from bakeoff.training.trainer import Plan, Tick, Trainer

_log = logging.getLogger(__name__)

Tell = Callable[[Tick], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The training images as split: indices into the source's train part, and the two sets."""

    source_fingerprint: str
    train_index: np.ndarray
    val_index: np.ndarray
    train: ImageSet
    val: ImageSet | None


def start(recipe: Recipe, run: Run, *, command: Sequence[str] = (), tell: Tell = lambda _: None) -> Record:
    """Train a new run to its end, in the folder that `results.store.create` made for it.

    Raises:
        BakeoffError: any of them; what was saved until then stays.
    """
    with lock.hold(run.lock_path), _logging_to(run.log_path):
        share = _share(recipe)
        trainer_parts = _assemble(recipe, share)
        run.write_json(run.environment_path, provenance.collect(trainer_parts.device, command=command))
        _write_split(run, share)
        with listen() as stop:
            trainer = _trainer(recipe, run, share, trainer_parts, stop=stop, tell=tell)
            trainer.begin()
            trainer.fit()
        _finish(recipe, run, share, trainer)
    return run.record()


def resume(
    run: Run, *, epochs: int | None = None, command: Sequence[str] = (), tell: Tell = lambda _: None
) -> Record:
    """Go on exactly where a run stopped, or to more epochs than it had.

    Raises:
        RunLocked: another process holds the run.
        ResumeRefused: going on would not give the numbers of an undisturbed run.
        RecipeError: fewer epochs than are done.
    """
    with lock.hold(run.lock_path), _logging_to(run.log_path):
        recipe = run.recipe()
        found = checkpoint.newest(run.checkpoints, device=torch.device("cpu"))
        if found is not None:
            _check_recipe(recipe, found, run)
        if run.divergence_path.exists():
            raise ResumeRefused(
                str(run.folder),
                found="a run that diverged",
                expected="a run whose numbers are finite",
                hint="It would diverge again. Train anew under another name with a lower lr.",
            )
        if epochs is not None and epochs != recipe.epochs:
            recipe = _extend(run, recipe, epochs=epochs, done=int(found.state["epoch"]) if found else 0)
        elif run.read_json(run.summary_path).get("epochs") == recipe.epochs:
            _log.info("Run %s is finished; epochs=N with N > %d would extend it.", run.folder, recipe.epochs)
            return run.record()
        share = _share(recipe)
        parts = _assemble(recipe, share)
        now = provenance.collect(parts.device, command=command)
        before = run.read_json(run.environment_path)
        if before:
            provenance.check_same(before, now, where=run.folder)
            now = {**before, "resumed": [*before.get("resumed", []), {k: now[k] for k in ("command", "started")}]}
        run.write_json(run.environment_path, now)
        _write_split(run, share)
        with listen() as stop:
            trainer = _trainer(recipe, run, share, parts, stop=stop, tell=tell)
            if found is None:
                _start_over(run)
                trainer.begin()
            else:
                _log.info("Resuming %s at step %d of %d.", run.folder, found.step, parts.total_steps)
                trainer.restore(found)
            trainer.fit()
        _finish(recipe, run, share, trainer)
    return run.record()


def read_test(run: Run, *, command: Sequence[str] = ()) -> Record:
    """Read the test split with the run's chosen weights, store its logits, and record the look.

    Raises:
        RecipeError: the run is not finished.
    """
    with lock.hold(run.lock_path), _logging_to(run.log_path):
        recipe, summary = run.recipe(), run.read_json(run.summary_path)
        if summary.get("epochs") != recipe.epochs:
            raise RecipeError(
                str(run.folder),
                found="a run that is not finished",
                expected="a finished run",
                hint=f"Go on by: bakeoff resume {run.folder}",
            )
        looks = summary.get("test_reads", [])
        if looks:
            _log.warning("This is look %d at the test split of this run; it is recorded.", len(looks) + 1)
        place = _device(recipe, training_macs=lambda: 0.0)
        images = data.load(recipe.data.name, part="test")
        network = place.place(_build(recipe, images))
        state, _ = weights.read(run.weights("best"), device=place.kind)
        network.load_state_dict(state)
        outcome = evaluate(network, images, device=place)
        predictions.write(replace(outcome, split="test", recipe_digest=recipe.digest), run.predictions("test"))
        look = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "command": list(command)}
        run.write_json(
            run.summary_path, summary | {"test": metrics.summarise(outcome), "test_reads": [*looks, look]}
        )
    return run.record()


def rehearse(recipe: Recipe) -> dict[str, Any]:
    """Train, evaluate and save one batch in a temporary folder, and forget it: a dry run.

    Returns:
        The first loss and what the run would be: steps, images, device, precision.
    """
    share = _share(recipe)
    full = _assemble(recipe, share)
    one_batch = np.arange(recipe.batch_size)
    val = share.val and share.val.take(one_batch[: len(share.val)])
    small = replace(share, train=share.train.take(one_batch), val=val)
    short = recipe.model_copy(update={"epochs": 1})
    with tempfile.TemporaryDirectory() as folder, listen() as stop:
        run = store.create(short, root=Path(folder), name="rehearsal")
        trainer = _trainer(short, run, small, _assemble(short, small), stop=stop, tell=lambda _: None)
        trainer.begin()
        trainer.fit()
        first_loss = run.metrics.rows()[0]["train/loss"]
    return {
        "first_loss": first_loss,
        "train_images": len(share.train),
        "val_images": len(share.val) if share.val is not None else 0,
        "steps": full.total_steps,
        "device": str(full.device.kind),
        "precision": full.device.precision,
        "threads": full.device.threads,
    }


def key(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return the seed of one use of randomness, keyed by what it is for: never a shared stream."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{epoch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _share(recipe: Recipe) -> Share:
    """Load the train part, cut it to size, and hold out the validation images of protocol `dev`."""
    images = data.load(recipe.data.name, part="train")
    index = np.arange(len(images))
    if recipe.data.limit is not None:
        index = splits.limit(images.labels, num_images=recipe.data.limit, seed=recipe.seed)
    if recipe.protocol == "paper":
        train, val = np.arange(len(index)), np.arange(0)
    else:
        fraction = recipe.data.val_fraction
        train, val = splits.hold_out(images.labels[index], fraction=fraction, seed=recipe.seed)
    return Share(
        source_fingerprint=images.fingerprint,
        train_index=index[train],
        val_index=index[val],
        train=images.take(index[train]),
        val=images.take(index[val]) if len(val) else None,
    )


def _build(recipe: Recipe, images: ImageSet) -> nn.Module:
    """Build the model with weights drawn from the recipe's seed; the global stream is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(recipe.seed, "weights"))
        return models.build(
            recipe.model.name,
            num_classes=len(images.classes),
            in_channels=images.images.shape[1],
            **recipe.model.options,
        )


def _image_shape(images: ImageSet) -> tuple[int, int, int]:
    channels, height, width = images.images.shape[1:]
    return channels, height, width


def _device(recipe: Recipe, *, training_macs: Callable[[], float]) -> Device:
    return device.resolve(
        device=recipe.device,
        precision=recipe.precision,
        channels_last=recipe.channels_last,
        compile=recipe.compile,
        threads=recipe.threads,
        deterministic=recipe.deterministic,
        training_macs=training_macs,
    )


def _assemble(recipe: Recipe, share: Share) -> Parts:
    """Turn the recipe into the parts of a run."""
    network = _build(recipe, share.train)
    shape = _image_shape(share.train)

    def training_macs() -> float:
        # One forward pass and twice that backward.
        return 3.0 * cost.cost(network, shape).macs * len(share.train) * recipe.epochs

    place = _device(recipe, training_macs=training_macs)
    if place.note:
        _log.warning(place.note)
    network = place.place(network)
    batches = Batches(
        share.train,
        batch_size=recipe.batch_size,
        augment=Augment(**recipe.augment.model_dump()),
        mix=Mix(**recipe.mix.model_dump()),
        seed=recipe.seed,
        device=place.kind,
        resident=recipe.data.resident,
    )
    return Parts(
        model=network,
        objective=objectives.build(**recipe.objective.model_dump()),
        batches=batches,
        optimizer=optim.build(model=network, **recipe.optimizer.model_dump()),
        schedule=schedules.build(**recipe.schedule.model_dump()),
        average=average.build(network, decay=recipe.ema_decay) if recipe.ema_decay else None,
        device=place,
        total_steps=recipe.epochs * batches.steps_per_epoch,
        accumulate=recipe.accumulate,
        clip_norm=recipe.clip_norm,
    )


def _trainer(recipe: Recipe, run: Run, share: Share, parts: Parts, *, stop: StopRequest, tell: Tell) -> Trainer:
    network = parts.model
    plan = Plan(
        epochs=recipe.epochs,
        eval_every=recipe.eval_every,
        checkpoint_steps=recipe.checkpoint_steps,
        digest=recipe.digest,
        card=_card(recipe, share.train),
        random_key=lambda epoch: key(recipe.seed, "model", epoch),
    )
    return Trainer(
        run=run,
        plan=plan,
        parts=replace(parts, model=parts.device.compile(network)),
        network=network,
        val=share.val,
        stop=stop,
        tell=tell,
    )


def _card(recipe: Recipe, images: ImageSet) -> dict[str, Any]:
    """Return what the weights need beside them to be used: everything but the weights."""
    return {
        "model": recipe.model.name,
        "options": recipe.model.options,
        "num_classes": len(images.classes),
        "image_shape": list(images.images.shape[1:]),
        "classes": list(images.classes),
        "mean": list(images.mean),
        "std": list(images.std),
        "data": recipe.data.name,
        "digest": recipe.digest,
    }


def _finish(recipe: Recipe, run: Run, share: Share, trainer: Trainer) -> None:
    """Choose the weights, store their predictions on validation, and write the summary, last."""
    weights.write(trainer.scored, run.weights("last"), card=trainer.plan.card)
    if trainer.val is None:
        weights.write(trainer.scored, run.weights("best"), card=trainer.plan.card)
    state, _ = weights.read(run.weights("best"), device=trainer.parts.device.kind)
    trainer.scored.load_state_dict(state)
    shape = _image_shape(share.train)
    price = cost.cost(trainer.network, shape)
    summary: dict[str, Any] = {
        "model": recipe.model.name,
        "run": run.folder.name,
        "digest": recipe.digest,
        "fingerprint": cost.fingerprint(trainer.network, shape),
        "protocol": recipe.protocol,
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        "steps": trainer.position.step,
        "train_images": len(share.train),
        "selected_on": "last epoch" if trainer.val is None else f"val/top1, epoch {trainer.best_epoch}",
        "params_m": price.params / 1e6,
        "macs_g": price.macs / 1e9,
        "training_seconds": round(trainer.seconds, 1),
    }
    if trainer.val is not None:
        outcome = evaluate(trainer.scored, trainer.val, device=trainer.parts.device)
        predictions.write(replace(outcome, split="val", recipe_digest=recipe.digest), run.predictions("val"))
        summary["val"] = metrics.summarise(outcome)
    run.write_json(run.summary_path, summary)


def _write_split(run: Run, share: Share) -> None:
    """Save which images trained and which were held out, and of what data."""
    content = {
        "fingerprint": share.source_fingerprint,
        "train": share.train_index.tolist(),
        "val": share.val_index.tolist(),
    }
    before = run.read_json(run.split_path)
    if before and before != content:
        raise ResumeRefused(
            str(run.split_path),
            found="another split, or other data",
            expected="the images that the run began with",
            hint="The data set has changed since. Train anew under another name.",
        )
    write_atomically(run.split_path, (json.dumps(content) + "\n").encode())


def _check_recipe(recipe: Recipe, found: Checkpoint, run: Run) -> None:
    """Refuse a checkpoint that another recipe made; more epochs of the same recipe are the same."""
    if recipe.model_copy(update={"epochs": found.epochs}).digest != found.digest:
        raise ResumeRefused(
            str(run.checkpoints / f"step-{found.step}"),
            found=f"a checkpoint of recipe {found.digest[:8]}",
            expected=f"one of recipe {recipe.digest[:8]}, as recipe.yaml has it",
            hint="recipe.yaml was changed, or the checkpoint is of another run.",
        )


def _extend(run: Run, recipe: Recipe, *, epochs: int, done: int) -> Recipe:
    """Give the run more epochs; its schedule is that of the longer run from here on."""
    if epochs <= done:
        found = f"{epochs}, and {done} are done"
        raise RecipeError("epochs", found=found, expected=f"more than {done} to extend the run")
    longer = overlay(recipe, {"epochs": epochs}, where="command line")
    write_atomically(run.recipe_path, longer.to_yaml().encode())
    return longer


def _start_over(run: Run) -> None:
    """Begin again a run that was stopped before its first checkpoint; with rows it is not such a run."""
    if run.metrics.rows():
        raise ResumeRefused(
            str(run.checkpoints),
            found="no checkpoint, although epochs are logged",
            expected="the newest checkpoint",
            hint="The checkpoints were removed. Train anew under another name.",
        )
    _log.warning("%s was stopped before its first checkpoint: it starts from step 0.", run.folder)


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Send the package's log to the run's text log, as well as wherever it goes already."""
    package = logging.getLogger("bakeoff")
    with storage_errors(path):
        handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    except BakeoffError as error:
        package.error("%s", error)
        raise
    finally:
        package.setLevel(level)
        package.removeHandler(handler)
        handler.close()
