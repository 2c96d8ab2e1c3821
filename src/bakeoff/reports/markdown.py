"""The report as Markdown, as GitHub shows it: the same answer, tables and words as the page, with the PNG pictures."""

import re
from collections.abc import Iterator, Mapping

from bakeoff.reports import answer, formats, glossary, sheets, sheets_provenance
from bakeoff.reports.interactive import Told
from bakeoff.reports.sheets import Cell, Column, Sheet
from bakeoff.reports.words import Words
from bakeoff.results.comparison import Comparison

MOST_CLASSES = 10  # of the table of classes: half of them where the arm gains most, half where it loses most
_SPECIAL = re.compile(r"([\\`*\[\]|~$@#]|(?<!\w)_|_(?!\w)|(?<=www)\.|:(?=//))")
_STARTS_A_LIST = re.compile(r"^([-+]|\d+(?=[.)]\s))(?=[\s.)])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def markdown(comparison: Comparison, *, words: Words, pictures: Mapping[str, str], images: Told | None = None) -> str:
    """Return the report of a study.

    Args:
        comparison: what to report.
        words: its language.
        pictures: alt text by the name of the file, which lies beside the report.
        images: what the runs told by image; read here where it is not given.
    """
    return "\n\n".join(_blocks(comparison, words, pictures, images)) + "\n"


def escape(text: str) -> str:
    """Return a text that GitHub shows letter by letter, on one line: no mark-up, no table, no link, no mathematics."""
    line = " ".join(text.split()).encode(errors="replace").decode()
    plain = "".join(_ENTITIES.get(letter, letter) for letter in _SPECIAL.sub(r"\\\1", line))
    return _STARTS_A_LIST.sub(lambda found: f"{found[0]}\\" if found[0][-1].isdigit() else f"\\{found[0]}", plain)


def _blocks(comparison: Comparison, words: Words, pictures: Mapping[str, str], images: Told | None) -> Iterator[str]:
    study = comparison.study
    yield f"# {escape(study.question)}"
    if departures := formats.departures(study, words):
        yield f"**{escape(departures)}**"
    yield f"**{escape(answer.sentence(comparison, words=words))}**"
    if comparison.warnings:
        yield f"## {words('caveats')}"
        yield "\n".join(f"- {escape(warning)}" for warning in comparison.warnings)
    if pictures:
        yield f"## {words('pictures')}"
        yield from (f"![{escape(alt)}]({file})" for file, alt in pictures.items())
    for sheet in sheets.known(comparison, words=words, images=images):
        yield from _section(_extremes(sheet, words) if sheet.key == "per_class" else sheet, words, level="##")
    yield f"## {words('provenance')}"
    yield f"### {words('base')}"
    yield _fenced(study.control.trials[0].recipe.to_yaml(), "yaml")
    for sheet in sheets_provenance.known(comparison, words=words):
        yield from _section(sheet, words, level="###")
    yield f"## {words('glossary')}"
    terms = glossary.terms(comparison, words=words)
    yield "\n".join(f"- **{escape(term)}**: {escape(meaning)}" for term, meaning in terms)


def _section(sheet: Sheet, words: Words, *, level: str) -> Iterator[str]:
    yield f"{level} {words(sheet.key)}"
    if sheet.note:
        yield escape(sheet.note)
    if sheet.rows:
        yield table(sheet)


def table(sheet: Sheet) -> str:
    """Return one table in GitHub's Markdown; digits at the right."""
    lines = [
        [escape(_title(column)) for column in sheet.columns],
        ["---:" if column.numeric else "---" for column in sheet.columns],
        *([_cell(cell) for cell in row.cells] for row in sheet.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _title(column: Column) -> str:
    return f"{column.title} ({column.unit})" if column.unit else column.title


def _cell(cell: Cell) -> str:
    shown = ", ".join(f"[{escape(text)}]({address})" for text, address in cell.links) or escape(cell.text)
    if cell.detail:
        shown += f" ({escape(cell.detail)})"
    return " ".join([shown, *(f"**{escape(mark)}**" for mark in cell.marks)])


def _extremes(sheet: Sheet, words: Words) -> Sheet:
    """Keep the classes at both ends: of the difference to the control where there is one, else of recall."""
    if len(sheet.rows) <= MOST_CLASSES:
        return sheet
    titles = [column.title for column in sheet.columns]
    key = words("difference") if words("difference") in titles else words("recall")
    at = titles.index(key)

    def place(row: sheets.Row) -> float:
        value = row.cells[at].sort
        return value if isinstance(value, float) else 0.0

    ordered = sorted(sheet.rows, key=place, reverse=True)
    half = MOST_CLASSES // 2
    return Sheet(key=sheet.key, columns=sheet.columns, rows=(*ordered[:half], *ordered[-half:]), note=sheet.note)


def _fenced(text: str, kind: str) -> str:
    """Return a block of code; its fence is longer than any in it."""
    longest = max((len(found) for found in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{text.strip()}\n{fence}"
