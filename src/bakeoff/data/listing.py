"""Which pictures a person's own data set has, and what each shows: read from names and tables, before any is opened."""

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from bakeoff.data import decode
from bakeoff.data.images import Indices
from bakeoff.errors import DataError, nearest

OwnPart = Literal["train", "val", "test"]
PARTS: tuple[OwnPart, ...] = ("train", "val", "test")
MANY = 5  # names in a message


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Listed:
    """The pictures of one part, in the order of their rows.

    Args:
        paths: of each file; of a row in a table, the table's with the row behind a colon.
        labels: int64 [n], indices into the classes.
        groups: int64 [n], equal where pictures belong together; None where nothing is said of that.
        encoded: what gives a row's whole file; None where `paths` are files.
        files: what the rows are read from, where `paths` are none.
    """

    paths: tuple[Path, ...]
    labels: Indices
    groups: Indices | None = None
    encoded: Callable[[int], bytes] | None = None
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, row: int) -> bytes:
        """Return the whole encoded file of a row.

        Raises:
            DataError: it is not there, no regular file, or larger than any picture.
        """
        return self.encoded(row) if self.encoded is not None else read_file(self.paths[row])

    def take(self, rows: Indices) -> "Listed":
        """Return the pictures of these rows [m]."""
        encoded = self.encoded
        return Listed(
            paths=tuple(self.paths[row] for row in rows),
            labels=self.labels[rows],
            groups=None if self.groups is None else self.groups[rows],
            files=self.files,
            encoded=None if encoded is None else lambda row: encoded(int(rows[row])),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Listing:
    """A person's own data set, by names.

    Args:
        place: its folder or file.
        classes: names; those of a source that numbers them in its order, all others sorted.
        parts: those that there are. A set that is not parted has train alone.
        skipped: how many files were no pictures, by the end of their name or by what was wrong with them.
    """

    place: Path
    classes: tuple[str, ...]
    parts: Mapping[OwnPart, Listed]
    skipped: Mapping[str, int] = field(default_factory=dict)


def read_file(path: Path, *, what: str = "a picture") -> bytes:
    """Return a file's content, if it is a regular file of a picture's size; nothing that waits or never ends is read.

    Args:
        path: of the file.
        what: it should be, for messages.

    Raises:
        DataError: it is not.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise DataError(str(path), found="no regular file", expected=what)
            if about.st_size > decode.MOST_BYTES:
                found, most = f"{about.st_size:,} bytes", f"{decode.MOST_BYTES:,}"
                raise DataError(str(path), found=found, expected=f"{what} of at most {most}")
            return file.read(decode.MOST_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise DataError(str(path), found=f"'{reason}'", expected=f"{what} to read") from error


def assemble(
    place: Path,
    rows: Mapping[OwnPart, Sequence[tuple[Path, str]]],
    *,
    groups: Mapping[OwnPart, Sequence[str]] | None = None,
    encoded: Mapping[OwnPart, Callable[[int], bytes]] | None = None,
    files: Mapping[OwnPart, Sequence[Path]] | None = None,
    skipped: Mapping[str, int] | None = None,
    order: Sequence[str] = (),
) -> Listing:
    """Make a listing of pictures with the names of their classes.

    Args:
        place: of the data set.
        rows: part -> path and class of each picture.
        groups: part -> the group of each picture; an empty one is a group of its own.
        encoded: part -> what gives a row's file, where the paths are none.
        files: part -> what these are read from.
        skipped: what was passed over, and how often.
        order: of the classes, where the source has one; it may name some that have no picture.

    Raises:
        DataError: nothing to train on, fewer than two classes, or classes that only test or validation has.
    """
    parts = {part: [(path, _class(name, place)) for path, name in rows[part]] for part in PARTS if rows.get(part)}
    numbers = _numbered(groups) if groups else {}
    passed = ", ".join(f"{count} {what}" for what, count in (skipped or {}).items())
    told = f" ({passed} passed over)" if passed else ""
    if "train" not in parts:
        raise DataError(str(place), found=f"no picture to train on{told}", expected="pictures in a folder a class")
    trained = sorted({name for _, name in parts["train"]})
    if len(trained) < 2:
        found = f"one class, {trained[0]}{told}"
        raise DataError(str(place), found=found, expected="at least two", hint="Each class is a folder of its own.")
    index = {name: number for number, name in enumerate(order or trained)}
    for part, pictures in parts.items():
        if strangers := sorted({name for _, name in pictures} - index.keys()):
            found = f"{len(strangers)} classes in {part} that train does not have ({', '.join(strangers[:MANY])})"
            raise DataError(str(place), found=found, expected="the classes of train", hint=nearest(strangers[0], index))
    return Listing(
        place=place,
        classes=tuple(index),
        parts={
            part: Listed(
                paths=tuple(path for path, _ in pictures),
                labels=np.array([index[name] for _, name in pictures], dtype=np.int64),
                groups=numbers.get(part),
                encoded=encoded[part] if encoded else None,
                files=tuple(files[part]) if files else (),
            )
            for part, pictures in parts.items()
        },
        skipped=dict(skipped or {}),
    )


def missing(listing: Listing) -> dict[OwnPart, tuple[str, ...]]:
    """Name the classes that a part has no picture of."""
    found = {
        part: tuple(np.array(listing.classes)[~np.isin(np.arange(len(listing.classes)), listed.labels)].tolist())
        for part, listed in listing.parts.items()
    }
    return {part: names for part, names in found.items() if names}


def is_picture(name: str) -> bool:
    """Tell whether a file of this name counts as a picture."""
    return name.lower().endswith(decode.SUFFIXES)


def count(skipped: Counter[str], name: str) -> None:
    """Count a file that is no picture by the end of its name; what systems leave lying about is not worth telling."""
    if not name.startswith(".") and name.lower() not in ("thumbs.db", "desktop.ini"):
        skipped[Path(name).suffix.lower() or "without an ending"] += 1


def _class(name: str, place: Path) -> str:
    """Return a class's name as it is written everywhere; letters that are composed in another way are the same.

    Raises:
        DataError: a name that is no text, which no file of a run could hold.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        expected = "names in UTF-8: rename the folder"
        raise DataError(str(place), found=f"a class called {os.fsencode(name)!r}", expected=expected) from None
    return unicodedata.normalize("NFC", name)


def _numbered(names: Mapping[OwnPart, Sequence[str]]) -> dict[OwnPart, Indices]:
    """Number groups by name, over all parts; a picture without one is a group of its own."""
    number: dict[str, int] = {}
    return {
        part: np.array(
            [number.setdefault(name or f"\0{part}{row}", len(number)) for row, name in enumerate(of_part)],
            dtype=np.int64,
        )
        for part, of_part in names.items()
    }
