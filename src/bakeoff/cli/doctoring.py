"""The verb that examines pictures before anything is trained on them."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bakeoff.catalogue import is_own
from bakeoff.cli import screen, words
from bakeoff.cli.options import Json
from bakeoff.cli.pictures import counting
from bakeoff.errors import RecipeError, StorageError, nearest

if TYPE_CHECKING:
    from bakeoff.data.doctor import Diagnosis, Finding, Seen
    from bakeoff.reports.health import Section, Shot

EXAMPLE = "bakeoff doctor folder:my_pictures"
PAGE = "health.html"


def doctor(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="DATASET [KEY=VALUE]...",
            help="folder:PATH, csv:FILE, parquet:PATH, hf:OWNER/NAME, or cifar100; of a table its columns.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder of the page; default: doctor-NAME, here.")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option("--fix", help="Write a clean list of pictures to this new CSV; none is changed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Examine pictures: broken files, duplicates, leaks between splits, wrong labels, uneven classes.

    Every picture is opened once, nothing in the data set is changed, and what is found is the result, not a failure.

    [dim]bakeoff doctor folder:my_pictures --fix clean.csv[/]
    """
    from bakeoff.data import doctor as doctors
    from bakeoff.data import own
    from bakeoff.data.doctor import clean

    names, settings = words.split(arguments)
    columns = _columns(settings)
    name = words.one(names, "data set", EXAMPLE)
    folder = out or Path(f"doctor-{_slug(name)}")
    kind, _, path = name.partition(":")
    for written in (folder, fix):
        if written is not None and is_own(name) and kind != "hf":
            _keep_out(written, own.place(path))
    if fix is not None:
        clean.refuse_existing(fix)
    with counting(name) as tell:
        diagnosis = doctors.examine(name, **columns, tell=tell)
    if fix is not None:
        _write_list(diagnosis, fix)
    page = _write_page(diagnosis, folder, fix=fix)
    if as_json:
        content = diagnosis.content() | {"page": str(page), "fixed": None if fix is None else _fixed(diagnosis, fix)}
        screen.print_json(content)
        return
    _print(diagnosis, page, fix=fix)


def _columns(settings: Sequence[str]) -> dict[str, str]:
    """Return which columns of a table were named, as training takes them."""
    from bakeoff import recipe

    known = {"data.image_column": "image", "data.label_column": "label"}
    found = {}
    for text in settings:
        key, value = recipe.setting(text)
        if key not in known:
            expected, hint = f"one of {', '.join(known)}", nearest(key, known)
            raise RecipeError("command line", found=f"an unknown key '{key}'", expected=expected, hint=hint)
        found[known[key]] = str(value)
    return found


def _slug(name: str) -> str:
    """Return the end of a data set's name as a part of a folder's name."""
    last = name.partition(":")[2].rstrip("/").rpartition("/")[2] if ":" in name else name
    return re.sub(r"[^\w.-]+", "-", last).strip(".-")[:80] or "pictures"


def _keep_out(path: Path, place: Path) -> None:
    """Refuse to write into the data set."""
    if place.is_dir() and path.resolve().is_relative_to(place.resolve()):
        raise RecipeError(str(path), found=f"a place inside {place}", expected="a place outside of the data set")


def _write_list(diagnosis: "Diagnosis", path: Path) -> None:
    from bakeoff.data.doctor import clean

    if diagnosis.place is None or not diagnosis.kept:
        found = f"'{diagnosis.name}', whose pictures are no files, or of which none can be read"
        raise RecipeError("--fix", found=found, expected="folder:PATH or csv:FILE")
    clean.write(path, diagnosis.kept)


def _write_page(diagnosis: "Diagnosis", folder: Path, *, fix: Path | None) -> Path:
    from bakeoff.reports import health
    from bakeoff.results.files import write_atomically

    shots = _Shots(diagnosis)
    content = health.Health(
        name=diagnosis.name,
        sections=tuple(_section(finding, shots) for finding in diagnosis.findings),
        classes=diagnosis.classes,
        counts=diagnosis.counts,
        following=tuple(_following(diagnosis, fix)),
    )
    page = folder / PAGE
    if folder.exists() and not folder.is_dir():
        raise StorageError(str(folder), found="a file", expected="a folder, or nothing yet")
    write_atomically(page, health.html(content).encode())
    return page


