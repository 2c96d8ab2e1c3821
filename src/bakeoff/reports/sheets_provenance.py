"""The tables of where the numbers come from: what arms change, machines, runs, looks at the test split."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from bakeoff.reports import formats, tables
from bakeoff.reports.sheets import Cell, Column, Row, Sheet, address, number, numeric, rows_of, text
from bakeoff.reports.words import Words
from bakeoff.results.comparison import Comparison


def known(comparison: Comparison, *, words: Words) -> Iterator[Sheet]:
    """Yield the tables that have a row or a word on why not, in the order of a report."""
    made = (make(comparison, words=words) for make in (arms, environments, every_run, test_reads))
    yield from (sheet for sheet in made if sheet.rows or sheet.note)


def arms(comparison: Comparison, *, words: Words) -> Sheet:
    """Return a row a setting that an arm changes in the base."""
    columns = (
        *(Column(title=words("arm"), heads_row=True), Column(title=words("setting"))),
        *(Column(title=words("in_control")), Column(title=words("here"))),
    )
    rows = tuple(
        Row(cells=(text(score.name), text(key), text(formats.setting(before)), text(formats.setting(now))))
        for score in comparison.arms
        for key, (before, now) in score.arm.changed.items()
    )
    return Sheet(key="arms", columns=columns, rows=rows)


def environments(comparison: Comparison, *, words: Words) -> Sheet:
    """Return a row a machine with its software, with a letter by which `every_run` names it."""
    columns = (
        *(Column(title=words("environment"), heads_row=True), Column(title=words("hardware"), wide=True)),
        *(Column(title=words("device")), Column(title=words("precision_of_numbers")), numeric(words("threads"))),
        *(Column(title=words("compiled")), Column(title=words("versions"), wide=True), Column(title=words("commit"))),
        numeric(words("num_of_runs")),
    )
    runs = list(rows_of(tables.provenance(comparison)))
    rows = []
    for about, name in _letters(runs).items():
        *machine, commit = about
        count = sum(_environment(run) == about for run in runs)
        rows.append(Row(cells=(text(name), *map(_plain, machine), _plain(commit[:10]), number(str, count))))
    return Sheet(key="environments", columns=columns, rows=tuple(rows))


def every_run(comparison: Comparison, *, words: Words) -> Sheet:
    """Return a row a run that an arm is made of."""
    columns = (
        *(Column(title=words("arm"), heads_row=True), numeric(words("seed")), Column(title=words("run"))),
        *(Column(title=words("status")), numeric(words("epochs")), Column(title=words("environment"))),
        *(Column(title=words("started")), Column(title=words("command"), wide=True)),
    )
    runs = list(rows_of(tables.provenance(comparison)))
    letters = _letters(runs)
    rows = []
    for raw in runs:
        cells = (
            *(text(raw["arm"]), number(str, raw["seed"]), _link(raw["folder"]), text(words(raw["status"]))),
            *(number(str, raw["epochs"]), text(letters[_environment(raw)])),
            *(_plain(raw["started"]), _plain(raw["command"])),
        )
        rows.append(Row(cells=cells))
    return Sheet(key="every_run", columns=columns, rows=tuple(rows))


def test_reads(comparison: Comparison, *, words: Words) -> Sheet:
    """Return a row a look at the test split, with its time."""
    columns = (
        *(Column(title=words("arm"), heads_row=True), numeric(words("seed")), Column(title=words("run"))),
        *(Column(title=words("looked_at")), Column(title=words("command"), wide=True)),
    )
    rows = []
    for raw in rows_of(tables.test_reads(comparison)):
        run = (text(raw["arm"]), number(str, raw["seed"]), _link(raw["folder"]))
        rows.append(Row(cells=(*run, _plain(raw["at"]), _plain(raw["command"]))))
    note = "" if rows else words("no_test_reads")
    return Sheet(key="test_reads", columns=columns, rows=tuple(rows), note=note)


def _known(value: object) -> bool:
    return not formats.is_missing(value) and value != ""


def _plain(value: object) -> Cell:
    return text(value) if _known(value) else Cell(text=formats.MISSING)


def _link(folder: Path) -> Cell:
    return Cell(text=folder.name, sort=folder.name, links=((folder.name, address(folder)),))


def _environment(run: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a run was made on: hardware, device, numbers, threads, compiled, versions, commit."""
    machine = ("hardware", "device", "precision", "threads", "compiled")
    about = [formats.setting(run[key]) if _known(run[key]) else "" for key in machine]
    versions = ", ".join(f"{name} {run[name]}" for name in ("bakeoff", "torch", "python") if _known(run[name]))
    return (*about, versions, str(run["commit"]) if _known(run["commit"]) else "")


def _letters(runs: Iterable[Mapping[str, Any]]) -> dict[tuple[str, ...], str]:
    """Give each environment a letter, and two once there are no more."""
    return {about: _letter(i) for i, about in enumerate(dict.fromkeys(map(_environment, runs)))}


def _letter(i: int) -> str:
    return (_letter(i // 26 - 1) if i >= 26 else "") + ascii_uppercase[i % 26]
