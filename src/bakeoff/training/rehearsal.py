"""A dry run: one batch of everything, in a folder that is forgotten."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bakeoff.recipe import Recipe
from bakeoff.results import store
from bakeoff.training import assembly
from bakeoff.training.ranks import together
from bakeoff.training.run import new_trainer
from bakeoff.training.signals import listen
from bakeoff.training.teacher import Teacher


@together
def rehearse(recipe: Recipe, *, root: Path) -> dict[str, Any]:
    """Train, evaluate and save one batch in a temporary folder, and forget it: a dry run.

    Args:
        recipe: resolved.
        root: the folder of all runs, where a teacher is looked for.

    Returns:
        The first loss and what the run would be: steps, images, device, precision.
    """
    assembly.check(recipe, plugin=recipe.model.name)
    share = assembly.load(recipe)
    full = assembly.assemble(recipe, share, plugin=recipe.model.name, root=root)
    one_batch = np.arange(recipe.batch_size)
    val = share.val and share.val.take(one_batch[: len(share.val)])
    small = replace(share, train=share.train.take(one_batch), val=val)
    short = recipe.model_copy(update={"epochs": 1})
    with tempfile.TemporaryDirectory() as folder, listen() as stop:
        run = store.create(short, Path(folder) / "rehearsal")
        parts = assembly.assemble(short, small, plugin=short.model.name, root=root, teacher=_blind(full.teacher))
        trainer = new_trainer(short, run, small, parts, stop=stop, tell=lambda _: None)
        trainer.begin()
        trainer.fit()
        first_loss = trainer.mean_loss
    return {
        "first_loss": first_loss,
        "train_images": len(share.train),
        "val_images": len(share.val) if share.val is not None else 0,
        "steps": full.total_steps,
        "device": str(full.device.kind),
        "precision": full.device.precision,
        "threads": full.device.threads,
        **({"teacher": full.teacher.figures} if full.teacher else {}),
    }


def _blind(teacher: Teacher | None) -> Teacher | None:
    """Return a teacher without its answers, which are of other images than a rehearsal's."""
    return teacher and replace(teacher, answers=None)
