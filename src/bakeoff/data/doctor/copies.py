"""What copies mean: the same picture on both sides of a split, under two labels, or several times in one part."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from bakeoff.data import near_duplicates
from bakeoff.data.doctor import alike
from bakeoff.data.doctor.alike import Alike, Pairs
from bakeoff.data.doctor.diagnosis import Case, Finding, seen
from bakeoff.data.doctor.survey import Survey

_EQUAL = "Every pixel is the same."
_NEAR = "They agree in small, whatever their brightness and contrast: the same shot, or one that looks the same."
_LIST = "--fix FILE.csv writes a list without them"


def find(survey: Survey, found: Alike) -> Iterator[Finding]:
    """Yield what there is to say of copies."""
    labels, parts = survey.labels, survey.part_of
    equal = [rows.tolist() for rows in found.equal]
    conflicts = [rows for rows in equal if len(set(labels[rows])) > 1]
    across = [rows for rows in equal if len(set(parts[rows])) > 1]
    inside = [rows for rows in equal if len(set(parts[rows])) == 1]
    near = _with_copies(found.near, equal)
    far = [pair for pair in near if _crosses(parts, pair)]
    close = [pair for pair in near if not _crosses(parts, pair)]
    if conflicts:
        yield _conflicts(survey, conflicts)
    if across:
        yield _across(survey, across)
    if far:
        yield _near_across(survey, far)
    if inside:
        yield _inside(survey, inside)
    if close:
        yield _near_inside(survey, close)
    if disputed := [pair for pair in near if _crosses(labels, pair)]:
        yield _near_conflicts(survey, disputed)
    if len(found.mirrored):
        yield _mirrored(survey, _with_copies(found.mirrored, equal))


def published(name: str, survey: Survey) -> Iterator[Finding]:
    """Yield what people who looked by eye have published of a set's copies."""
    if not len(listed := near_duplicates.listed(name)):
        return
    test = np.flatnonzero(survey.part_of == survey.parts.index("test"))
    is_numbered = near_duplicates.is_numbered(name, survey.labels[test])
    yield Finding(
        kind="published_copies",
        severity="note",
        title=f"ciFAIR lists {len(listed):,} test pictures with a near duplicate in train or test"
        + ("" if is_numbered else ", by numbers that these rows do not have"),
        meaning="People judged the nearest neighbours of each test picture by eye (Barz and Denzler, 2020).",
        advice="bakeoff eval RUN shows accuracy without them, beside the usual."
        if is_numbered
        else "The authors' own files have the order that the list counts in; with them, eval shows accuracy without "
        "these pictures.",
        cases=tuple(Case(pictures=(seen(survey, row),)) for row in test[listed]) if is_numbered else (),
    )


def _conflicts(survey: Survey, groups: Sequence[Sequence[int]]) -> Finding:
    return Finding(
        kind="label_conflict",
        severity="error",
        title=f"{len(groups)} {_plural('picture', groups)} with two labels or more",
        meaning=f"{_EQUAL} At most one of their labels is right, so no network can be right about all of them.",
        advice=_advice(survey, "Look at them and decide", _LIST),
        cases=_cases(survey, groups),
    )


def _across(survey: Survey, groups: Sequence[Sequence[int]]) -> Finding:
    return Finding(
        kind="equal_across_parts",
        severity="error",
        title=f"{len(groups)} {_plural('picture', groups)} in more than one part",
        meaning=f"{_EQUAL} What was learnt by heart is counted as understood: accuracy on them says nothing.",
        advice=_advice(survey, "Keep each in one part", f"{_LIST}, those of test stay in test"),
        cases=_cases(survey, groups),
    )


def _inside(survey: Survey, groups: Sequence[Sequence[int]]) -> Finding:
    extra = sum(len(rows) - 1 for rows in groups)
    return Finding(
        kind="equal_inside_part",
        severity="warning",
        title=f"{len(groups)} {_plural('picture', groups)} several times in one part ({extra} too many)",
        meaning=f"{_EQUAL} They count double, and an automatic split could part them.",
        advice=_advice(survey, "Keep one of each", _LIST),
        cases=_cases(survey, groups),
    )


