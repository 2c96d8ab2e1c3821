"""What an examination says: findings, each with what it means, what to do, and the pictures concerned."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from bakeoff.data.doctor.survey import Survey

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # worst first


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A picture of a finding.

    Args:
        name: as people know it.
        part: train, val or test.
        label: the name of its class.
        row: its row in the survey.
    """

    name: str
    part: str
    label: str
    row: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One instance of a finding: pictures that belong together, or a class, with what there is to say of it."""

    note: str = ""
    pictures: tuple[Seen, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that a person should know before training.

    Args:
        kind: a short name that never changes, for programs.
        severity: error: numbers made of this data will be wrong; warning: they may be; note: good to know.
        title: what was found, in one line, with how much of it.
        meaning: why it matters.
        advice: what to do.
        cases: all of them.
    """

    kind: str
    severity: Severity
    title: str
    meaning: str
    advice: str
    cases: tuple[Case, ...] = ()

    @property
    def num_pictures(self) -> int:
        """How many different pictures are concerned."""
        return len({seen.row for case in self.cases for seen in case.pictures})


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A row of a clean list; the group is None where a picture is like no other."""

    path: Path
    label: str
    part: str
    group: int | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Diagnosis:
    """All that was found.

    Args:
        name: of the data set, as it was typed.
        place: its folder or file; None for a published set.
        classes: names.
        counts: part -> how many pictures each class has there, broken ones included.
        findings: the worst first.
        kept: the pictures of a clean list; empty where they are not files.
        left_out: why others are not on it -> how many.
        survey: what was seen, for who wants to show pictures.
    """

    name: str
    place: Path | None
    classes: tuple[str, ...]
    counts: Mapping[str, Sequence[int]]
    findings: tuple[Finding, ...]
    kept: tuple[Kept, ...]
    left_out: Mapping[str, int]
    survey: Survey

    @property
    def num_pictures(self) -> int:
        """How many pictures there are, broken ones included."""
        return sum(map(sum, self.counts.values()))

    def content(self) -> dict[str, Any]:
        """Return everything but the pictures, ready for JSON."""
        return {
            "data": self.name,
            "place": None if self.place is None else str(self.place),
            "pictures": {part: sum(counts) for part, counts in self.counts.items()},
            "classes": {
                name: {part: counts[index] for part, counts in self.counts.items()}
                for index, name in enumerate(self.classes)
            },
            "findings": [_finding(finding) for finding in self.findings],
        }


def seen(survey: Survey, row: int) -> Seen:
    """Return a picture as findings name it."""
    entry = survey.entries[row]
    return Seen(name=entry.name, part=entry.part, label=survey.classes[entry.label], row=int(row))


def _finding(finding: Finding) -> dict[str, Any]:
    content = asdict(finding) | {"num_pictures": finding.num_pictures, "num_cases": len(finding.cases)}
    for case in content["cases"]:
        for picture in case["pictures"]:
            del picture["row"]
    return content
