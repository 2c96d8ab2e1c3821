"""A person's own pictures: `folder:PATH`, `csv:FILE`, `parquet:PATH`, `hf:OWNER/NAME`.

They are listed by name, decoded and brought to one size once, and kept in the cache. What belongs together stays
together when they are parted: equal files, and pictures that a CSV puts into one group. A set without a test
part gets one, the same on every machine as long as its files are.
"""

import hashlib
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bakeoff.catalogue import OWN, Dataset, is_own
from bakeoff.data import cache, decode, images, places
from bakeoff.data.decode import Fit
from bakeoff.data.images import ImageSet, Indices, Part
from bakeoff.data.listing import MANY, Listed, Listing, missing, require_training
from bakeoff.data.sources import archive, csv_table, folder, tables
from bakeoff.errors import DataError, RecipeError
from bakeoff.library import cache_folder
from bakeoff.results.files import storage_errors

TEST_FRACTION = 0.2  # of a set that has no test part
SPLIT_SEED = 0  # part of the definition of such a split: another one would make another benchmark
IN_MEMORY_BYTES = 2_000_000_000  # of pictures; more are decoded into a file
CHUNK = 4_096  # pictures at a time, where all are counted

Tell = Callable[[int, int], None]  # pictures done, and of how many

_log = logging.getLogger(__name__)


def listing(name: str, *, image: str | None = None, label: str | None = None) -> Listing:
    """Return which pictures a data set has. Paths are looked for in $BAKEOFF_DATA first, then from here.

    Args:
        name: with the kind of source before a colon.
        image: the column of pictures, of a table; None finds it.
        label: the column of classes, of a table; None finds it.

    Raises:
        RecipeError: no such kind of source, or nothing behind the colon.
        DataError: it is not there, or nothing can be trained on it.
    """
    return require_training(_listed(name, image=image, label=label))


def _listed(name: str, *, image: str | None, label: str | None) -> Listing:
    """Return which pictures a data set has, be they enough for training or not."""
    kind, _, rest = name.partition(":")
    if not rest.strip() or not is_own(name):
        expected = ", ".join(f"{prefix}..." for prefix in OWN)
        raise RecipeError("data", found=f"'{name}'", expected=f"one of {expected}")
    if kind == "hf":
        return tables.read_hub(rest, image=image, label=label)
    found = place(rest)
    if kind == "parquet":
        return tables.read_parquet(found, image=image, label=label)
    if kind == "csv":
        return csv_table.read(found)
    return archive.read(found) if archive.is_one(found) else folder.read(found)


def describe(name: str, *, size: int, image: str | None = None, label: str | None = None) -> Dataset:
    """Return what a data set is, by its names alone: no picture is opened.

    Raises:
        RecipeError, DataError: as `listing`.
    """
    found = listing(name, image=image, label=label)
    num = {part: len(listed) for part, listed in found.parts.items()}
    test = num.get("test", round(TEST_FRACTION * num["train"]))
    train = num["train"] - (0 if "test" in num else test)
    val = num.get("val", 0)
    return Dataset(
        about=f"{sum(num.values()):,} pictures of {len(found.classes)} classes",
        num_classes=len(found.classes),
        image_shape=(3, size, size),
        num_train=train + val,
        num_val=val,
        num_test=test,
    )


def load(
    name: str,
    *,
    part: Part,
    size: int,
    fit: Fit,
    image: str | None = None,
    label: str | None = None,
    tell: Tell = lambda done, of: None,
) -> ImageSet:
    """Return one part, uint8 [n 3 size size]; pictures of the other are not opened where the source parts them.

    What a source sets apart for validation is among the train part, and marked as reserved.

    Args:
        name: with the kind of source before a colon.
        part: "train" or "test".
        size: the side that every picture is brought to, in pixels.
        fit: how a picture of another shape becomes a square.
        image: the column of pictures, of a table; None finds it.
        label: the column of classes, of a table; None finds it.
        tell: receives progress, where pictures are decoded.

    Raises:
        RecipeError, DataError: as `listing`; a picture that cannot be decoded.
        StorageError: the cache cannot be written.
    """
    found = listing(name, image=image, label=label)
    kept = _kept(found, part, image=image, size=size, fit=fit, tell=tell)
    if "test" in found.parts:
        return kept
    train, test = _made_split(kept)
    mean, std = statistics(kept.take(train))
    return replace(kept.take(train if part == "train" else test), mean=mean, std=std)


def paths(name: str, *, size: int, fit: Fit, image: str | None = None, label: str | None = None) -> tuple[Path, ...]:
    """Return the file of each row of the train part, in its order; of a table, the table's with the row behind a colon.

    Raises:
        RecipeError, DataError, StorageError: as `load`.
    """
    found = listing(name, image=image, label=label)
    listed, _ = _to_train(found)
    if "test" in found.parts:
        return listed.paths
    kept = _kept(found, "train", image=image, size=size, fit=fit, tell=lambda done, of: None)
    train, _ = _made_split(kept)
    return tuple(listed.paths[row] for row in train)


