"""Every picture of a data set looked at once, at full size, and what is kept of it: a few hundred bytes each."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bakeoff.data import decode
from bakeoff.data.images import Indices
from bakeoff.errors import DataError

SMALL_PX = 16  # the side of what is kept of a picture
_BATCH = 64  # pictures that a thread takes at a time
_DIGEST_BYTES = 16

Tell = Callable[[int, int], None]  # pictures done, and of how many


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Entry:
    """A picture by name, before it is opened.

    Args:
        name: as people know it: a path below the data set's folder, or "train 123".
        part: train, val or test.
        label: index into the classes.
        group: what it belongs to, as the data set says; -1 where it says nothing.
        path: its file, if it is one.
        open: gives its pixels at full size.
    """

    name: str
    part: str
    label: int
    group: int = -1
    path: Path | None = None
    open: Callable[[], decode.Picture]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Survey:
    """What was seen. All arrays have a row for each of `entries`; a picture that cannot be read has zeros.

    Args:
        entries: the pictures, part by part.
        classes: names.
        parts: those that there are, in order.
        broken: row -> why it cannot be read.
        digests: of each picture, equal where all pixels are; empty where there are none.
        small: uint8 [n 16 16 3], the picture made small by averaging.
        sizes: int64 [n 2], width and height in pixels.
        brightness: float32 [n], the mean of all pixels, 0 to 255.
        contrast: float32 [n], their standard deviation.
        notes: what decoding had to do beyond the usual, row by row.
    """

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    parts: tuple[str, ...]
    broken: dict[int, str]
    digests: tuple[bytes, ...]
    small: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]
    notes: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def has_files(self) -> bool:
        """Whether each picture is a file of its own."""
        return all(entry.path is not None for entry in self.entries)

    @property
    def labels(self) -> Indices:
        """The class of each picture, int64 [n]."""
        return np.array([entry.label for entry in self.entries], dtype=np.int64)

    @property
    def part_of(self) -> Indices:
        """The part of each picture, int64 [n], indices into `parts`."""
        index = {part: number for number, part in enumerate(self.parts)}
        return np.array([index[entry.part] for entry in self.entries], dtype=np.int64)

    @property
    def readable(self) -> Indices:
        """The rows that could be read, sorted."""
        return np.setdiff1d(np.arange(len(self)), np.fromiter(self.broken, dtype=np.int64)).astype(np.int64)


def look(entries: Sequence[Entry], *, classes: Sequence[str], tell: Tell | None = None) -> Survey:
    """Open every picture once, on all cores, and keep what the checks need.

    Args:
        entries: the pictures.
        classes: names of their classes.
        tell: called with how many are done, of how many.
    """
    num = len(entries)
    digests = [b""] * num
    small = np.zeros((num, SMALL_PX, SMALL_PX, 3), dtype=np.uint8)
    sizes = np.zeros((num, 2), dtype=np.int64)
    moments = np.zeros((num, 2), dtype=np.float32)
    notes: list[tuple[str, ...]] = [()] * num
    broken: dict[int, str] = {}

    def one(row: int) -> None:
        try:
            opened = entries[row].open()
        except DataError as error:
            broken[row] = error.found
            return
        if not opened.pixels.size:
            broken[row] = f"{opened.width}x{opened.height} pixels"
            return
        digests[row], small[row] = _digest(opened.pixels), shrink(opened.pixels, SMALL_PX)
        sizes[row], notes[row] = (opened.width, opened.height), opened.notes
        moments[row] = opened.pixels.mean(dtype=np.float32), opened.pixels.std(dtype=np.float32)

    for done in _on_all_cores(one, num):
        if tell is not None:
            tell(done, num)
    return Survey(
        entries=tuple(entries),
        classes=tuple(classes),
        parts=tuple(dict.fromkeys(entry.part for entry in entries)),
        broken=dict(sorted(broken.items())),
        digests=tuple(digests),
        small=small,
        sizes=sizes,
        brightness=moments[:, 0],
        contrast=moments[:, 1],
        notes=tuple(notes),
    )


def shrink(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return uint8 [side side 3] of a picture [h w 3]: each pixel is the mean of what it stands for."""
    from PIL import Image  # as decode has it: only where pictures are opened

    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX))


def _digest(pixels: NDArray[np.uint8]) -> bytes:
    told = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=_DIGEST_BYTES)
    told.update(np.ascontiguousarray(pixels).data)
    return told.digest()


def _on_all_cores(work: Callable[[int], None], num: int) -> Iterator[int]:
    """Do numbered work by threads, a batch at a time; yield how much is done."""

    def batch(rows: Sequence[int]) -> int:
        for row in rows:
            work(row)
        return len(rows)

    batches = [range(start, min(start + _BATCH, num)) for start in range(0, num, _BATCH)]
    done = 0
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        try:
            for finished in pool.map(batch, batches):
                done += finished
                yield done
        finally:
            pool.shutdown(cancel_futures=True)  # of one who was interrupted
