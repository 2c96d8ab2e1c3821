"""A clean list of a data set: what to train on, as a CSV that `csv:FILE` reads. The pictures stay as they are."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.doctor.alike import Alike, groups
from bakeoff.data.doctor.diagnosis import Kept
from bakeoff.data.doctor.survey import Survey
from bakeoff.errors import DataError, StorageError
from bakeoff.results.files import storage_errors

_LAST_WORD = ("test", "val", "train")  # of two copies in two parts, the one in the first of these stays
HEADER = ("path", "label", "split", "group")


def choose(survey: Survey, alike: Alike) -> tuple[tuple[Kept, ...], dict[str, int]]:
    """Return what stays, and why the rest does not -> how many.

    Broken pictures go, and those with two labels; of equal ones, one stays; what is like one of test leaves train and
    val, and what is like one of val leaves train. Near duplicates inside a part stay, and share a group.
    """
    why: dict[int, str] = dict.fromkeys(survey.broken, "cannot be read")
    place = {part: number for number, part in enumerate(_LAST_WORD)}
    rank = np.array([place[entry.part] for entry in survey.entries], dtype=np.int64)
    for row, entry in enumerate(survey.entries):
        if entry.path is not None and not _is_writable(entry.path):
            why.setdefault(row, "a name that no CSV can hold")
    _drop_equal(survey, alike, rank, why)
    _drop_near(alike, rank, why)
    _drop_unlearnt(survey, why)
    return tuple(_kept(survey, alike, why)), dict(Counter(why.values()))


def _drop_equal(survey: Survey, alike: Alike, rank: NDArray[np.int64], why: dict[int, str]) -> None:
    """Leave one of each group of equal pictures, and none where their labels differ."""
    labels = survey.labels
    for rows in alike.equal:
        left = [row for row in rows.tolist() if row not in why]
        if len(set(labels[rows].tolist())) > 1:
            why.update(dict.fromkeys(left, "one picture with several labels"))
        elif left:
            stays = min(left, key=lambda row: (rank[row], row))
            why.update({row: "a copy of one that stays" for row in left if row != stays})


def _drop_near(alike: Alike, rank: NDArray[np.int64], why: dict[int, str]) -> None:
    """Of a pair of near duplicates in two parts, leave the one in the part that has the last word."""
    copies = {int(rows[0]): rows.tolist() for rows in alike.equal}
    for pair in alike.near.tolist():
        left = [row for first in pair for row in copies.get(first, [first]) if row not in why]
        best = min((rank[row] for row in left), default=0)
        why.update({row: "near a picture of another part" for row in left if rank[row] > best})


def _drop_unlearnt(survey: Survey, why: dict[int, str]) -> None:
    """Leave out what is left of a class that has no picture to train on any more: no list could be trained with it."""
    left = [(entry.part, entry.label) for row, entry in enumerate(survey.entries) if row not in why]
    learnt = {label for part, label in left if part == "train"}
    for row, entry in enumerate(survey.entries):
        if entry.label not in learnt:
            why.setdefault(row, "of a class that has nothing left to train on")


def _is_writable(path: Path) -> bool:
    """Tell whether a path comes back from a CSV as it was: UTF-8, and no blanks at its ends."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return text == text.strip() and "\0" not in text


def _kept(survey: Survey, alike: Alike, why: Mapping[int, str]) -> Iterator[Kept]:
    """Yield what stays, with the groups that the data set itself names joined with those of copies."""
    number = groups(len(survey), [_chains(alike.groups), _chains(_own_groups(survey))])
    left = np.array([row not in why for row in range(len(survey))], dtype=bool)
    counts = Counter(number[left].tolist())
    for row, entry in enumerate(survey.entries):
        if row not in why and entry.path is not None:
            group = int(number[row])
            shared = group if group >= 0 and counts[group] > 1 else None
            yield Kept(path=entry.path, label=survey.classes[entry.label], part=entry.part, group=shared)


def _own_groups(survey: Survey) -> NDArray[np.int64]:
    """Return the groups that the data set names, apart by part: its numbers begin anew in each."""
    most = 1 + max((entry.group for entry in survey.entries), default=0)
    index = {part: number for number, part in enumerate(survey.parts)}
    told = [entry.group + most * index[entry.part] if entry.group >= 0 else -1 for entry in survey.entries]
    return np.array(told, dtype=np.int64)


def _chains(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return pairs [m 2] that link the rows of each number; -1 links nothing."""
    order = np.argsort(numbers, kind="stable")
    linked = (numbers[order][:-1] == numbers[order][1:]) & (numbers[order][1:] >= 0)
    return np.stack([order[:-1][linked], order[1:][linked]], axis=1)


def refuse_existing(path: Path) -> None:
    """Refuse to write over anything.

    Raises:
        StorageError: something is there.
    """
    if os.path.lexists(path):
        raise StorageError(str(path), found="a file of that name", expected="a new one: nothing is overwritten")


def write(path: Path, kept: Iterable[Kept]) -> None:
    """Write a list; paths are relative to it where they lie below its folder.

    Raises:
        DataError: there is nothing to write.
        StorageError: the file is there already, or the disk refuses.
    """
    rows = list(kept)
    if not rows:
        raise DataError(str(path), found="no picture that stays", expected="pictures that can be read")
    refuse_existing(path)
    home = path.absolute().parent
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    for row in rows:
        where = row.path.absolute()
        shown = where.relative_to(home) if where.is_relative_to(home) else where
        writer.writerow([str(shown), row.label, row.part, "" if row.group is None else row.group])
    content = buffer.getvalue().encode()
    with storage_errors(path, size=len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:  # not even over a file that came meanwhile
            file.write(content)
