"""Which pictures a person's own data set has, and what each shows: read from names and tables, before any is opened."""

import os
import re
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
NAMES: dict[OwnPart, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_FILLERS = {"data", "dataset", "set", "images", "pictures", "seg"}  # stand beside them, as in train_dataset
LINKS = "links that lead out of the folder"
LOOSE = "pictures outside of any class"
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
        DataError: no picture, or classes that test or validation has and train, if there is one, has not.
    """
    parts = {part: [(path, _class(name, place)) for path, name in rows[part]] for part in PARTS if rows.get(part)}
    numbers = _numbered(groups) if groups else {}
    if not parts:
        found = f"no picture to train on{_passed_over(skipped or {})}"
        raise DataError(str(place), found=found, expected="pictures in a folder a class")
    known = [parts["train"]] if "train" in parts else parts.values()
    names = sorted({name for pictures in known for _, name in pictures})
    index = {name: number for number, name in enumerate(order or names)}
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


def require_training(found: Listing) -> Listing:
    """Return a listing that something can be trained on.

    Raises:
        DataError: there is nothing to train on, or one class.
    """
    told = _passed_over(found.skipped)
    if "train" not in found.parts:
        only = f"{' and '.join(found.parts)} and no train{told}"
        raise DataError(str(found.place), found=only, expected="train/ beside it, or a folder a class and nothing else")
    if len(names := np.unique(found.parts["train"].labels)) < 2:
        only = f"one class, {found.classes[names[0]]}{told}"
        raise DataError(
            str(found.place), found=only, expected="at least two", hint="Each class is a folder of its own."
        )
    return found


def part_of(name: str) -> OwnPart | None:
    """Return the part that a name means, if it means one: `Training`, `test_dataset`, `seg_train`."""
    words = set(re.split(r"[\s_-]+", name.strip().lower())) - _FILLERS
    return next((part for part, names in NAMES.items() if len(words) == 1 and words <= set(names)), None)


def parts_among(place: Path, folders: Mapping[str, bool]) -> dict[OwnPart, str]:
    """Return which of a data set's folders are its parts; none of them where each is a class.

    Args:
        place: of the data set, for messages.
        folders: name of each -> whether there are folders in it.

    Raises:
        DataError: several folders for one part.
    """
    found: dict[OwnPart, str] = {}
    for name in sorted(folders):
        if (part := part_of(name)) is None:
            continue
        if part in found:
            raise DataError(str(place), found=f"{found[part]} and {name}", expected=f"one folder for {part}")
        found[part] = name
    are_classes = not any(folders[name] for name in found.values()) and len(folders) > len(found)
    return {} if are_classes else found  # a train among buses and ships is a class


def missing(listing: Listing) -> dict[OwnPart, tuple[str, ...]]:
    """Name the classes that a part has no picture of."""
    found = {
        part: tuple(np.array(listing.classes)[~np.isin(np.arange(len(listing.classes)), listed.labels)].tolist())
        for part, listed in listing.parts.items()
    }
    return {part: names for part, names in found.items() if names}


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder was put there by a system, not by a person."""
    return name.startswith((".", "__MACOSX"))


def is_picture(name: str) -> bool:
    """Tell whether a file of this name counts as a picture."""
    return name.lower().endswith(decode.SUFFIXES)


def count(skipped: Counter[str], name: str) -> None:
    """Count a file that is no picture by the end of its name; what systems leave lying about is not worth telling."""
    if not name.startswith(".") and name.lower() not in ("thumbs.db", "desktop.ini"):
        skipped[Path(name).suffix.lower() or "without an ending"] += 1


def _passed_over(skipped: Mapping[str, int]) -> str:
    """Say what was passed over, as the end of a message."""
    told = ", ".join(f"{count} {what}" for what, count in skipped.items())
    return f" ({told} passed over)" if told else ""


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
