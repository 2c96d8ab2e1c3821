"""What a driver and its workers say to each other: one JSON object a line."""

import json
import select
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff.errors import (
    BakeoffError,
    DataError,
    Diverged,
    RecipeError,
    ResumeRefused,
    RunLocked,
    StorageError,
    VerificationFailed,
)
from bakeoff.recipe import Recipe

ERROR_FIELDS = ("where", "found", "expected", "hint")
_KINDS = (RecipeError, DataError, Diverged, StorageError, RunLocked, ResumeRefused, VerificationFailed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One run to be taken to its end.

    Args:
        recipe: what to train, if the folder is not there yet.
        folder: of the run.
        test: whether to read test at the end.
        command: as a person typed it, for the record.
        plugin: the `package.module:function` that may be imported as the run's model.
    """

    recipe: Recipe
    folder: Path
    test: bool
    command: tuple[str, ...] = ()
    plugin: str | None = None

    @property
    def run(self) -> str:
        """What messages about it call it: short, and no other run of a study is called so."""
        return self.folder.name

    def to_line(self) -> bytes:
        """Return the job as a line."""
        content = {
            "recipe": self.recipe.model_dump(mode="json"),
            "folder": str(self.folder),
            "test": self.test,
            "command": self.command,
            "plugin": self.plugin,
        }
        return line(content)

    @classmethod
    def from_line(cls, text: bytes) -> "Job":
        """Read what `to_line` wrote."""
        content = json.loads(text)
        return cls(
            recipe=Recipe.model_validate(content["recipe"]),
            folder=Path(content["folder"]),
            test=content["test"],
            command=tuple(content["command"]),
            plugin=content["plugin"],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """How far a job is: the fields of a trainer's tick."""

    job: Job
    tick: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A job's process is gone.

    Args:
        code: its exit code; the negative number of the signal that killed it.
        error: what it said of an error.
        last_words: the end of what it wrote to its log.
    """

    job: Job
    code: int
    error: BakeoffError | None
    last_words: str


def line(content: Mapping[str, Any]) -> bytes:
    """Return one message."""
    return (json.dumps(content) + "\n").encode()


def error_line(run: str, error: BakeoffError) -> bytes:
    """Return the message of which `restored_error` makes the error again; short enough to be written in one piece."""
    text = b""
    for longest in (1000, 300, 75):  # characters a field, each of which can become twelve
        fields = {name: getattr(error, name)[:longest] for name in ERROR_FIELDS}
        text = line({"run": run, "error": fields | {"code": error.exit_code}})
        if len(text) <= select.PIPE_BUF:
            break
    return text


def restored_error(fields: Mapping[str, Any]) -> BakeoffError:
    """Return the error that a worker told of."""
    kind = next((kind for kind in _KINDS if kind.exit_code == fields["code"]), BakeoffError)
    return kind(fields["where"], found=fields["found"], expected=fields["expected"], hint=fields["hint"])


def claim(folder: Path) -> Path:
    """Return the lock that a worker holds from before the run's folder is made until its test is read.

    The run's own lock is held by each of these steps alone: between them, two studies could do the same work twice.
    """
    return folder.with_name(f".{folder.name}.claim")
