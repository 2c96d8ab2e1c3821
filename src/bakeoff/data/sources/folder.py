"""Folders of pictures: `train/ val/ test/` with a folder a class in each, or a folder a class alone.

Pictures may lie deeper: their class is the first folder below the part's. Names may be in any script; they are data,
and nothing is looked up by them.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bakeoff.data import listing
from bakeoff.data.listing import Listing, OwnPart
from bakeoff.errors import DataError

NAMES: dict[OwnPart, tuple[str, ...]] = {
    "train": ("train", "training", "train_dataset"),
    "val": ("val", "valid", "validation", "val_dataset"),
    "test": ("test", "testing", "test_dataset"),
}
LINKS = "links that lead out of the folder"
LOOSE = "pictures outside of any class"


def read(place: Path) -> Listing:
    """List the pictures of a folder, each part and class in the order of their names.

    Raises:
        DataError: no such folder, nothing to train on, or classes that do not fit.
    """
    if not place.is_dir():
        raise DataError(str(place), found="no such folder", expected="a folder of pictures")
    try:
        inside = [entry for entry in place.iterdir() if entry.is_dir()]
        found = {part: [entry for entry in inside if entry.name.lower() in names] for part, names in NAMES.items()}
        for part, folders in found.items():
            if len(folders) > 1:
                both = " and ".join(sorted(entry.name for entry in folders))
                raise DataError(str(place), found=f"{both}", expected=f"one folder for {part}")
        skipped: Counter[str] = Counter()
        if found["train"]:
            places: dict[OwnPart, Path] = {part: folders[0] for part, folders in found.items() if folders}
            for other in sorted(set(inside) - set(places.values())):
                skipped[f"pictures in {other.name}/"] += sum(1 for _ in _pictures(other, Counter()))
        else:
            _refuse_headless(place, [entry for folders in found.values() for entry in folders])
            places = {"train": place}
        rows = {part: list(_pictures(folder, skipped)) for part, folder in places.items()}
    except OSError as error:
        where = str(error.filename or place)
        raise DataError(where, found=f"'{error.strerror or error}'", expected="a folder to read") from error
    return listing.assemble(place, rows, skipped=+skipped)


def _refuse_headless(place: Path, parts: list[Path]) -> None:
    """Refuse a folder with a test and no train: their names are not those of classes."""
    if parts:
        found = f"{', '.join(sorted(entry.name for entry in parts))} and no train"
        raise DataError(str(place), found=found, expected="train/ beside it, or a folder a class and nothing else")


def _pictures(folder: Path, skipped: Counter[str]) -> Iterator[tuple[Path, str]]:
    """Yield path and class of each picture below a part's folder, by name; links are followed only within it."""
    root = folder.resolve()
    for at, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        here = Path(at)
        skipped.update(LINKS for name in folders if (here / name).is_symlink())  # os.walk does not follow them
        relative = here.relative_to(folder).parts
        for name in sorted(files):
            path = here / name
            if not listing.is_picture(name) or name.startswith("."):
                listing.count(skipped, name)
            elif path.is_symlink() and not _leads_inside(path, root):
                skipped[LINKS] += 1
            elif not relative:
                skipped[LOOSE] += 1
            else:
                yield path, relative[0]


def _raise(error: OSError) -> None:
    """Let nobody train without the pictures of a folder that cannot be read."""
    raise error


def _leads_inside(link: Path, root: Path) -> bool:
    """Tell whether a link ends below the root; one that leads to itself ends nowhere."""
    try:
        return link.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return False
