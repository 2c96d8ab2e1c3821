"""Small studies with real runs: the tiny network on digits, about a second each."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from bakeoff.launch.jobs import claim
from bakeoff.recipe import Recipe, overlay, parse, resolve
from bakeoff.results import lock
from bakeoff.results.store import Run
from bakeoff.study import Arm, Study, Trial
from bakeoff.study.schema import StudyFile
from tests.training import kills, tiny

TINY = "tests.launch.grids:network"
QUICK = ("data=digits", "data.limit=200", "epochs=2", "batch_size=32", "threads=1", "device=cpu", "precision=float32")
ROOT = Path(__file__).parents[2]


def network(*, num_classes: int, in_channels: int, width: int = 8, fate: str = "") -> nn.Module:
    """Build the tiny network, or meet one's fate."""
    if fate == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fate == "strange":
        raise RuntimeError("nobody expected this")
    if fate == "exit":
        os._exit(9)
    return tiny.network(num_classes=num_classes, in_channels=in_channels, width=width)


def recipe(*settings: str, model: str = TINY) -> Recipe:
    return resolve(model, overrides=[*QUICK, *settings], plugins=True)


def study(
    arms: Mapping[str, Recipe], *, tried: Mapping[str, Mapping[str, Sequence[str]]] | None = None, seeds: int = 1
) -> Study:
    """Return a study made by hand: its network is a plug-in, which no study's file may name.

    Args:
        arms: name -> its recipe.
        tried: name -> settings of each of its trials, by their names.
        seeds: how many.
    """
    made = [Arm(name=name, trials=(Trial(name="", recipe=of),)) for name, of in arms.items()]
    for name, trials in (tried or {}).items():
        each = (Trial(name=trial, recipe=recipe(*settings)) for trial, settings in trials.items())
        made.append(Arm(name=name, trials=tuple(each)))
    content: dict[str, Any] = {"question": "?", "base": {"model": "resnet_20"}, "arms": {"unused": {}}}
    return Study(
        name="tiny",
        file=StudyFile.model_validate(content),
        typed=(),
        arms=tuple(made),
        seeds=tuple(range(seeds)),
        scaled={},
        warnings=(),
    )


def many(runs: int, *settings: str) -> Study:
    """Return a study of so many runs, in arms of two seeds."""
    base = recipe(*settings)
    arms = {f"arm {i}": overlay(base, parse(f"lr={0.01 + i / 1000}"), where="test") for i in range((runs + 1) // 2)}
    return study(arms, seeds=min(runs, 2))


def at_work(root: Path) -> Iterator[tuple[int, Path]]:
    """Yield process and folder of every run that somebody works on."""
    for path in root.glob("*/.*.claim"):
        folder = path.with_name(path.name.removeprefix(".").removesuffix(".claim"))
        assert claim(folder) == path
        if lock.is_held(path):
            text = path.read_text().strip()
            if text:
                yield int(text), folder


def environment() -> dict[str, str]:
    """Return what a driver in a process of its own needs to find the tests, and these their runs' network."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def outcome_of(run: Run) -> dict[str, Any]:
    """Return all of a run that must be equal, its answers on test included; its looks at test are counted elsewhere."""
    outcome = kills.outcome_of(run)
    outcome["summary"].pop("test_reads", None)
    path = run.predictions("test")
    return outcome | {"test": path.read_bytes() if path.exists() else None}
