"""The tables of the page: what stands in each cell, and by what it is sorted. The raw values come from `tables`."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pandas as pd

from bakeoff.reports import formats, measures, tables
from bakeoff.reports.interactive import Told, told
from bakeoff.reports.words import Words
from bakeoff.results import metrics
from bakeoff.results.comparison import ArmScore, Comparison

NUM_CONFUSIONS = 15
LONG = 15  # rows, above which a table has a filter; the leaderboard has one sooner
PER_CENT = "%"
Link = tuple[str, str]  # text, address


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One quantity.

    Args:
        title: what it is.
        unit: empty where cells say it.
        numeric: digits, which stand at the right.
        wide: sentences, which need room.
        heads_row: the name of the row.
    """

    title: str
    unit: str = ""
    numeric: bool = False
    wide: bool = False
    heads_row: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One value as people read it.

    Args:
        text: of the value.
        sort: what it is sorted by; None sorts last.
        detail: small print, such as an interval.
        marks: words that distinguish it, such as "best".
        links: stand in place of the text.
    """

    text: str
    sort: float | str | None = None
    detail: str = ""
    marks: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row; its kind is "control", "best" or empty."""

    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """One table.

    Args:
        key: of its title among the words.
        note: how to read it.
    """

    key: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""

    @property
    def has_filter(self) -> bool:
        """Whether a person would look for a row instead of reading all."""
        return len(self.rows) > (3 if self.key == "leaderboard" else LONG)


def known(comparison: Comparison, *, words: Words, images: Told | None = None) -> Iterator[Sheet]:
    """Yield the tables that have a row, in the order of a report; predictions are read where they are not given."""
    plain = (leaderboard, differences, trials, teachers, per_class)
    made = [make(comparison, words=words) for make in plain]
    made.append(confusions(comparison, images or told(comparison), words=words))
    made.append(references(comparison, words=words))
    yield from (sheet for sheet in made if sheet.rows)


def leaderboard(comparison: Comparison, *, words: Words) -> Sheet:
    """Return a row an arm, best mean first; the best is marked only where it is alone at rank 1."""
    accuracy = words("top1_test" if comparison.split == "test" else "top1_val")
    raws = list(rows_of(tables.leaderboard(comparison)))
    unbalanced = any(not formats.is_missing(raw["balanced"]) for raw in raws)
    columns = (
        *(numeric(words("rank")), Column(title=words("arm"), heads_row=True)),
        *([numeric(words("balanced"), PER_CENT)] if unbalanced else []),
        numeric(accuracy, PER_CENT),
        *(numeric(words("n")), numeric(words("to_control"), words("points")), numeric(words("p_holm"))),
        *(numeric(words("better"), PER_CENT), numeric(words("seeds_needed"))),
        *(numeric(words("params"), words("millions")), numeric(words("macs"), words("millions"))),
        *(numeric(words("training_time")), numeric(words("images_per_s")), Column(title=words("runs"))),
    )
    rows = []
    for raw in raws:
        kind = "control" if raw["is_control"] else "best" if raw["best"] else ""
        also = words("also", names=raw["repeated"]) if raw["repeated"] else ""
        lost = words("num_diverged", n=len(raw["diverged"])) if raw["diverged"] else ""
        marks = tuple(mark for mark in (kind and words(kind), lost) if mark)
        cells = (
            number(formats.count, raw["rank"]),
            Cell(text=raw["arm"], sort=raw["arm"], detail=also, marks=marks),
            *([_mean(raw, "balanced")] if unbalanced else []),
            _mean(raw, "top1"),
            number(formats.count, raw["n"]),
            _difference(raw["difference"], raw["difference_low"], raw["difference_high"], words),
            *(number(formats.p_value, raw["p_holm"]), number(formats.percent, raw["better"])),
            *(number(formats.count, raw["seeds_needed"]), number(formats.significant, raw["params_m"])),
            *(number(formats.significant, 1000 * raw["macs_g"]), number(formats.duration, raw["training_s"])),
            number(formats.count, raw["images_per_s"]),
            Cell(text=formats.MISSING, links=tuple((str(seed), address(at)) for seed, at in raw["folders"].items())),
        )
        rows.append(Row(cells=cells, kind=kind))
    return Sheet(key="leaderboard", columns=columns, rows=tuple(rows), note=words("note_leaderboard"))


def _mean(raw: Mapping[str, Any], key: str) -> Cell:
    """Return a mean over seeds with its interval; how many seeds has a column of its own."""
    shown = formats.interval(raw[key], raw[f"{key}_low"], raw[f"{key}_high"], raw["n"])
    return Cell(text=shown.removesuffix(f" (n = {raw['n']})"), sort=_sortable(raw[key]))


