"""Folders of pictures: `train/ val/ test/` with a folder a class in each, or a folder a class alone.

Pictures may lie deeper: their class is the first folder below the part's. Names may be in any script; they are data,
and nothing is looked up by them.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bakeoff.data import listing
from bakeoff.data.listing import LINKS, LOOSE, Listing
from bakeoff.errors import DataError


def read(place: Path) -> Listing:
    """List the pictures of a folder, each part and class in the order of their names.

    Raises:
        DataError: no such folder, no picture in it, or classes that do not fit.
    """
    if not place.is_dir():
        found, hint = ("a file", "Unpack it, unless it is a .zip.") if place.is_file() else ("no such folder", "")
        raise DataError(str(place), found=found, expected="a folder of pictures, or a .zip of one", hint=hint)
    try:
        inside = _folders(place)
        names = listing.parts_among(place, {folder.name: bool(_folders(folder)) for folder in inside})
        places = {part: _inner(place / name) for part, name in names.items()} or {"train": place}
        skipped: Counter[str] = Counter()
        for other in sorted(folder for folder in inside if names and folder.name not in names.values()):
            skipped[f"pictures in {other.name}/"] += sum(1 for _ in _pictures(other, Counter()))
        rows = {part: list(_pictures(folder, skipped)) for part, folder in places.items()}
    except OSError as error:
        where = str(error.filename or place)
        raise DataError(where, found=f"'{error.strerror or error}'", expected="a folder to read") from error
    return listing.assemble(place, rows, skipped=+skipped)


def _folders(place: Path) -> list[Path]:
    return [entry for entry in place.iterdir() if entry.is_dir()]


def _inner(part: Path) -> Path:
    """Return the folder that holds the classes: some archives have train/train/CLASS."""
    inside = list(part.iterdir())
    goes_on = [entry.name for entry in inside] == [part.name] and inside[0].is_dir() and not inside[0].is_symlink()
    return _inner(inside[0]) if goes_on else part


def _pictures(folder: Path, skipped: Counter[str]) -> Iterator[tuple[Path, str]]:
    """Yield path and class of each picture below a part's folder, by name; links are followed only within it."""
    root = folder.resolve()
    for at, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not listing.is_hidden(name))
        here = Path(at)
        skipped.update(LINKS for name in folders if (here / name).is_symlink())  # os.walk does not follow them
        relative = here.relative_to(folder).parts
        for name in sorted(files):
            path = here / name
            if listing.is_hidden(name) or not listing.is_picture(name):
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
