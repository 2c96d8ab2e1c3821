"""From a recipe to a record: start a run, resume it, read test or other pictures with it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bakeoff import data
from bakeoff.data import near_duplicates, own
from bakeoff.errors import BakeoffError, DataError, RecipeError, ResumeRefused
from bakeoff.models import cost, stages
from bakeoff.recipe import Data, Recipe, overlay
from bakeoff.record import Record
from bakeoff.results import lock, metrics, predictions, store
from bakeoff.results.files import storage_errors, write_atomically
from bakeoff.results.store import Run
from bakeoff.training import assembly, autotune, checkpoint, graph, inputs, provenance, trackers, trained, weights
from bakeoff.training.assembly import Share
from bakeoff.training.checkpoint import Checkpoint
from bakeoff.training.device import Way
from bakeoff.training.evaluate import evaluate
from bakeoff.training.loop import Parts
from bakeoff.training.ranks import Ranks, join, together
from bakeoff.training.signals import StopRequest, listen
from bakeoff.training.trainer import Plan, Tick, Trainer

_log = logging.getLogger(__name__)

Tell = Callable[[Tick], None]


@together
def start(
    recipe: Recipe, folder: Path, *, command: Sequence[str] = (), tune: bool = True, tell: Tell = lambda _: None
) -> Record:
    """Train a new run to its end, in a folder that does not exist yet.

    The folder is made when data, model and settings have proved to fit, so a mistake leaves none behind.

    Args:
        recipe: resolved.
        folder: of the run.
        command: as typed, for the record.
        tune: whether a long run may measure how it trains fastest here. False where others train beside it.
        tell: receives progress.

    Raises:
        BakeoffError: any of them; what was saved until then stays.
    """
    assembly.check(recipe, plugin=recipe.model.name)
    share = assembly.load(recipe)
    parts = assembly.assemble(recipe, share, plugin=recipe.model.name, root=root_of(folder), tune=tune)
    ranks = parts.device.ranks
    run = ranks.first(lambda: store.create(recipe, folder))
    with _held(run, ranks):
        about = provenance.collect(parts.device, command=command)
        ranks.first(lambda: run.write_json(run.environment_path, about))
        ranks.first(lambda: inputs.write(run, share, parts))
        _work(recipe, run, share, parts, found=None, tell=tell)
    return run.record()


@together
def resume(
    run: Run,
    *,
    epochs: int | None = None,
    plugin: str | None = None,
    command: Sequence[str] = (),
    any_world_size: bool = False,
    tell: Tell = lambda _: None,
) -> Record:
    """Go on exactly where a run stopped, or to more epochs than it had.

    Args:
        run: an unfinished run, or a finished one to extend.
        epochs: the new total; None keeps the recipe's.
        plugin: the `package.module:function` that may be imported as the run's model.
        command: as typed, for the record.
        any_world_size: go on with another number of ranks than the run began with: the same images in the same batches,
            but sums that are rounded otherwise, and other dropout.
        tell: receives progress.

    Raises:
        RunLocked: another process holds the run.
        ResumeRefused: going on would not give the numbers of an undisturbed run.
        RecipeError: fewer epochs than are done.
    """
    ranks = join()
    with _held(run, ranks):
        _go_on(run, ranks, epochs=epochs, plugin=plugin, command=command, any_world_size=any_world_size, tell=tell)
    return run.record()


def _go_on(
    run: Run,
    ranks: Ranks,
    *,
    epochs: int | None,
    plugin: str | None,
    command: Sequence[str],
    any_world_size: bool,
    tell: Tell,
) -> None:
    """Check all that could refuse the resumption before anything of the run is changed, then train."""
    recipe = run.recipe()
    found = ranks.first(lambda: checkpoint.newest(run.checkpoints, device=torch.device("cpu")))
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
        recipe = _extend(recipe, epochs=epochs, done=int(found.state["epoch"]) if found else 0)
    elif run.read_json(run.summary_path).get("epochs") == recipe.epochs:
        _log.info("Run %s is finished; epochs=N with N > %d would extend it.", run.folder, recipe.epochs)
        return
    share = assembly.load(recipe)
    decided = autotune.recorded(run.read_json(run.environment_path), num_ranks=ranks.size)
    parts = assembly.assemble(recipe, share, plugin=plugin, root=root_of(run.folder), decided=decided)
    if found is None:
        _check_unstarted(run)
    ranks.first(lambda: inputs.write(run, share, parts))
    about = provenance.collect(parts.device, command=command)
    begun = found is not None
    ranks.first(lambda: _add_to_environment(run, about, begun=begun, any_world_size=any_world_size))
    ranks.first(lambda: write_atomically(run.recipe_path, recipe.to_yaml().encode()))
    _work(recipe, run, share, parts, found=found, tell=tell)


@together
def read_test(run: Run, *, plugin: str | None = None, command: Sequence[str] = ()) -> Record:
    """Read the test split with the run's chosen weights, store its logits, and record the look.

    Raises:
        RecipeError: the run is not finished.
    """
    ranks = join()
    with _held(run, ranks):
        found = trained.load(run, plugin=plugin)
        recipe, summary = found.recipe, ranks.first(lambda: run.read_json(run.summary_path))
        looks = summary.get("test_reads", [])
        if looks:
            _log.warning("This is look %d at the test split of this run; it is recorded.", len(looks) + 1)
        if not recipe.data.is_published:
            inputs.hold_to(run, assembly.load(recipe))
        # Written down before the look: one that is killed halfway is a look as well.
        look = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "command": list(command)}
        summary["test_reads"] = [*looks, look]
        ranks.first(lambda: run.write_json(run.summary_path, summary))
        images = data.load(part="test", **recipe.data.source)
        if images.classes != found.classes:
            others = f"other classes in the test part of {recipe.data.name}"
            raise DataError(str(run.folder), found=others, expected="the classes that the run was trained on")
        outcome = found.evaluate(images)
        answers = replace(outcome, split="test", recipe_digest=recipe.digest)
        ranks.first(lambda: predictions.write(answers, run.predictions("test")))
        scores = metrics.report(outcome)
        if (rows := near_duplicates.rows(recipe.data.name, images.labels)) is not None:
            scores["clean"] = metrics.summarise(outcome.of(rows))
        ranks.first(lambda: run.write_json(run.summary_path, summary | {"test": scores}))
    return run.record()


@together
def read_other(run: Run, section: Data, *, plugin: str | None = None) -> dict[str, Any]:
    """Evaluate a run's chosen weights on other pictures of its classes, and record that beside its summary.

    Classes are matched by name: the other set may lack some, and number them otherwise. No split of the run's own data
    is read, and no number of the run changes.

    Args:
        run: finished.
        section: what to look at: the test part, or of own pictures without one, all.
        plugin: the `package.module:function` that may be imported as the run's network.

    Returns:
        What `metrics.report` gives, and where it comes from.

    Raises:
        RecipeError: the run is not finished, or it is its own data.
        DataError: classes that the run was not trained on, or pictures of another size.
    """
    ranks = join()
    with _held(run, ranks):
        found = trained.load(run, plugin=plugin)
        source = section.source
        if own.identity(section.name) == own.identity(found.recipe.data.name):
            hint = f"Its own test split is read by: bakeoff eval {run.folder}"
            raise RecipeError("data", found=f"{source['name']}, its own", expected="other pictures", hint=hint)
        images, part = data.load_unseen(**source | ({} if section.is_published else found.shown))
        outcome = found.evaluate(found.matched(images))
        path = run.folder / "predictions" / f"other-{images.fingerprint[:12]}.parquet"
        answers = replace(outcome, split="test", recipe_digest=found.recipe.digest)
        ranks.first(lambda: predictions.write(answers, path))
        told = {
            "model": found.recipe.model.name,
            "data": section.name,
            "part": part,
            "trained_on": found.recipe.data.name,
            "matched": f"{len(images.classes)} of {len(found.classes)}",
            **metrics.report(outcome),
            "predictions": str(path),
        }
        ranks.first(lambda: _add_other(run, told))
    return told


def _add_other(run: Run, told: dict[str, Any]) -> None:
    summary = run.read_json(run.summary_path)
    run.write_json(run.summary_path, summary | {"others": [*summary.get("others", []), told]})


def measure_teacher(recipe: Recipe, *, root: Path) -> None:
    """Find, compare and measure the recipe's teacher as a run would, before there is one.

    Raises:
        RecipeError, DataError: it is not there, or of no use.
    """
    assembly.assemble(recipe, assembly.load(recipe), plugin=None, root=root, decided=Way(compiled=False))


@contextmanager
def _held(run: Run, ranks: Ranks) -> Iterator[None]:
    """Hold a run, and write its log: the first rank for all."""
    with ExitStack() as held:
        ranks.first(lambda: held.enter_context(lock.hold(run.lock_path)))
        if ranks.is_first:
            held.enter_context(_logging_to(run.log_path))
        yield


def root_of(folder: Path) -> Path:
    """Return the folder of all runs, of which one is at `root/<model>/<name>`."""
    return folder.absolute().parent.parent


def _work(recipe: Recipe, run: Run, share: Share, parts: Parts, *, found: Checkpoint | None, tell: Tell) -> None:
    """Train from a checkpoint, or from the first step, to the end."""
    with listen() as stop:
        trainer = new_trainer(recipe, run, share, parts, stop=stop, tell=tell)
        if found is None:
            trainer.begin()
        else:
            _log.info("Resuming %s at step %d of %d.", run.folder, found.step, parts.total_steps)
            trainer.restore(found)
        wanted = trackers.wanted() if parts.device.ranks.is_first else ()
        with closing(trackers.open(wanted, run=run, recipe=recipe, device=parts.device)) as tracker:
            trainer.track = tracker.log
            trainer.fit()
    _finish(recipe, run, share, trainer)


def new_trainer(recipe: Recipe, run: Run, share: Share, parts: Parts, *, stop: StopRequest, tell: Tell) -> Trainer:
    """Return the trainer of a run, at its first step."""
    network = parts.model
    seen = stages.Tapped(network, stages.names(network)) if parts.teacher and parts.teacher.tapped else network
    plan = Plan(
        epochs=recipe.epochs,
        eval_every=recipe.eval_every,
        checkpoint_steps=recipe.checkpoint_steps,
        digest=recipe.digest,
        card=assembly.card(recipe, share.train),
        random_key=lambda epoch, rank: assembly.key(recipe.seed, f"model of rank {rank}" if rank else "model", epoch),
    )
    return Trainer(
        run=run,
        plan=plan,
        parts=graph.replaying(replace(parts, model=parts.device.compile(seen))),
        network=network,
        val=share.val,
        stop=stop,
        tell=tell,
    )


def _finish(recipe: Recipe, run: Run, share: Share, trainer: Trainer) -> None:
    """Choose the weights, store their predictions on validation, and write the summary, last."""
    ranks, last, best = trainer.ranks, run.weights("last"), run.weights("best")
    ranks.first(lambda: weights.write(trainer.scored, last, card=trainer.plan.card))
    if trainer.val is None:
        ranks.first(lambda: weights.write(trainer.scored, best, card=trainer.plan.card))
    state, _ = ranks.first(lambda: weights.read(best, device=torch.device("cpu")))
    trainer.scored.load_state_dict(state)
    price = assembly.followed(cost.cost, trainer.network, share.train.shape)
    summary: dict[str, Any] = {
        "model": recipe.model.name,
        "run": run.folder.name,
        "digest": recipe.digest,
        "fingerprint": assembly.followed(cost.fingerprint, trainer.network, share.train.shape),
        "protocol": recipe.protocol,
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        "steps": trainer.position.step,
        "train_images": len(share.train),
        "data_fingerprint": share.source_fingerprint,
        "selected_on": "last epoch" if trainer.val is None else f"val/top1, epoch {trainer.best_epoch}",
        "params_m": price.params / 1e6 if price else None,
        "macs_g": price.macs / 1e9 if price else None,
        "training_seconds": round(trainer.seconds, 1),
    }
    agreement = None
    if trainer.val is not None:
        outcome = evaluate(trainer.scored, trainer.val, device=trainer.parts.device)
        answers = replace(outcome, split="val", recipe_digest=recipe.digest)
        ranks.first(lambda: predictions.write(answers, run.predictions("val")))
        summary["val"] = metrics.report(outcome)
        if trainer.parts.teacher is not None:
            agreement = trainer.parts.teacher.agreement(outcome.logits)
    if trainer.parts.teacher is not None:
        summary["teacher"] = {**trainer.parts.teacher.figures, "agreement": agreement}
    if looks := run.read_json(run.summary_path).get("test_reads"):
        summary["test_reads"] = looks  # of the shorter run that this one extends: a look stays a look
    ranks.first(lambda: run.write_json(run.summary_path, summary))


def _add_to_environment(run: Run, now: dict[str, Any], *, begun: bool, any_world_size: bool) -> None:
    """Check that this process gives the numbers of the one that began the run, and note the resumption."""
    before = run.read_json(run.environment_path)
    if begun or before:
        provenance.check_same(before, now, where=run.folder, any_world_size=any_world_size)
        again = {key: now[key] for key in ("command", "started", "world_size")}
        now = {**before, "resumed": [*before.get("resumed", []), again]}
    run.write_json(run.environment_path, now)


def _check_recipe(recipe: Recipe, found: Checkpoint, run: Run) -> None:
    """Refuse a checkpoint that another recipe made; more epochs of the same recipe are the same."""
    then = recipe
    if found.epochs in recipe.extended_from:
        earlier = recipe.extended_from[: recipe.extended_from.index(found.epochs)]
        then = recipe.model_copy(update={"epochs": found.epochs, "extended_from": earlier})
    if then.digest != found.digest:
        raise ResumeRefused(
            str(run.checkpoints / f"step-{found.step}"),
            found=f"a checkpoint of recipe {found.digest[:8]}",
            expected=f"one of recipe {recipe.digest[:8]}, as recipe.yaml has it",
            hint="recipe.yaml was changed, or the checkpoint is of another run.",
        )


def _extend(recipe: Recipe, *, epochs: int, done: int) -> Recipe:
    """Return the recipe with more epochs; its schedule is that of the longer run from here on."""
    if epochs <= done:
        found = f"{epochs}, and {done} are done"
        raise RecipeError("epochs", found=found, expected=f"more than {done} to extend the run")
    lengths = [*recipe.extended_from, recipe.epochs]
    return overlay(recipe, {"epochs": epochs, "extended_from": lengths}, where="command line")


def _check_unstarted(run: Run) -> None:
    """Let a run without any checkpoint begin again only if it was stopped before its first one."""
    if run.metrics.rows():
        raise ResumeRefused(
            str(run.checkpoints),
            found="no checkpoint, although epochs are logged",
            expected="the newest checkpoint",
            hint="The checkpoints were removed. Train anew under another name.",
        )
    _log.warning("%s was stopped before its first checkpoint: it starts from step 0.", run.folder)


class _TextLog(logging.FileHandler):
    """A log that a full disk cannot turn into the run's error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Drop the line."""


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Send the package's log to the run's text log, as well as wherever it goes already."""
    package = logging.getLogger("bakeoff")
    with storage_errors(path):
        handler = _TextLog(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    except BakeoffError as error:
        # To the file alone: whoever asked for the run prints it.
        handler.handle(package.makeRecord(package.name, logging.ERROR, "", 0, str(error), (), None))
        raise
    finally:
        package.setLevel(level)
        package.removeHandler(handler)
        with suppress(OSError):  # on a full disk the last lines are lost, but not the error that says so
            handler.close()