def differences(comparison: Comparison, *, words: Words) -> Sheet:
    """Return a row a pair: each arm less the control, then the contrasts that the study names."""
    columns = (
        Column(title=words("pair"), heads_row=True),
        *(numeric(words("difference"), words("points")), numeric(words("n")), numeric(words("sd"), words("points"))),
        *(numeric(words("p")), numeric(words("p_holm")), Column(title=words("beyond_noise"))),
        numeric(words("seeds_needed")),
    )
    rows = []
    for raw in rows_of(tables.differences(comparison)):
        pair = " ".join((isolated(raw["a"]), formats.MINUS, isolated(raw["b"])))
        cells = (
            Cell(text=pair, sort=pair),
            _difference(raw["difference"], raw["low"], raw["high"], words),
            *(number(formats.count, raw["n"]), number(lambda sd: formats.percent(sd, digits=2), raw["sd"])),
            *(number(formats.p_value, raw["p"]), number(formats.p_value, raw["p_holm"])),
            text(words("yes" if raw["separable"] else "no")),
            number(formats.count, raw["seeds_needed"]),
        )
        rows.append(Row(cells=cells))
    floor = comparison.floor
    note = words("note_differences_no_floor")
    if floor is not None:
        spread, twenty = (formats.percent(x, digits=2) for x in (floor.sd, measures.once_in_twenty(floor)))
        note = words("note_differences", floor=spread, twenty=twenty)
    return Sheet(key="differences", columns=columns, rows=tuple(rows), note=note)


def trials(comparison: Comparison, *, words: Words) -> Sheet:
    """Return a row a setting that an arm tried."""
    columns = (
        *(Column(title=words("arm"), heads_row=True), Column(title=words("trial"))),
        *(numeric(words("val_top1"), PER_CENT), numeric(words("n")), Column(title=words("chosen"))),
    )
    rows = []
    for raw in rows_of(tables.trials(comparison)):
        mean = formats.interval(raw["val_top1"], raw["val_top1_low"], raw["val_top1_high"], raw["n"])
        cells = (
            *(text(raw["arm"]), text(raw["trial"])),
            Cell(text=mean.removesuffix(f" (n = {raw['n']})"), sort=_sortable(raw["val_top1"])),
            *(number(formats.count, raw["n"]), text(words("yes") if raw["chosen"] else formats.MISSING)),
        )
        rows.append(Row(cells=cells))
    return Sheet(key="trials", columns=columns, rows=tuple(rows), note=words("note_trials"))


def teachers(comparison: Comparison, *, words: Words) -> Sheet:
    """Return a row an arm that learns from a teacher: what the teacher knows, and how far the student follows it."""
    columns = (
        *(Column(title=words("arm"), heads_row=True), Column(title=words("teacher"))),
        *(numeric(words("teacher_top1"), PER_CENT), numeric(words("teacher_entropy"), words("nats"))),
        *(numeric(words("agreement"), PER_CENT), Column(title=words("shares"), unit=PER_CENT)),
    )
    rows = []
    for raw in rows_of(tables.teachers(comparison)):
        knows = words("on_training_images") if raw["measured_on"] == "training" else ""
        if not formats.is_missing(raw["seen"]):
            knows = ", ".join(filter(None, (knows, words("knows_seen", share=formats.percent(raw["seen"])))))
        most = words("of_largest", largest=formats.significant(raw["largest_entropy"]), t=raw["temperature"])
        moved = ", ".join(
            f"{term} {formats.percent(first)} → {formats.percent(last)}"
            for term, (first, last) in raw["shares"].items()
        )
        cells = (
            *(text(raw["arm"]), text(raw["teacher"])),
            Cell(text=formats.percent(raw["top1"]), sort=_sortable(raw["top1"]), detail=knows),
            Cell(text=formats.significant(raw["entropy"]), sort=_sortable(raw["entropy"]), detail=most),
            *(number(formats.percent, raw["agreement"]), text(moved or formats.MISSING)),
        )
        rows.append(Row(cells=cells))
    return Sheet(key="teachers", columns=columns, rows=tuple(rows), note=words("note_teachers"))