def _near_across(survey: Survey, pairs: Sequence[Sequence[int]]) -> Finding:
    chains = _chains(pairs, len(survey))
    return Finding(
        kind="near_across_parts",
        severity="warning",
        title=f"{len(chains)} groups of near duplicates in more than one part",
        meaning=f"{_NEAR} Accuracy on them may be memory.",
        advice=_advice(survey, "Look at them", f"{_LIST}: each that is near one of test leaves train"),
        cases=_cases(survey, chains),
    )


def _near_inside(survey: Survey, pairs: Sequence[Sequence[int]]) -> Finding:
    chains = _chains(pairs, len(survey))
    return Finding(
        kind="near_inside_part",
        severity="note",
        title=f"{len(chains)} groups of near duplicates inside one part",
        meaning=f"{_NEAR} An automatic split could part them.",
        advice=_advice(survey, "Pictures of one group of a CSV stay together", "--fix FILE.csv numbers them"),
        cases=_cases(survey, chains),
    )


def _near_conflicts(survey: Survey, pairs: Sequence[Sequence[int]]) -> Finding:
    return Finding(
        kind="near_label_conflict",
        severity="warning",
        title=f"{len(pairs)} pairs of near duplicates with different labels",
        meaning=f"{_NEAR} One of the labels may be wrong.",
        advice=_advice(survey, "Look at them", "--fix keeps them, since they may only look alike"),
        cases=_cases(survey, pairs),
    )


def _mirrored(survey: Survey, pairs: Sequence[Sequence[int]]) -> Finding:
    parts, labels = survey.part_of, survey.labels
    across = sum(_crosses(parts, pair) for pair in pairs)
    disputed = sum(_crosses(labels, pair) for pair in pairs)
    return Finding(
        kind="mirrored",
        severity="warning" if across else "note",
        title=f"{len(pairs)} pairs are mirror images of each other ({across} across parts, {disputed} across classes)",
        meaning="Somebody has flipped pictures and stored the result, or they are symmetric and alike. "
        "With augment.flip=random such a pair is a copy.",
        advice=_advice(survey, "Keep them on one side of a split", "--fix FILE.csv gives them a group"),
        cases=_cases(survey, pairs),
    )


def _advice(survey: Survey, do: str, with_list: str) -> str:
    """Return what to do, and what a clean list does of it, where there can be one."""
    return f"{do}; {with_list}." if survey.has_files else f"{do}."


def _cases(survey: Survey, groups: Iterable[Sequence[int]]) -> tuple[Case, ...]:
    return tuple(Case(pictures=tuple(seen(survey, row) for row in rows)) for rows in groups)


def _with_copies(pairs: Pairs, equal: Iterable[Sequence[int]]) -> list[list[int]]:
    """List pairs of rows, and the same pairs of any copies of their rows."""
    copies = {rows[0]: rows for rows in equal}
    return [
        [one, other]
        for first, second in pairs.tolist()
        for one in copies.get(first, [first])
        for other in copies.get(second, [second])
    ]


def _crosses(values: Pairs, pair: Sequence[int]) -> bool:
    return bool(values[pair[0]] != values[pair[1]])


def _chains(pairs: Sequence[Sequence[int]], num: int) -> list[list[int]]:
    """Return what hangs together by pairs of `num` rows, each group sorted, in the order of their first rows."""
    numbers = alike.groups(num, [np.array(pairs, dtype=np.int64)])
    found: dict[int, list[int]] = {}
    for row in np.flatnonzero(numbers >= 0).tolist():
        found.setdefault(int(numbers[row]), []).append(row)
    return list(found.values())


def _plural(word: str, of: Sequence[object]) -> str:
    return word if len(of) == 1 else f"{word}s"
