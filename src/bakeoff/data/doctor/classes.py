"""Classes: too few pictures, too unequal, absent from a part."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bakeoff.data.doctor.diagnosis import Case, Finding
from bakeoff.data.doctor.survey import Survey
from bakeoff.results.metrics import UNBALANCED

FEW = 10  # training pictures below which a class can hardly be learnt
_VERY_UNBALANCED = 10  # times as many pictures in the largest class as in the smallest


def counts(survey: Survey) -> dict[str, list[int]]:
    """Return part -> how many pictures each class has there."""
    labels, parts = survey.labels, survey.part_of
    return {
        part: np.bincount(labels[parts == number], minlength=len(survey.classes)).tolist()
        for number, part in enumerate(survey.parts)
    }


def find(classes: Sequence[str], counted: Mapping[str, Sequence[int]]) -> Iterator[Finding]:
    """Yield what the numbers of pictures say."""
    for part, numbers in counted.items():
        if absent := [name for name, number in zip(classes, numbers, strict=True) if not number]:
            yield Finding(
                kind="missing_classes",
                severity="warning",
                title=f"{len(absent)} of {len(classes)} classes have no picture in {part}: {_some(absent)}",
                meaning="Nothing can be said of them there; a mean over classes leaves them out.",
                advice=f"Add pictures to {part}, take these classes out, or say so beside every number.",
                cases=tuple(Case(note=name) for name in absent),
            )
    train = counted["train"]
    if few := [(name, number) for name, number in zip(classes, train, strict=True) if 0 < number < FEW]:
        yield Finding(
            kind="tiny_classes",
            severity="warning",
            title=f"{len(few)} of {len(classes)} classes have fewer than {FEW} training pictures: "
            f"{_some([name for name, _ in few])}",
            meaning="So few are learnt by heart or not at all.",
            advice="Collect more, join them with others, or take them out.",
            cases=tuple(Case(note=f"{name}: {number}") for name, number in few),
        )
    present = [number for number in train if number]
    ratio = max(present) / min(present) if present else 1.0
    if ratio >= UNBALANCED:
        most, least = (classes[train.index(of(present))] for of in (max, min))
        yield Finding(
            kind="unbalanced",
            severity="warning" if ratio >= _VERY_UNBALANCED else "note",
            title=f"the largest class has {ratio:.0f} times as many training pictures as the smallest",
            meaning=f"{most} has {max(present):,}, {least} {min(present):,}. A network that prefers large classes "
            "has a good top-1, and is poor on small ones.",
            advice="Read balanced accuracy and macro F1 beside top-1; data.balance=true or "
            "objective.class_weights=balanced evens them out.",
        )


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")
