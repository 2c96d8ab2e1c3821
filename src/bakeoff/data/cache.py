"""Decoded once, mapped ever after: the cache of uint8 pictures.

    <root>/<name>-<key>/            one part of one source; the key is the content of the source's files
        images.bin  labels.bin      uint8 [n h w c] and little-endian int64 [n], nothing else
        groups.bin  reserved.bin    int64 [n] and [m], where a source has them
        manifest.json               shapes, sizes, names and sha256 of each, and of itself
    <root>/<name>-<key>.lock        held by the one process that decodes
    <root>/<name>-<key>.building/   half-made, or left by a process that was killed

A finished folder appears by one rename and is never written again. Whoever opens one reads all of it once
against its manifest (0.1 s for CIFAR's 150 MB), so a cut file or a flipped bit is noticed, said, and decoded
again.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.images import ImageSet, Indices
from bakeoff.errors import DataError
from bakeoff.library import cache_folder
from bakeoff.results.files import storage_errors

FORMAT = 3  # of the cache and of what sources decode into it: raise it when either changes
_log = logging.getLogger(__name__)


class _DamageError(OSError):
    """What lies in the cache is not what was put there."""


def remember(name: str, files: Sequence[Path] | str, build: Callable[[], ImageSet], *, num_bytes: int) -> ImageSet:
    """Return what `build` makes of `files`: mapped from the cache, or built now and put there.

    Safe with several processes at once: one builds, the others wait for it.

    Args:
        name: what people see in the cache folder, as `cifar100-train`.
        files: everything `build` reads; their bytes are the key, so a changed file is a new entry. Or, where these are
            too many to read each time, a text that changes with them.
        build: decodes the files.
        num_bytes: about how large the entry will be, for the message if the disk refuses it.

    Raises:
        DataError: a source file cannot be read, or whatever `build` raises.
        StorageError: the cache cannot be written; nothing half-made stays behind.
    """
    folder = cache_folder() / f"{name}-{_key(files)}"
    try:
        return _read(folder)
    except (FileNotFoundError, _DamageError):
        pass  # looked at again below, where nobody else is at work on it
    with _alone(folder, num_bytes=num_bytes):
        try:
            return _read(folder)
        except FileNotFoundError:
            _log.info("decoding %s once, to %s", name, folder)
        except _DamageError as damage:
            _log.warning("the image cache %s is damaged (%s); decoding it again", folder, damage)
        built = build()
        with storage_errors(folder, size=built.images.nbytes + built.labels.nbytes):
            _write(folder, built)
            return _read(folder)


def _key(files: Sequence[Path] | str) -> str:
    """Return 32 hex digits for the bytes of `files`, or for a text, and the format of this cache."""
    digest = hashlib.sha256(f"bakeoff image cache {FORMAT}".encode())
    if isinstance(files, str):
        digest.update(files.encode(errors="surrogateescape"))
        return digest.hexdigest()[:32]
    for path in files:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(str(path), found=f"'{error.strerror}'", expected="a file to read") from error
    return digest.hexdigest()[:32]


@contextmanager
def _alone(folder: Path, *, num_bytes: int) -> Iterator[None]:
    """Wait until no other process builds `folder`; the kernel frees the lock of a process that dies."""
    with storage_errors(folder, size=num_bytes):
        folder.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{folder}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with storage_errors(folder, size=num_bytes):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(folder: Path, built: ImageSet) -> None:
    """Write an entry where nobody looks, make it last, then give it its name."""
    pixels = np.ascontiguousarray(built.images.transpose(0, 2, 3, 1))
    contents = {"images.bin": pixels, "labels.bin": built.labels.astype("<i8")}
    contents |= {f"{name}.bin": rows.astype("<i8") for name, rows in _optional(built).items()}
    building = folder.with_name(f"{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)  # of a builder that was killed: we hold the lock
    building.mkdir()
    try:
        for name, content in contents.items():
            _write_synced(building / name, content.data.cast("B"))
        _write_synced(building / "manifest.json", _manifest(built, contents))
        _sync(building)
        if folder.exists():
            shutil.rmtree(folder)  # damaged; whoever has it mapped keeps what they mapped
        building.rename(folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _optional(built: ImageSet) -> dict[str, Indices]:
    """Return those of the rows that only some sources have."""
    found = {"groups": built.groups, "reserved": built.reserved}
    return {name: rows for name, rows in found.items() if rows is not None}


def _manifest(built: ImageSet, contents: dict[str, NDArray[np.generic]]) -> bytes:
    """Describe an entry in JSON, under a sha256 of the description."""
    body = {
        "files": {
            name: {
                "shape": array.shape,
                "bytes": array.nbytes,
                "sha256": hashlib.sha256(array.data).hexdigest(),
            }
            for name, array in contents.items()
        },
        "names": {
            field: getattr(built, field)
            for field in ("classes", "superclasses", "superclass_of", "mean", "std", "fingerprint")
        },
    }
    return json.dumps({"sha256": _seal(body), "body": body}, indent=1).encode()


def _seal(body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _read(folder: Path) -> ImageSet:
    """Check an entry against its manifest and map it.

    Raises:
        FileNotFoundError: there is no entry.
        _DamageError: there is one, and it is not whole.
    """
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        body = manifest["body"]
        if manifest["sha256"] != _seal(body):
            raise _DamageError("manifest.json does not match its sha256")
        images = _map(folder / "images.bin", np.dtype("u1"), body["files"]["images.bin"])
        rows = {
            name: _map(folder / name, np.dtype("<i8"), about).astype(np.int64)
            for name, about in body["files"].items()
            if name in ("labels.bin", "groups.bin", "reserved.bin")
        }
        labels = rows["labels.bin"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _DamageError(str(error)) from error
    names: dict[str, Any] = {field: tuple(value) for field, value in body["names"].items() if field != "fingerprint"}
    return ImageSet(
        images=cast(NDArray[np.uint8], images.transpose(0, 3, 1, 2)),
        labels=labels,
        groups=rows.get("groups.bin"),
        reserved=rows.get("reserved.bin"),
        fingerprint=body["names"]["fingerprint"],
        **names,
    )


def _map(path: Path, dtype: np.dtype[np.generic], expected: dict[str, object]) -> NDArray[np.generic]:
    """Check size and sha256 of a file and map it, both through one open file, so that none can slip between.

    Mapped copy-on-write: the pages are shared by all processes, the file cannot be changed through them, and
    the array still counts as writable, without which torch.from_numpy warns.
    """
    with path.open("rb") as file:
        _check(file, expected)
        mapped = np.memmap(file, dtype=dtype, mode="c", shape=tuple(cast(list[int], expected["shape"])))
    return np.asarray(mapped)


def _check(file: BufferedReader, expected: dict[str, object]) -> None:
    num_bytes = os.fstat(file.fileno()).st_size
    if num_bytes != expected["bytes"]:
        raise _DamageError(f"{Path(file.name).name} has {num_bytes:,} bytes instead of {expected['bytes']:,}")
    if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
        raise _DamageError(f"{Path(file.name).name} does not match its sha256")


def _write_synced(path: Path, content: bytes | memoryview) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make names last: they are data of their folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