class _Shots:
    """Small pictures, each made once, until there are as many as a page may hold."""

    def __init__(self, diagnosis: "Diagnosis") -> None:
        from bakeoff.reports import health

        self.survey, self.made, self.left = diagnosis.survey, dict[int, tuple[str, bytes]](), health.MOST_ON_PAGE

    def shot(self, picture: "Seen") -> "Shot":
        from bakeoff.data.doctor.thumbnails import thumbnail
        from bakeoff.reports import health

        if picture.row not in self.made and self.left:
            self.made[picture.row] = thumbnail(self.survey, picture.row) or ("", b"")
        media, content = self.made.get(picture.row, ("", b"")) if self.left else ("", b"")
        self.left -= bool(content)
        about = f"{picture.part}: {picture.label}"
        return health.Shot(name=picture.name, about=about, media=media, content=content)


def _section(finding: "Finding", shots: _Shots) -> "Section":
    from bakeoff.reports import health

    shown = finding.cases[: health.MOST_CASES]
    return health.Section(
        kind=finding.kind,
        severity=finding.severity,
        title=finding.title,
        meaning=finding.meaning,
        advice=finding.advice,
        num_pictures=finding.num_pictures,
        cases=tuple(
            health.Case(
                note=case.note,
                shots=tuple(shots.shot(picture) for picture in case.pictures[: health.MOST_PICTURES]),
                more=max(0, len(case.pictures) - health.MOST_PICTURES),
            )
            for case in shown
        ),
        more=len(finding.cases) - len(shown),
    )


def _following(diagnosis: "Diagnosis", fix: Path | None) -> Iterator[str]:
    """Yield what a person would most likely type next."""
    if fix is not None:
        yield f"bakeoff train MODEL {shlex.quote(f'data=csv:{fix}')}"
    elif diagnosis.left_out and diagnosis.kept:
        yield f"bakeoff doctor {shlex.quote(diagnosis.name)} --fix clean.csv"
    else:
        yield f"bakeoff train MODEL {shlex.quote(f'data={diagnosis.name}')}"


def _fixed(diagnosis: "Diagnosis", fix: Path) -> dict[str, object]:
    groups = {row.group for row in diagnosis.kept if row.group is not None}
    return {
        "file": str(fix),
        "kept": len(diagnosis.kept),
        "left_out": dict(diagnosis.left_out),
        "groups": len(groups),
    }


def _print(diagnosis: "Diagnosis", page: Path, *, fix: Path | None) -> None:
    """Print the answer, a row a finding, where things are, and what to type next."""
    from rich.markup import escape

    from bakeoff.reports import health

    out = screen.console()
    parts = ", ".join(f"{sum(counts):,} in {part}" for part, counts in diagnosis.counts.items())
    out.print(health.answer([finding.severity for finding in diagnosis.findings]), style="bold", markup=False)
    if diagnosis.findings:
        rows = [
            {
                "": health.SEVERITIES[finding.severity],
                "found": _printable(finding.title),
                "pictures": finding.num_pictures or None,
            }
            for finding in diagnosis.findings
        ]
        screen.print_rows(escape(f"{diagnosis.name}: {parts}, {len(diagnosis.classes)} classes"), rows)
    out.print(f"  page     {page}", markup=False)
    if fix is not None:
        left = ", ".join(f"{count:,} {why}" for why, count in diagnosis.left_out.items()) or "nothing"
        out.print(f"  list     {fix}: {len(diagnosis.kept):,} pictures; left out: {left}", markup=False)
    for command in _following(diagnosis, fix):
        out.print(f"  next     {command}", markup=False)


def _printable(text: str) -> str:
    """Return a text without what a terminal would obey: file names may hold anything."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
