"""Short runs for tests: the tiny network on digits, 24 steps in 3 epochs, less than a second each."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bakeoff.recipe import Recipe, resolve
from bakeoff.results.store import Run
from bakeoff.training import assembly, trainer
from bakeoff.training import run as training
from bakeoff.training.loop import Parts, Position
from bakeoff.training.trainer import Tick
from tests.training import kills, tiny


class Killed(BaseException):
    """What stands in for a kill inside this process: nothing of ours catches it."""


def recipe(*overrides: str, model: str = tiny.NAME) -> Recipe:
    base = [*kills.BASE, "precision=float32", "compile=false"]
    return resolve(model, overrides=[*base, *overrides], plugins=True)


def start(folder: Path, *overrides: str, model: str = tiny.NAME) -> Run:
    training.start(recipe(*overrides, model=model), folder)
    return Run(folder)


def resume(run: Run, *, epochs: int | None = None) -> Run:
    training.resume(run, epochs=epochs, plugin=run.recipe().model.name)
    return run


def interrupt(folder: Path, *overrides: str, at: int) -> Run:
    """Start a run that ends abruptly after `at` optimizer steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_TICK_S", -1.0)
        with pytest.raises(Killed):
            training.start(recipe(*overrides), folder, tell=stop_at(at))
    return Run(folder)


def stop_at(step: int) -> Callable[[Tick], None]:
    def tell(tick: Tick) -> None:
        if tick.step == step:
            raise Killed

    return tell


def parts(recipe: Recipe) -> tuple[Parts, Position]:
    """Assemble what the loop takes, at its first step."""
    assembled = assembly.assemble(recipe, assembly.load(recipe), plugin=recipe.model.name, root=Path())
    torch.manual_seed(0)
    return assembled, Position.at_start(assembled)