def per_class(comparison: Comparison, *, words: Words) -> Sheet:
    """Return a row a class, of the arm with the best mean, beside the control."""
    score = foremost(comparison)
    beside = score is not comparison.control
    columns = [
        *(Column(title=words("class"), heads_row=True), numeric(words("images")), numeric(words("recall"), PER_CENT)),
        *([numeric(words("control_recall"), PER_CENT), numeric(words("difference"), words("points"))] * beside),
        *(numeric(words("precision"), PER_CENT), numeric(words("f1"), PER_CENT)),
    ]
    rows = []
    for raw in rows_of(tables.per_class(comparison, arm=score.name)):
        between = (number(formats.percent, raw["control_recall"]), number(_points, raw["difference"]))
        cells = (
            *(text(raw["class"]), number(formats.count, raw["n"]), number(formats.percent, raw["recall"])),
            *(between if beside else ()),
            *(number(formats.percent, raw["precision"]), number(formats.percent, raw["f1"])),
        )
        rows.append(Row(cells=cells))
    key = "note_per_class" if beside else "note_per_class_control"
    note = words(key, arm=score.name, control=comparison.control.name)
    return Sheet(key="per_class", columns=tuple(columns), rows=tuple(rows), note=note)


def confusions(comparison: Comparison, images: Told, *, words: Words) -> Sheet:
    """Return the mistakes that the arm with the best mean makes most often, summed over its seeds."""
    score = foremost(comparison)
    columns = (
        *(Column(title=words("true_class"), heads_row=True), Column(title=words("called"))),
        *(numeric(words("count")), numeric(words("share"), PER_CENT)),
    )
    rows = []
    if counts := images.of(score):
        of_class = counts.confusion.sum(axis=1)
        for true, called, n in metrics.top_confusions(counts.confusion, NUM_CONFUSIONS):
            share = number(formats.percent, n / int(of_class[true]))
            cells = (text(counts.classes[true]), text(counts.classes[called]), number(formats.count, n), share)
            rows.append(Row(cells=cells))
    note = words("note_confusions", arm=score.name, n=counts.num_runs if counts else 0)
    return Sheet(key="confusions", columns=columns, rows=tuple(rows), note=note)


def references(comparison: Comparison, *, words: Words) -> Sheet:
    """Return what others measured beside what was measured here."""
    columns = (
        *(Column(title=words("arm"), heads_row=True), numeric(words("theirs"), PER_CENT)),
        *(numeric(words("ours"), PER_CENT), Column(title=words("source"), wide=True)),
    )
    rows = []
    for reference in comparison.references:
        mean = comparison.arm(reference.arm).mean
        ours = Cell(text=formats.MISSING)
        if mean is not None:
            shown = formats.interval(mean.estimate, mean.low, mean.high, mean.n)
            ours = Cell(text=shown, sort=mean.estimate)
        cells = (text(reference.arm), number(formats.percent, reference.top1), ours, text(reference.source))
        rows.append(Row(cells=cells))
    return Sheet(key="references", columns=columns, rows=tuple(rows), note=words("note_references"))


def foremost(comparison: Comparison) -> ArmScore:
    """Return the arm with the best mean; the control where nothing is finished."""
    return max(comparison.arms, key=lambda score: score.mean.estimate if score.mean else -1.0)


def address(folder: Path) -> str:
    """Return the link to a run from a study's folder: both lie two floors below the root of all runs."""
    return f"../../{quote(os.fsencode(folder.parent.name))}/{quote(os.fsencode(folder.name))}/"


def isolated(name: str) -> str:
    """Return a name that keeps its place in a line, whichever way its script runs."""
    return f"\N{FIRST STRONG ISOLATE}{name}\N{POP DIRECTIONAL ISOLATE}"


def rows_of(frame: pd.DataFrame) -> Iterable[Mapping[str, Any]]:
    """Return the rows of a table by their columns."""
    return cast("list[dict[str, Any]]", frame.to_dict("records"))


def numeric(title: str, unit: str = "") -> Column:
    """Return a column of digits."""
    return Column(title=title, unit=unit, numeric=True)


def text(value: object) -> Cell:
    """Return a cell that is what it says."""
    return Cell(text=str(value), sort=str(value))


def number(show: Callable[[Any], str], value: Any) -> Cell:  # noqa: ANN401 (a number of pandas, and how it is written)
    """Return a cell that shows a number and is sorted by it."""
    return Cell(text=show(value), sort=_sortable(value))


def _sortable(value: Any) -> float | None:  # noqa: ANN401 (a number of pandas, or one of its many nothings)
    return None if formats.is_missing(value) else float(value)


def _points(value: float | None) -> str:
    return formats.points(value, digits=1)


def _difference(estimate: float | None, low: float | None, high: float | None, words: Words) -> Cell:
    """Return a difference with its interval below it."""
    known = not (formats.is_missing(low) or formats.is_missing(high))
    detail = words("range", low=formats.points(low), high=formats.points(high)) if known else ""
    return Cell(text=formats.points(estimate), sort=_sortable(estimate), detail=detail)
