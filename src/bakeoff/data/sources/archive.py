"""A .zip of a folder of pictures, read where it is: nothing is unpacked, so no name in it leads anywhere."""

import re
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from bakeoff.data import decode, listing
from bakeoff.data.listing import LINKS, LOOSE, Listing, OwnPart
from bakeoff.errors import DataError

UNSAFE = "names that lead out of the archive"
_ENCRYPTED = 0x1  # of a member's flags

Member = tuple[tuple[str, ...], ZipInfo]  # its name in pieces


def is_one(place: Path) -> bool:
    """Tell whether there is a file that is called a .zip."""
    return place.suffix.lower() == ".zip" and place.is_file()


def read(place: Path) -> Listing:
    """List the pictures of an archive as `folder.read` lists those of a folder.

    A single folder around all of them is looked into. Names that lead out, links, encrypted files and second files of a
    name are passed over, and counted.

    Raises:
        DataError: a damaged archive, no picture in it, or classes that do not fit.
    """
    skipped: Counter[str] = Counter()
    try:
        archive = ZipFile(place)
        members = _unwrapped(_pictures(archive.infolist(), skipped))
    except Exception as error:  # a reader fed with garbage can raise anything
        raise DataError(str(place), found=f"damage ({error})", expected="a whole .zip", hint="Get it again.") from error
    deep = {parts[0]: False for parts, _ in members if len(parts) > 1}
    deep |= {parts[0]: True for parts, _ in members if len(parts) > 2}
    names = listing.parts_among(place, deep)
    inside = {part: _below(members, name) for part, name in names.items()} or {"train": members}
    for pieces, _ in members:
        if len(pieces) == 1 and names:
            skipped[LOOSE] += 1
        elif names and pieces[0] not in names.values():
            skipped[f"pictures in {pieces[0]}/"] += 1
    rows: dict[OwnPart, list[tuple[Path, str]]] = {}
    encoded: dict[OwnPart, _Encoded] = {}
    for part, found in inside.items():
        in_class = [(pieces[0], info) for pieces, info in found if len(pieces) > 1]
        skipped[LOOSE] += len(found) - len(in_class)
        rows[part] = [(place / info.filename, name) for name, info in in_class]
        encoded[part] = _Encoded(archive, [info for _, info in in_class])
    return listing.assemble(place, rows, encoded=encoded, files={part: [place] for part in rows}, skipped=+skipped)


class _Encoded:
    """Gives the encoded file of a row; several threads may ask."""

    def __init__(self, archive: ZipFile, infos: Sequence[ZipInfo]) -> None:
        self.archive, self.infos = archive, infos

    def __call__(self, row: int) -> bytes:
        info = self.infos[row]
        where = f"{self.archive.filename}: {info.filename}"
        if info.file_size > decode.MOST_BYTES:
            found, most = f"{info.file_size:,} bytes", f"{decode.MOST_BYTES:,}"
            raise DataError(where, found=found, expected=f"a picture of at most {most}")
        try:
            with self.archive.open(info) as file:
                return file.read(info.file_size)  # no more, whatever is packed there
        except Exception as error:  # a reader fed with garbage can raise anything
            raise DataError(where, found=f"damage ({error})", expected="a picture to read") from error


def _pictures(infos: Sequence[ZipInfo], skipped: Counter[str]) -> list[Member]:
    """Return what can be pictures, by name, and count the rest."""
    found: dict[tuple[str, ...], ZipInfo] = {}
    for info in infos:
        pieces = tuple(re.split(r"[/\\]", info.filename))
        if info.is_dir() or any(listing.is_hidden(piece) and piece != ".." for piece in pieces):
            continue
        if not listing.is_picture(pieces[-1]):
            listing.count(skipped, pieces[-1])
        elif not set(pieces).isdisjoint(("", "..")):
            skipped[UNSAFE] += 1
        elif stat.S_ISLNK(info.external_attr >> 16):
            skipped[LINKS] += 1
        elif info.flag_bits & _ENCRYPTED:
            skipped["encrypted files"] += 1
        elif pieces in found:
            skipped["files of a name that was there before"] += 1
        else:
            found[pieces] = info
    return sorted(found.items(), key=lambda member: member[0])


def _below(members: Sequence[Member], folder: str) -> list[Member]:
    """Return what is in a folder, or in the one of its name that is all it has, as in train/train/CLASS."""
    inside = [(pieces[1:], info) for pieces, info in members if pieces[0] == folder and len(pieces) > 1]
    return _below(inside, folder) if inside and all(len(p) > 2 and p[0] == folder for p, _ in inside) else inside


def _unwrapped(members: list[Member]) -> list[Member]:
    """Take the one folder away that is around everything, and does not say which part it is."""
    around = {pieces[0] for pieces, _ in members}
    if len(around) != 1 or listing.part_of(*around) is not None or any(len(pieces) < 3 for pieces, _ in members):
        return members
    return _unwrapped([(pieces[1:], info) for pieces, info in members])
