"""The page of an examined data set: findings, the worst first, with the pictures that show them.

It holds no script, and its pictures itself: what it may do is written at its top, as in `page`.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bakeoff.reports import canvas, page

MOST_CASES, MOST_PICTURES, MOST_CLASSES = 24, 6, 500  # of a finding, of a case, of the table: a page below 5 MB
MOST_ON_PAGE = 400  # pictures

SEVERITIES = {"error": "wrong", "warning": "look", "note": "note"}  # how they are called on a page
_STYLE = """
.cases { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: 1rem; padding: 0; list-style: none; }
.cases li { max-width: 100%; padding: .6rem .7rem; border: 1px solid var(--line); border-radius: .4rem; }
.shots { display: flex; flex-wrap: wrap; gap: .7rem; }
.shots figure { width: 6.2rem; margin: 0; }
.shots img { display: block; width: 4.5rem; height: 4.5rem; object-fit: contain; background: var(--wash); }
.exact { image-rendering: pixelated; }
figcaption { margin-top: .3rem; font-size: .75rem; line-height: 1.3; overflow-wrap: anywhere; }
figcaption .note { font-size: inherit; }
.plain { max-width: var(--measure); margin-top: .8rem; padding-left: 1.2rem; font-size: .92rem; }
.plain li { overflow-wrap: anywhere; }
.mark.error { color: var(--warn); font-weight: 700; }
.mark.note { color: var(--soft); }
h2 .mark { vertical-align: .15em; }
.advice { max-width: var(--measure); margin-top: .4rem; }
code { font: .88em ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """A picture on the page.

    Args:
        name: of the picture.
        about: its part and class.
        media: the type of `content`; empty where the picture cannot be shown.
        content: the encoded small picture.
    """

    name: str
    about: str
    media: str = ""
    content: bytes = b""

    @property
    def address(self) -> str:
        """What an img element shows."""
        return f"data:{self.media};base64,{base64.b64encode(self.content).decode()}"

    @property
    def is_exact(self) -> bool:
        """Whether it is shown pixel by pixel."""
        return self.media == "image/png"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Pictures that belong together, with what is said of them, and how many more there are."""

    note: str
    shots: tuple[Shot, ...]
    more: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A finding, with some of its cases, and how many more there are."""

    kind: str
    severity: str
    title: str
    meaning: str
    advice: str
    num_pictures: int
    cases: tuple[Case, ...]
    more: int = 0

    @property
    def mark(self) -> str:
        """How its severity is called."""
        return SEVERITIES[self.severity]

    @property
    def has_shots(self) -> bool:
        """Whether any of its cases shows a picture."""
        return any(case.shots for case in self.cases)


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """All that the page says.

    Args:
        name: of the data set.
        sections: its findings, the worst first.
        classes: names.
        counts: part -> how many pictures each class has there.
        following: commands to type next.
    """

    name: str
    sections: tuple[Section, ...]
    classes: tuple[str, ...]
    counts: Mapping[str, Sequence[int]]
    following: tuple[str, ...] = ()


def answer(severities: Sequence[str]) -> str:
    """Return the answer in one sentence."""
    wrong, look = (sum(severity == kind for severity in severities) for kind in ("error", "warning"))
    if wrong:
        return f"{_things(wrong)} to mend before numbers made of these pictures can be trusted, {look} more to look at."
    if look:
        return f"Nothing is plainly wrong; {_things(look).lower()} to look at."
    return "Nothing was found that is wrong."


def html(health: Health) -> str:
    """Return the page as one self-contained file; the same content gives the same text."""
    environment = page.environment()
    style = environment.get_template("page.css").render(colours=canvas) + _STYLE
    parts = {part: sum(counts) for part, counts in health.counts.items()}
    text = environment.get_template("health.html").render(
        health=health,
        answer=answer([section.severity for section in health.sections]),
        parts=parts,
        rows=list(zip(health.classes, *health.counts.values(), strict=True))[:MOST_CLASSES],
        unlisted=max(0, len(health.classes) - MOST_CLASSES),
        style=style,
        policy=page.policy(scripts=[], styles=[style]),
    )
    return text.encode(errors="replace").decode()  # half a character, of a file's name, has no place in UTF-8


def _things(number: int) -> str:
    return "One thing" if number == 1 else f"{number} things"
