"""What a driver and its workers say to each other: one JSON object a line."""

import json
import select
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

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


def error_fields(error: BakeoffError) -> dict[str, str]:
    """Return what an error says, by names."""
    return {name: getattr(error, name) for name in ERROR_FIELDS}


def error_line(run: str, error: BakeoffError) -> bytes:
    """Return the message of which `restored_error` makes the error again; short enough to be written in one piece."""
    text = b""
    for longest in (1000, 300, 75):  # characters a field, each of which can become twelve
        fields = {name: said[:longest] for name, said in error_fields(error).items()}
        text = line({"run": run, "error": fields, "code": error.exit_code})
        if len(text) <= select.PIPE_BUF:
            break
    return text


def restored_error(fields: Mapping[str, str], *, code: int) -> BakeoffError:
    """Return the error that a worker told of."""
    kind = next((kind for kind in _KINDS if kind.exit_code == code), BakeoffError)
    return kind(fields["where"], found=fields["found"], expected=fields["expected"], hint=fields["hint"])


class Executor(Protocol):
    """Whatever takes jobs to their ends: workers of this machine, or nodes elsewhere. Left, it has stopped all."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def side_by_side(self) -> int:
        """How many jobs it takes at once, as far as is known now."""

    @property
    def free(self) -> int:
        """How many more can be started."""

    def start(self, job: Job) -> None:
        """Start a job; only where there is room for one."""

    def wait(self, timeout_s: float) -> list[Told | Ended]:
        """Return what has been heard of jobs, after `timeout_s` or so."""

    def stop(self) -> int:
        """Ask all runs to save and stop; kill those that do not in time, and return how many."""


def claim(folder: Path) -> Path:
    """Return the lock that a worker holds from before the run's folder is made until its test is read.

    The run's own lock is held by each of these steps alone: between them, two studies could do the same work twice.
    """
    return folder.with_name(f".{folder.name}.claim")
