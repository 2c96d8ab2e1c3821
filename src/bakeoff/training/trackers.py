"""Trackers: the rows of a run's metric log, sent to TensorBoard and the like as they are written.

Off unless asked for, never fatal, and no part of a recipe: they change no number. Each tracker works in a thread of
its own, so training waits neither for its network nor for its disk; what it raises is one warning, and its end.

A tracker that is opened is told all rows that the run has, then those to come. So a resumed run has no row twice,
whatever a kill cut off: TensorBoard's files are written anew, and elsewhere the resumed run is another of its name.
"""

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from bakeoff.recipe import Recipe
from bakeoff.results.store import Run
from bakeoff.training.device import Device, Tracking

VARIABLE = "BAKEOFF_TRACKERS"
NAMES = ("tensorboard", "wandb", "mlflow", "swanlab")
PROJECT = "bakeoff"  # what runs are filed under, where a tracker keeps those of many programs
CLOSE_S = 5.0  # for all trackers together: a run that is stopped has to be gone within 10 s

_log = logging.getLogger(__name__)

Row = Mapping[str, Any]


class Tracker:
    """All trackers of one run."""

    def __init__(self, channels: Sequence["_Channel"]) -> None:
        self._channels = channels

    def log(self, row: Row) -> None:
        """Hand a row of the metric log on."""
        for channel in self._channels:
            channel.rows.put(row)

    def close(self) -> None:
        """Let every tracker finish; one that hangs is left behind."""
        for channel in self._channels:
            channel.rows.put(None)
        deadline = time.monotonic() + CLOSE_S
        for channel in self._channels:
            channel.join(max(0.0, deadline - time.monotonic()))
            if channel.is_alive():
                _log.warning("Tracker %s did not finish within %g s: it may lack rows.", channel.name, CLOSE_S)


class _Channel(threading.Thread):
    """One tracker at work: it begins, takes rows until there is None, and finishes."""

    def __init__(self, name: str, tracking: Tracking, *, fresh: Path | None) -> None:
        super().__init__(name=name, daemon=True)  # the process ends without it
        self.rows: SimpleQueue[Row | None] = SimpleQueue()
        self._tracking, self._fresh = tracking, fresh

    def run(self) -> None:
        """Work until there are no more rows."""
        try:
            if self._fresh is not None:
                shutil.rmtree(self._fresh, ignore_errors=True)
            self._tracking.begin()
            while (row := self.rows.get()) is not None:
                self._tracking.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])
            self._tracking.finish()
        except (Exception, SystemExit) as error:  # whatever somebody else's tracker raises, the run goes on
            _log.warning("Tracker %s is off from here on (%s: %s).", self.name, type(error).__name__, error)


def wanted() -> tuple[str, ...]:
    """Return the names that the environment asks for: BAKEOFF_TRACKERS=tensorboard,wandb."""
    names = (name.strip() for name in os.environ.get(VARIABLE, "").split(","))
    return tuple(dict.fromkeys(filter(None, names)))


def open(names: Sequence[str], *, run: Run, recipe: Recipe, device: Device) -> Tracker:
    """Start the trackers of these names for a run, with the rows that it has. What cannot be started is a warning.

    Args:
        names: of `NAMES`.
        run: TensorBoard writes to `trackers/tensorboard` in its folder.
        recipe: told to the other trackers as the run's settings.
        device: of the run.
    """
    channels = []
    for name in names:
        if name not in NAMES:
            _log.warning("There is no tracker %s; there are %s.", name, ", ".join(NAMES))
            continue
        try:
            tracking = _tracking(name, run=run, recipe=recipe, device=device)
        except Exception as error:  # as in a channel
            _log.warning("Tracker %s is off (%s).", name, error)
            continue
        channels.append(_Channel(name, tracking, fresh=_folder(run) / name if name == "tensorboard" else None))
    tracker = Tracker(channels)
    for row in run.metrics.rows() if channels else ():
        tracker.log(row)
    for channel in channels:
        channel.start()
    return tracker


def _folder(run: Run) -> Path:
    return run.folder / "trackers"


def _tracking(name: str, *, run: Run, recipe: Recipe, device: Device) -> Tracking:
    title, folder = f"{recipe.model.name}/{run.folder.name}", str(_folder(run))
    if name == "tensorboard":  # the project is the folder's name; the recipe lies beside it
        return device.tracking(name, folder=_folder(run), project=name)
    arguments = {
        "wandb": {"name": title, "dir": folder},
        "mlflow": {"run_name": title},
        "swanlab": {"experiment_name": title, "logdir": folder},
    }
    tracking = device.tracking(
        name, folder=_folder(run), project=PROJECT, settings=_settings(recipe), arguments=arguments[name]
    )
    _folder(run).mkdir(exist_ok=True)
    return tracking


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe flat, with dotted keys; what is no number, text or truth value as JSON."""
    flat: dict[str, Any] = {"digest": recipe.digest}
    for key, value in recipe.model_dump(mode="json").items():
        section = {f"{key}.{leaf}": inner for leaf, inner in value.items()} if isinstance(value, dict) else {key: value}
        flat |= {k: v if isinstance(v, int | float | str) else json.dumps(v) for k, v in section.items()}
    return flat
