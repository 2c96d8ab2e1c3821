"""The exchange: where a driver and its nodes leave files for each other, a shared folder or any store of fsspec.

    <store>/<model>/<run>/<attempt>/order.json     stands as long as the attempt is wanted
                                    stop           asks it to save and end
                                    tick.json      how far it is
                                    ended.json     how it ended, written last
                                    run/...        the run's folder, as last brought here
    <store>/<model>/<run>/finished-<sha>/...       a teacher, for those that learn from it

Every attempt has a place of its own, where nobody else writes: an orphan, on a node that was given up but lives on, can
never write beside its successor. Files appear whole, and whatever vouches for others after them: a checkpoint's
manifest, and last of all a finished run's summary. What lies here is at any moment a run that can be gone on with.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from bakeoff.errors import RecipeError, StorageError
from bakeoff.results.store import Run

_ORDER, _STOP, _TICK, _ENDED, _RUN, _FINISHED = "order.json", "stop", "tick.json", "ended.json", "run", "finished-"
_ANY_RUN = Run(Path())  # it knows what the files of a run are called
_RECIPE, _SUMMARY, _TEST = map(str, (_ANY_RUN.recipe_path, _ANY_RUN.summary_path, _ANY_RUN.predictions("test")))
_CHECKPOINT = re.compile(r"checkpoints/step-(\d+)/.+")

Progress = tuple[bool, int, bool]  # it grows: finished, the step of the newest checkpoint (-1: none), test is read
NOTHING: Progress = (False, -1, False)


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
            found = f"'{self.url}' ({error})"
            raise RecipeError("--store", found=found, expected="a folder, or a URL of fsspec") from None
        self._fs, self._path = fs, path.rstrip("/")

    def places(self) -> list[str]:
        """Return the runs, `<model>/<run>`, of which anything lies here."""
        runs = (run for model in self._list(self._path) for run in self._list(model))
        return ["/".join(run.split("/")[-2:]) for run in runs]

    def attempts(self, place: str) -> list["Attempt"]:
        """Return the attempts at a run of which anything lies here, oldest first."""
        names = sorted(_last(path) for path in self._list(f"{self._path}/{place}"))
        return [self.attempt(place, name) for name in names if not name.startswith(_FINISHED)]

    def attempt(self, place: str, name: str) -> "Attempt":
        """Return one attempt at the run `<model>/<run>`."""
        return Attempt(self, place, name)

    def offer(self, place: str, folder: Path) -> str:
        """Leave a finished run, without its checkpoints, for those that learn from it; return what to fetch it by."""
        with Run(folder).weights("best").open("rb") as weights:
            offered = f"{place}/{_FINISHED}{hashlib.file_digest(weights, 'sha256').hexdigest()[:16]}"
        to = f"{self._path}/{offered}/{_RUN}"
        if f"{to}/{_SUMMARY}" not in self._list(to):
            for name in [*_light(_names_of(folder)), _SUMMARY]:
                self._put(folder / name, f"{to}/{name}")
        return offered

    def fetch_offered(self, offered: str, folder: Path) -> None:
        """Take a run that was offered."""
        self._take(f"{self._path}/{offered}/{_RUN}", folder)

    def _list(self, path: str) -> list[str]:
        """Return what lies directly below a path, now: other processes write here too."""
        with suppress(FileNotFoundError), _store_errors(path):
            self._fs.invalidate_cache(path)
            return [found.rstrip("/") for found in self._fs.ls(path, detail=False)]
        return []

    def _names(self, path: str) -> list[str]:
        """Return the names of all whole files below a path."""
        with suppress(FileNotFoundError), _store_errors(path):
            self._fs.invalidate_cache()
            found = (name.removeprefix(f"{path}/") for name in self._fs.find(path))
            return [name for name in found if not name.endswith(".part")]
        return []

    def _read(self, path: str) -> bytes | None:
        with suppress(FileNotFoundError), _store_errors(path):
            return bytes(self._fs.cat_file(path))
        return None

    def _write(self, path: str, content: bytes) -> None:
        with self._whole(path) as aside:
            self._fs.pipe_file(aside, content)

    def _put(self, file: Path, path: str) -> None:
        """Put a file there.

        Raises:
            FileNotFoundError: it is gone.
        """
        try:
            with self._whole(path) as aside:
                self._fs.put_file(str(file), aside)
        except StorageError:
            if not file.exists():
                raise FileNotFoundError(file) from None
            raise

    @contextmanager
    def _whole(self, path: str) -> Iterator[str]:
        """Lead to where a file is to be written that appears whole or not at all; objects do so by themselves."""
        try:
            with _store_errors(path):
                if not isinstance(self._fs, LocalFileSystem):
                    yield path
                    return
                self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
                yield f"{path}.part"
                self._fs.mv(f"{path}.part", path)
        except FileNotFoundError as error:  # no such bucket
            raise StorageError(path, found=str(error), expected="a store that can be written") from None

    def _take(self, source: str, folder: Path) -> None:
        """Get all files from there; one that is taken away meanwhile is left out: it was an old checkpoint's."""
        for name in self._names(source):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError), _store_errors(name):
                self._fs.get_file(f"{source}/{name}", str(target))

    def _remove(self, path: str) -> None:
        with suppress(FileNotFoundError), _store_errors(path):
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
        self.exchange._write(f"{self._path}/{_STOP}", b"stop")

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

        Training goes on meanwhile: what it drops before all of it was here is left out, and what was here before stays
        until something newer is whole.
        """
        names = _names_of(folder)
        ours = _checkpoints(names)
        self._bring(folder, _light(names))
        for step in sorted(ours, reverse=True):  # of each the manifest last; what is dropped meanwhile is an older one
            self._bring(folder, sorted((name for name in names if _step(name) == step), key=_is_manifest))
        here = _checkpoints(name for name in self._brought if _is_manifest(name))
        if here & ours:
            for step in _checkpoints(self._brought) - ours:
                self.exchange._remove(f"{self._path}/{_RUN}/checkpoints/step-{step}")
                self._brought = {name: stamp for name, stamp in self._brought.items() if _step(name) != step}
        self._bring(folder, [name for name in names if name == _SUMMARY])

    def _bring(self, folder: Path, names: Iterable[str]) -> None:
        """Put those files there that have changed, up to the first that is gone."""
        with suppress(FileNotFoundError):
            for name in names:
                found = (folder / name).stat()
                stamp = (found.st_size, found.st_mtime_ns)
                if stamp != self._brought.get(name):
                    self.exchange._put(folder / name, f"{self._path}/{_RUN}/{name}")
                    self._brought[name] = stamp

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
    if _RECIPE not in have:
        return NOTHING
    steps = _checkpoints(name for name in have if _is_manifest(name))
    return _SUMMARY in have, max(steps, default=-1), _TEST in have


def progress_of(folder: Path) -> Progress:
    """Return how far the run in this folder is."""
    return progress(_names_of(folder))


def _names_of(folder: Path) -> list[str]:
    """Return a run's files, without locks and what is half made."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(name) for name in names if not any(part.startswith(".") for part in name.parts))


def _light(names: Iterable[str]) -> list[str]:
    """Return those that are no checkpoint's, but for the summary, which vouches for them."""
    return [name for name in names if not name.startswith("checkpoints/") and name != _SUMMARY]


def _step(name: str) -> int | None:
    """Return the step of the checkpoint that a file belongs to; None where it belongs to none, or a damaged one."""
    found = _CHECKPOINT.fullmatch(name)
    return int(found[1]) if found else None


def _checkpoints(names: Iterable[str]) -> set[int]:
    return {step for step in map(_step, names) if step is not None}


def _is_manifest(name: str) -> bool:
    return name.endswith("/manifest.json")


def _last(path: str) -> str:
    return path.rpartition("/")[2]


@contextmanager
def _store_errors(where: str) -> Iterator[None]:
    """Turn what a store refuses, each in its own way, into StorageError; that a file is gone is for the caller."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        raise StorageError(where, found=found, expected="a store that can be read and written") from None
