"""The record: what a run leaves for tables, reports and studies. Read without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bakeoff.recipe import Recipe

Status = Literal["finished", "running", "interrupted", "diverged"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One run as its folder tells it.

    Args:
        folder: the run's folder.
        recipe: resolved, as trained.
        status: derived from the folder, never stored in it.
        rows: the metric log, a row an evaluated epoch.
        summary: `evaluation_summary.json`; empty while the run is unfinished.
        environment: versions, commit, hardware, threads, command.
    """

    folder: Path
    recipe: Recipe
    status: Status
    rows: tuple[Mapping[str, Any], ...]
    summary: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name
