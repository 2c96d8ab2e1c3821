"""Predict: what a trained network takes pictures for, shown to it as its own were."""

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bakeoff.data import decode, listing
from bakeoff.errors import DataError
from bakeoff.results import metrics
from bakeoff.training.trained import Trained

BATCH = 256  # pictures decoded and shown at a time


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answer:
    """What the network says of one file.

    Args:
        path: of the file, as it was given or found.
        classes: names, the likeliest first; empty where the file could not be read.
        probabilities: float, one a name.
        error: why it could not be read, or nothing.
    """

    path: Path
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Files to look at, and how many others were passed over, by the end of their names."""

    paths: tuple[Path, ...]
    skipped: Counter[str]


def find(given: Sequence[str]) -> Found:
    """Return the pictures that are meant: files, folders with all below them, and patterns such as `pictures/*.png`.

    A file that is named is looked at whatever it is called; those of folders and patterns are passed over and counted
    if they are not called like a picture. None is named twice.

    Raises:
        DataError: nothing there, or no picture in it.
    """
    paths: dict[Path, None] = {}
    skipped: Counter[str] = Counter()
    for text in given:
        place = Path(text)
        if os.path.isfile(text):
            paths[place] = None
            continue
        matches = sorted(_below(place)) if os.path.isdir(text) else sorted(map(Path, glob.glob(text, recursive=True)))
        if not matches and not os.path.isdir(text):
            raise DataError(text, found="nothing there", expected="a picture, a folder of them, or a pattern")
        for path in matches:
            if path.is_dir():
                continue
            if listing.is_picture(path.name):
                paths[path] = None
            else:
                listing.count(skipped, path.name)
    if not paths:
        passed = f" ({', '.join(f'{count} {end}' for end, count in skipped.items())} passed over)" if skipped else ""
        raise DataError(", ".join(given), found=f"no picture{passed}", expected=f"files like {decode.SUFFIXES[0]}")
    return Found(paths=tuple(paths), skipped=skipped)


def predict(
    model: Trained, paths: Sequence[Path], *, top: int = 5, tell: Callable[[int, int], None] = lambda done, of: None
) -> Iterator[Answer]:
    """Yield an answer a file, in their order; one that cannot be read says why.

    Args:
        model: what to ask.
        paths: of pictures.
        top: how many classes to name, at most all.
        tell: receives how many are done, and of how many.
    """
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for first in range(0, len(paths), BATCH):
            chunk = paths[first : first + BATCH]
            opened = list(pool.map(lambda path: _open(path, model), chunk))
            readable = [pixels for pixels in opened if not isinstance(pixels, str)]
            shares: Iterator[NDArray[np.float64]] = iter(probabilities(model, np.stack(readable)) if readable else ())
            for path, pixels in zip(chunk, opened, strict=True):
                if isinstance(pixels, str):
                    yield Answer(path=path, error=pixels)
                    continue
                share = next(shares)
                best = np.argsort(-share, kind="stable")[:top]
                yield Answer(
                    path=path,
                    classes=tuple(model.classes[index] for index in best),
                    probabilities=tuple(float(share[index]) for index in best),
                )
            tell(first + len(chunk), len(paths))


def probabilities(model: Trained, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the probabilities, float64 [n classes], of pictures of the network's size, uint8 [n h w 3]."""
    return metrics.probabilities(model.evaluate(model.pictures(pixels)).logits)


def _below(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder; links to folders are not followed."""
    for at, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(at) / name for name in files if not name.startswith("."))


def _open(path: Path, model: Trained) -> NDArray[np.uint8] | str:
    """Decode a file to the network's size, or say why that cannot be."""
    try:
        content = listing.read_file(path)
        return decode.picture(content, size=model.image_shape[1], fit=model.fit, where=str(path)).pixels
    except DataError as error:
        return f"found {error.found}; expected {error.expected}"