def load_unseen(
    name: str, *, size: int, fit: Fit, image: str | None = None, label: str | None = None
) -> tuple[ImageSet, str]:
    """Return pictures that nothing here was trained on: the test part where there is one, else all; and which it is.

    Raises:
        RecipeError, DataError, StorageError: as `load`.
    """
    found = _listed(name, image=image, label=label)
    kept = _kept(found, "test", image=image, size=size, fit=fit, tell=lambda done, of: None)
    return kept, "test" if "test" in found.parts else "all pictures"


def _kept(found: Listing, part: Part, *, image: str | None, size: int, fit: Fit, tell: Tell) -> ImageSet:
    """Return one part from the cache, decoded into it if it is not there; of a set without a test part, everything."""
    is_parted = "test" in found.parts
    listed, reserved = (found.parts["test"], None) if is_parted and part == "test" else _to_train(found)
    return cache.remember(
        f"own-{found.place.stem[:40] or 'pictures'}-{part if is_parted else 'all'}",
        _stamp(listed, found.classes, f"{size} {fit} {image} {0 if reserved is None else len(reserved)}"),
        lambda: _decoded(listed, found.classes, reserved, size=size, fit=fit, tell=tell),
        num_bytes=len(listed) * (size * size * 3 + 16),
    )


def remarks(found: Listing) -> list[str]:
    """Say what about a listing a person should know before numbers are made of it."""
    lines = [
        f"{len(names)} of {len(found.classes)} classes have no picture in {part}: "
        f"{', '.join(names[:MANY])}{' ...' if len(names) > MANY else ''}"
        for part, names in missing(found).items()
    ]
    if "test" not in found.parts:
        lines.append(
            "there is no test part: about a fifth of all pictures is set apart as one, each class in proportion, the "
            f"same as long as the files are (seed {SPLIT_SEED})"
        )
    seen: set[Path] = set()
    for part, listed in found.parts.items():
        if twice := seen.intersection(listed.paths):
            lines.append(f"{len(twice):,} files of {part} are in another part as well, such as {min(twice)}")
        seen.update(listed.paths)
    if found.skipped:
        told = ", ".join(f"{count:,} {what}" for what, count in sorted(found.skipped.items()))
        lines.append(f"passed over: {told}")
    return lines


def statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel over all pixels at once, in units of [0, 1]."""
    counts = np.zeros((images.shape[0], 256), dtype=np.int64)
    for first in range(0, len(images), CHUNK):
        pixels = images.pixels(np.arange(first, min(first + CHUNK, len(images))))
        for channel in range(len(counts)):
            counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    std = np.sqrt(np.maximum(share @ levels**2 - mean**2, 0))
    # One colour all over would be divided by nothing: it is then taken as it is.
    return tuple(mean.round(4).tolist()), tuple(np.where(std < 1e-3, 1.0, std).round(4).tolist())


def place(text: str) -> Path:
    """Return where a path leads: in $BAKEOFF_DATA if it is there, else from here."""
    root = places.data_root()
    means_here = text in (".", "..") or text.startswith(("./", "../"))
    if root is not None and not means_here and os.path.lexists(root / text):
        return root / text
    return Path(text).expanduser()


def identity(name: str) -> str:
    """Return what tells one data set from another, however its path is written."""
    kind, _, path = name.partition(":")
    return f"{kind}:{place(path).resolve()}" if is_own(name) and kind != "hf" else name


def _to_train(found: Listing) -> tuple[Listed, Indices | None]:
    """Return all that is not test, and which rows of it are set apart for validation."""
    train, val = found.parts.get("train"), found.parts.get("val")
    if train is None or val is None:
        (alone,) = (part for part in (train, val) if part is not None)
        return alone, None
    both = _joined(train, val)
    return both, np.arange(len(train), len(both), dtype=np.int64)


def _joined(first: Listed, second: Listed) -> Listed:
    """Return the pictures of two parts, one after the other."""
    groups = None
    if first.groups is not None and second.groups is not None:
        groups = np.concatenate([first.groups, second.groups])
    return Listed(
        paths=first.paths + second.paths,
        files=first.files + second.files,
        labels=np.concatenate([first.labels, second.labels]),
        groups=groups,
        encoded=lambda row: first.read(row) if row < len(first) else second.read(row - len(first)),
    )


def _made_split(whole: ImageSet) -> tuple[Indices, Indices]:
    """Set a test part apart of what is not set apart already, nor belongs to it; each class in proportion."""
    reserved = whole.reserved if whole.reserved is not None else np.arange(0)
    groups = whole.groups if whole.groups is not None else np.arange(len(whole))
    bound = np.flatnonzero(np.isin(groups, groups[reserved]))  # what is set apart, and its copies
    free = np.setdiff1d(np.arange(len(whole)), bound)
    groups = groups[free]
    train, test = images.hold_out(whole.labels[free], fraction=TEST_FRACTION, seed=SPLIT_SEED, groups=groups)
    if not len(test):
        found = f"{len(free)} pictures, of which none can be set apart to test on"
        raise DataError("data", found=found, expected="a test part, or at least two pictures of a class")
    return np.sort(np.concatenate([free[train], bound])), free[test]


def _stamp(listed: Listed, classes: tuple[str, ...], how: str) -> str:
    """Return a text that changes with any file, its place or its times; and with what is made of them.

    The time of its last change of any kind is among them: unlike the time of its content, nobody sets it back.
    """
    lines = [how, repr(classes)]
    for file in listed.files or listed.paths:
        try:
            found = os.stat(file)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(str(file), found=f"'{reason}'", expected="a picture to read") from error
        times = f"{found.st_mtime_ns} {found.st_ctime_ns}"
        lines.append(f"{found.st_dev} {found.st_ino} {found.st_size} {times} {os.path.realpath(file)!r}")
    lines.append(hashlib.sha256(listed.labels.tobytes()).hexdigest())
    if listed.groups is not None:
        lines.append(hashlib.sha256(listed.groups.tobytes()).hexdigest())
    return "\n".join(lines)


def _decoded(
    listed: Listed, classes: tuple[str, ...], reserved: Indices | None, *, size: int, fit: Fit, tell: Tell
) -> ImageSet:
    """Decode pictures on all cores, and put those of equal files into one group.

    Raises:
        DataError: a picture that cannot be decoded, the first of them; says how many there are.
    """
    pixels = _room(len(listed), size)
    digests = np.empty(len(listed), dtype="V16")
    notes: Counter[str] = Counter()
    broken: list[DataError] = []

    def one(row: int) -> tuple[str, ...] | DataError:
        try:
            content = listed.read(row)
            found = decode.picture(content, size=size, fit=fit, where=str(listed.paths[row]))
        except DataError as error:
            return error
        pixels[row] = found.pixels
        digests[row] = np.void(hashlib.blake2b(content, digest_size=16).digest())
        return found.notes

    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for done, outcome in enumerate(pool.map(one, range(len(listed))), start=1):
            if isinstance(outcome, DataError):
                broken.append(outcome)
            else:
                notes.update(outcome)
            tell(done, len(listed))
    if broken:
        first = min(broken, key=lambda error: error.where)
        hint = f"{len(broken)} pictures are like that: bakeoff doctor names them."
        if listed.encoded is None:
            hint += " Its --fix lists the others."
        raise DataError(first.where, found=first.found, expected=first.expected, hint=hint)
    if notes:
        told = ", ".join(f"{count:,} {what}" for what, count in notes.most_common())
        _log.info("of %d pictures: %s", len(listed), told)
    drawn = ImageSet(
        images=pixels.transpose(0, 3, 1, 2),
        labels=listed.labels,
        classes=classes,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        fingerprint=_fingerprint(digests, listed.labels, classes, f"{size} {fit}"),
        groups=_groups(digests, listed.groups),
        reserved=reserved,
    )
    mean, std = statistics(drawn)
    return replace(drawn, mean=mean, std=std)


def _fingerprint(digests: NDArray[np.void], labels: Indices, classes: tuple[str, ...], how: str) -> str:
    """Return the sha256 of all files, their classes and what was made of them: the same whatever decodes them."""
    told = hashlib.sha256(repr((classes, how)).encode())
    told.update(digests.tobytes())
    told.update(labels.tobytes())
    return told.hexdigest()


def _room(num: int, size: int) -> NDArray[np.uint8]:
    """Return room for pictures, uint8 [num size size 3]; much of it is a file that nobody else sees."""
    shape = (num, size, size, 3)
    if num * size * size * 3 <= IN_MEMORY_BYTES:
        return np.empty(shape, dtype=np.uint8)
    with storage_errors(cache_folder(), size=num * size * size * 3):
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache_folder()) as file:
            return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)


def _groups(digests: NDArray[np.void], named: Indices | None) -> Indices:
    """Number what belongs together, int64 [n]: equal files, and pictures that were named as a group.

    Files, not the pixels that became of them: these would be others at another size, and so would the splits.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, equal = np.unique(digests, return_inverse=True)
    if named is None:
        return equal.astype(np.int64)
    rows, num = np.arange(len(digests)), len(digests)
    size = 2 * num + int(named.max(initial=0)) + 1
    ends = np.concatenate([num + equal, 2 * num + named])
    links = coo_array((np.ones(2 * num), (np.concatenate([rows, rows]), ends)), shape=(size, size))
    _, component = connected_components(links, directed=False)
    return component[:num].astype(np.int64)
