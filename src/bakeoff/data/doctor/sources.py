"""Names that tell of a common source: `7_0003.png` and `7_0003_j.png`, or `00012_00000.png` to `00012_00029.png`.

Frames of one scene on both sides of a split make a test easy, and only names may tell of it. A rule of names is a
guess: it is held against the pictures before anything is claimed.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.doctor import alike
from bakeoff.data.doctor.diagnosis import Case, Finding, seen
from bakeoff.data.doctor.survey import Survey

RULES = {  # what to ignore of a name -> how: what is left is the stem
    "what stands after the last number": re.compile(r"^(.*\d)\D+$"),
    "the last number": re.compile(r"^(.*\d\D*?)[\W_]\d+\D*$"),
}
_NUMBER = re.compile(r"^(.*?)(\d{1,18})(\D*)$")
_FEWEST = 3  # stems on both sides of a split, below which a rule says nothing
_MOST_PAIRS = 2_000  # that are looked at for one rule
_CLEAR, _SIGMAS = 0.7, 4.0  # share of pairs that must be nearer than chance, and how surely it must be above a half


@dataclass(frozen=True, kw_only=True, slots=True)
class _Held:
    """A rule held against the pictures: of so many pairs with one stem, the share nearer than a stranger's."""

    share: float
    num: int

    @property
    def is_real(self) -> bool:
        return self.share >= _CLEAR and (self.share - 0.5) * 2 * math.sqrt(self.num) >= _SIGMAS


def find(survey: Survey) -> Iterator[Finding]:
    """Yield what file names tell about parts that share sources."""
    if len(survey.parts) < 2 or not survey.has_files:
        return
    near = _neighbours(survey)
    if len(near) >= _FEWEST and (held := _hold(survey, near)) is not None and held.is_real:
        yield _in_sequence(survey, near, held)
    for ignored, rule in RULES.items():
        stems = _stems(survey, rule)
        across = {stem: rows for stem, rows in stems.items() if len({survey.entries[row].part for row in rows}) > 1}
        if len(across) >= _FEWEST and _is_telling(stems, survey):
            yield _finding(survey, ignored, across, _hold(survey, across))


def _stems(survey: Survey, rule: re.Pattern[str]) -> dict[tuple[int, str], list[int]]:
    """Return class and stem -> rows of readable pictures; names begin anew in each class."""
    found: dict[tuple[int, str], list[int]] = {}
    for row in survey.readable.tolist():
        entry = survey.entries[row]
        name = PurePath(entry.name).stem
        match = rule.match(name)
        found.setdefault((entry.label, match.group(1) if match else name), []).append(row)
    return found


def _neighbours(survey: Survey) -> dict[tuple[int, str], list[int]]:
    """Return class and numbers -> two rows of different parts whose names differ by one in their last number."""
    numbered: dict[tuple[int, str, str, int], int] = {}
    for row in survey.readable.tolist():
        entry = survey.entries[row]
        if match := _NUMBER.match(PurePath(entry.name).stem):
            before, digits, after = match.groups()
            numbered[entry.label, before, after, int(digits)] = row
    pairs = {}
    for (label, before, after, number), row in numbered.items():
        other = numbered.get((label, before, after, number + 1))
        if other is not None and survey.entries[other].part != survey.entries[row].part:
            pairs[label, f"{before}{number}{after}"] = [row, other]
    return pairs


def _in_sequence(survey: Survey, near: Mapping[tuple[int, str], Sequence[int]], held: _Held) -> Finding:
    return Finding(
        kind="neighbouring_numbers",
        severity="warning",
        title=f"{len(near):,} pictures have their next number in another part, and neighbours are alike",
        meaning=f"{held.share:.0%} of {held.num:,} such pairs are more alike than one of them and a stranger of the "
        "same class and part (chance: 50 %). Pictures taken one after the other were parted at random: test is easier "
        "than a new place would be.",
        advice="Part by place or recording, if that can be known: a CSV with a column group keeps them on one side.",
        cases=tuple(Case(pictures=tuple(seen(survey, row) for row in rows)) for rows in near.values()),
    )


def _is_telling(stems: Mapping[tuple[int, str], Sequence[int]], survey: Survey) -> bool:
    """Refuse a rule that leaves one stem a class: that is the name of the class."""
    shared = {stem for stem, rows in stems.items() if len(rows) > 1}
    return len(shared) >= _FEWEST and len(stems) >= 2 * len({label for label, _ in stems}) and len(stems) < len(survey)


def _hold(survey: Survey, across: Mapping[tuple[int, str], Sequence[int]]) -> _Held | None:
    """Compare pairs of one stem in two parts with pairs of two stems in the same parts and class.

    None where there is no stranger to compare with.
    """
    draw = np.random.Generator(np.random.Philox(0))
    parts, labels = survey.part_of, survey.labels
    stem_of = np.full(len(survey), -1, dtype=np.int64)
    for number, rows in enumerate(across.values()):
        stem_of[rows] = number
    readable = survey.readable
    ours: list[tuple[int, int]] = []
    strangers: list[tuple[int, int]] = []
    for number, rows in enumerate(list(across.values())[:_MOST_PAIRS]):
        one = int(rows[0])
        other = next(row for row in rows if parts[row] != parts[one])
        alien = (parts[readable] == parts[other]) & (labels[readable] == labels[one]) & (stem_of[readable] != number)
        if alien.any():
            ours.append((one, other))
            strangers.append((one, int(draw.choice(readable[alien]))))
    if not ours:
        return None
    near, far = (_likeness(survey, pairs) for pairs in (ours, strangers))
    return _Held(share=float(((near > far) + (near == far) / 2).mean()), num=len(ours))


def _likeness(survey: Survey, pairs: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    return alike.likeness(survey.small, np.array(pairs, dtype=np.int64))


def _finding(
    survey: Survey, ignored: str, across: Mapping[tuple[int, str], Sequence[int]], held: _Held | None
) -> Finding:
    cases = tuple(
        Case(note=f"{survey.classes[label]}: {stem}", pictures=tuple(seen(survey, row) for row in rows))
        for (label, stem), rows in across.items()
    )
    example = " and ".join(PurePath(picture.name).name for picture in cases[0].pictures[:2])
    title = f"{len(across):,} groups of names are in more than one part, if {ignored} is ignored (as {example})"
    if held is not None and held.is_real:
        return Finding(
            kind="shared_sources",
            severity="error",
            title=title,
            meaning=f"The pictures agree: {held.share:.0%} of {held.num:,} such pairs are more alike than one of them "
            "and a stranger of the same class and part (by chance: 50 %). Test shows what train showed.",
            advice="Part the pictures by source: a CSV with a column group keeps them on one side.",
            cases=cases,
        )
    told = "there were no strangers to compare with"
    if held is not None:
        told = (
            f"{held.share:.0%} of {held.num:,} such pairs are more alike than strangers of their class (chance: 50 %)"
        )
    return Finding(
        kind="shared_names",
        severity="note",
        title=title,
        meaning=f"A guess by names, which the pictures do not bear out: {told}.",
        advice="If you know that such names mean one source, part by source: a CSV with a column group does that.",
        cases=cases,
    )
