"""The exchange: where a driver and its nodes leave files for each other, a shared folder or any store of fsspec.

    <store>/<model>/<run>/<attempt>/order.json     stands as long as the attempt is wanted
                                    stop           asks it to save and end
                                    tick.json      how far it is
                                    ended.json     how it ended, written last
                                    run/...        the run's folder, as last brought here
    <store>/<model>/<run>/finished/...             a teacher, for those that learn from it

Every attempt has a place of its own, where nobody else writes: an orphan, on a node that was given up but lives on, can
never write beside its successor. Files appear whole, a checkpoint's manifest after what it vouches for: what lies here
is at any moment a run that can be gone on with.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec

from bakeoff.errors import RecipeError, StorageError

_ORDER, _STOP, _TICK, _ENDED, _RUN, _FINISHED = "order.json", "stop", "tick.json", "ended.json", "run", "finished"
_MANIFEST, _CHECKPOINTS = "manifest.json", "checkpoints"
_SUMMARY, _TEST = "evaluation_summary.json", "predictions/test.parquet"

Progress = tuple[bool, int, bool]  # it grows: finished, the step of the newest checkpoint (-1: none), test is read


@dataclass(slots=True)
class Exchange:
    """A place in a store.

    Args:
        url: a path, or any URL that fsspec knows, such as s3://bucket/studies.
    """

    url: str
    _fs: Any = field(init=False, repr=False, compare=False)
    _path: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            fs, path = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:  # s3:// without s3fs, a protocol that nobody knows
            raise RecipeError(
                "--store", found=f"'{self.url}' ({error})", expected="a folder, or a URL of fsspec"
            ) from None
        self._fs, self._path = fs, path.rstrip("/")

    def places(self) -> list[str]:
        """Return the runs, `<model>/<run>`, of which anything lies here."""
        runs = (run for model in self._list(self._path) for run in self._list(model))
        return ["/".join(run.split("/")[-2:]) for run in runs]

    def attempts(self, place: str) -> list["Attempt"]:
        """Return the attempts at a run that were ever ordered and not cleared away, oldest first."""
        names = sorted(_last(path) for path in self._list(f"{self._path}/{place}"))
        return [self.attempt(place, name) for name in names if name != _FINISHED]

    def attempt(self, place: str, name: str) -> "Attempt":
        """Return one attempt at the run `<model>/<run>`."""
        return Attempt(self, place, name)

    def offer(self, place: str, folder: Path) -> None:
        """Leave a finished run for those that learn from it, once."""
        mark = f"{self._path}/{place}/{_FINISHED}/{_ORDER}"
        if not self._exists(mark):
            self._bring(folder, f"{self._path}/{place}/{_FINISHED}/{_RUN}", names=_light(folder))
            self._write(mark, b"{}")

    def fetch_offered(self, place: str, folder: Path) -> None:
        """Take a run that was offered."""
        self._take(f"{self._path}/{place}/{_FINISHED}/{_RUN}", folder)

    def _list(self, path: str) -> list[str]:
        self._fs.invalidate_cache(path)
        with suppress(FileNotFoundError, NotADirectoryError):
            return [found.rstrip("/") for found in self._fs.ls(path, detail=False)]
        return []

    def _exists(self, path: str) -> bool:
        return path in self._list(path.rpartition("/")[0])

    def _read(self, path: str) -> bytes | None:
        with suppress(FileNotFoundError, NotADirectoryError):
            return bytes(self._fs.cat_file(path))
        return None

    def _write(self, path: str, content: bytes) -> None:
        with _store_errors(path):
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(f"{path}.part", content)
            self._fs.mv(f"{path}.part", path)

    def _bring(self, folder: Path, to: str, *, names: Iterable[str]) -> None:
        """Put files there, each whole or not at all, in this order."""
        for name in names:
            path = f"{to}/{name}"
            with _store_errors(path):
                self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._fs.put_file(str(folder / name), f"{path}.part")
                self._fs.mv(f"{path}.part", path)

    def _take(self, source: str, folder: Path) -> None:
        """Get all files from there; one that is taken away meanwhile is left out: it was an old checkpoint's."""
        for name in self._names(source):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError), _store_errors(name):
                self._fs.get_file(f"{source}/{name}", str(target))

    def _names(self, path: str) -> list[str]:
        """Return the names of all whole files below a path."""
        self._fs.invalidate_cache(path)
        with suppress(FileNotFoundError, NotADirectoryError):
            found = (name.removeprefix(f"{path}/") for name in self._fs.find(path))
            return [name for name in found if not name.endswith(".part")]
        return []

    def _remove(self, path: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            self._fs.rm(path, recursive=True)


@dataclass(slots=True)
class Attempt:
    """One attempt at one run.

    Args:
        place: of the run, `<model>/<run>`.
        name: of the attempt; no other attempt at the run has it.
    """

    exchange: Exchange
    place: str
    name: str
    _brought: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def _path(self) -> str:
        return f"{self.exchange._path}/{self.place}/{self.name}"

    def order(self, content: Mapping[str, Any]) -> None:
        """Write down that the attempt is wanted: from here on until `clear`."""
        self.exchange._write(f"{self._path}/{_ORDER}", json.dumps(content).encode())

    def ask_to_stop(self) -> None:
        """Ask whoever works on it to save, to bring what there is, and to end."""
        self.exchange._write(f"{self._path}/{_STOP}", b"")

    def marks(self) -> frozenset[str]:
        """Return what stands about it: of wanted, stop, begun, ended."""
        names = {_last(path) for path in self.exchange._list(self._path)}
        meant = {_ORDER: "wanted", _STOP: "stop", _TICK: "begun", _ENDED: "ended"}
        return frozenset(mark for name, mark in meant.items() if name in names)

    def tell(self, tick: Mapping[str, Any]) -> None:
        """Leave word of how far it is."""
        self.exchange._write(f"{self._path}/{_TICK}", json.dumps(tick).encode())

    def told(self) -> dict[str, Any]:
        """Return how far it said it is; nothing where it has not begun."""
        return self._json(_TICK)

    def end(self, how: Mapping[str, Any]) -> None:
        """Leave word of how it ended, after all else."""
        self.exchange._write(f"{self._path}/{_ENDED}", json.dumps(how).encode())

    def ended(self) -> dict[str, Any]:
        """Return how it ended; nothing where it has not, or never could say."""
        return self._json(_ENDED)

    def _json(self, name: str) -> dict[str, Any]:
        text = self.exchange._read(f"{self._path}/{name}")
        return dict(json.loads(text)) if text else {}

    def bring(self, folder: Path) -> None:
        """Put there what has changed in the run's folder, and take away the checkpoints that it no longer has.

        Training goes on meanwhile: a checkpoint that it has dropped before all of it was here is left out.
        """
        stamps = {name: stamp for name in _names_of(folder) if (stamp := _stamp(folder / name))}
        changed = [name for name, stamp in stamps.items() if stamp != self._brought.get(name)]
        with suppress(FileNotFoundError):
            for name in changed:
                self.exchange._bring(folder, f"{self._path}/{_RUN}", names=[name])
                self._brought[name] = stamps[name]
        theirs, ours = (_checkpoints(names) for names in (self._brought, stamps))
        for step in theirs - ours:
            self.exchange._remove(f"{self._path}/{_RUN}/{_CHECKPOINTS}/{step}")
            self._brought = {n: stamp for n, stamp in self._brought.items() if f"{_CHECKPOINTS}/{step}/" not in n}

    def fetch(self, folder: Path) -> None:
        """Take the run's folder as last brought; nothing where nothing was."""
        self.exchange._take(f"{self._path}/{_RUN}", folder)

    def progress(self) -> Progress:
        """Return how far what was brought is."""
        return progress(self.exchange._names(f"{self._path}/{_RUN}"))

    def clear(self) -> None:
        """Take all of it away; whoever still works on it ends without a trace."""
        self.exchange._remove(f"{self._path}/{_ORDER}")
        self.exchange._remove(self._path)


def progress(names: Iterable[str]) -> Progress:
    """Return how far a run with these files is."""
    have = set(names)
    steps = [int(_number(name)) for name in _checkpoints(have) if f"{_CHECKPOINTS}/{name}/{_MANIFEST}" in have]
    return _SUMMARY in have, max(steps, default=-1), _TEST in have


def progress_of(folder: Path) -> Progress:
    """Return how far the run in this folder is."""
    return progress(_names_of(folder))


def _names_of(folder: Path) -> list[str]:
    """Return a run's files: checkpoints last, and of each its manifest last; no locks, nothing half made."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    whole = (str(name) for name in names if not any(part.startswith(".") for part in name.parts))
    return sorted(whole, key=lambda name: (name.startswith(f"{_CHECKPOINTS}/"), name.endswith(_MANIFEST), name))


def _light(folder: Path) -> list[str]:
    return [name for name in _names_of(folder) if not name.startswith(f"{_CHECKPOINTS}/")]


def _checkpoints(names: Iterable[str]) -> set[str]:
    return {name.split("/")[1] for name in names if name.startswith(f"{_CHECKPOINTS}/step-")}


def _number(step: str) -> str:
    return step.removeprefix("step-")


def _stamp(path: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_size, found.st_mtime_ns
    return None


def _last(path: str) -> str:
    return path.rpartition("/")[2]


@contextmanager
def _store_errors(where: str) -> Iterator[None]:
    """Turn what a store refuses into StorageError; that a file is gone is for the caller to judge."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(where, found=str(error), expected="a store that can be read and written") from None
