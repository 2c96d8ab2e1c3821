"""A CSV of pictures: path, label, and where they are known, split and group."""

import csv
import io
from pathlib import Path

from bakeoff.data import listing
from bakeoff.data.listing import NAMES, PARTS, Listing, OwnPart
from bakeoff.errors import DataError, nearest

REQUIRED, OPTIONAL = ("path", "label"), ("split", "group")
EXPECTED = f"a CSV with a header of {', '.join(REQUIRED)}, and if they are known {', '.join(OPTIONAL)}"


def read(place: Path) -> Listing:
    """List the pictures of a CSV in the order of its rows; a path is taken from the CSV's folder.

    Raises:
        DataError: no such file, a missing column, a row without path or label, an unknown split.
    """
    rows: dict[OwnPart, list[tuple[Path, str]]] = {part: [] for part in PARTS}
    groups: dict[OwnPart, list[str]] = {part: [] for part in PARTS}
    header: list[str] = []
    try:
        text = listing.read_file(place, what="a CSV").decode("utf-8-sig")
        lines = csv.DictReader(io.StringIO(text, newline=""))
        header = [name.strip().lower() for name in lines.fieldnames or []]
        lines.fieldnames = header
        _check_header(place, header)
        for row in lines:
            where = f"{place}, line {lines.line_num}"
            path, label = _required(row, where=where)
            part = _part(row.get("split") or "train", where=where)
            rows[part].append((place.parent / path, label))
            groups[part].append((row.get("group") or "").strip())
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(str(place), found=f"'{error}'", expected=EXPECTED) from error
    return listing.assemble(place, rows, groups=groups if "group" in header else None)


def _check_header(place: Path, header: list[str]) -> None:
    if twice := [column for column in (*REQUIRED, *OPTIONAL) if header.count(column) > 1]:
        raise DataError(str(place), found=f"several columns '{twice[0]}'", expected=EXPECTED)
    for column in REQUIRED:
        if column not in header:
            found = f"no column '{column}' among {', '.join(header)[:200] or 'nothing'}"
            raise DataError(str(place), found=found, expected=EXPECTED, hint=nearest(column, header))


def _required(row: dict[str, str], *, where: str) -> tuple[str, str]:
    if None in row:  # what DictReader puts beyond the header
        hint = "A path or label with a comma stands in double quotes."
        raise DataError(where, found="more cells than the header has", expected="a cell a column", hint=hint)
    path, label = ((row.get(column) or "").strip() for column in REQUIRED)
    if not path or not label:
        raise DataError(where, found="no path" if not path else "no label", expected="both, in each row")
    return path, label


def _part(split: str, *, where: str) -> OwnPart:
    """Return the part that a split's name means."""
    if (part := listing.part_of(split)) is not None:
        return part
    known = [name for names in NAMES.values() for name in names]
    raise DataError(where, found=f"split '{split}'", expected="train, val or test", hint=nearest(split, known))
