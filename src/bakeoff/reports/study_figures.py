"""The pictures of a study as files: who is best, what differs, what it costs. Every one has its intervals drawn."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bakeoff.errors import DataError
from bakeoff.reports import formats, measures, tables, tradeoffs
from bakeoff.reports.canvas import ARMS, BLACK, GREY, PALE, style
from bakeoff.reports.fonts import drawable
from bakeoff.reports.ladder import Row, ladder
from bakeoff.reports.tradeoffs import accuracy_by_setting
from bakeoff.results.comparison import Comparison

__all__ = [
    "ablation_analysis",
    "accuracy_by_setting",
    "accuracy_comparison",
    "architecture_comparison",
    "colours",
    "drawn",
    "efficiency_analysis",
]

NAMES = (
    *("accuracy_comparison", "ablation_analysis", "efficiency_analysis", "architecture_comparison"),
    "accuracy_by_setting",
)
BELOW = 0.3  # its mean lie the seeds of an arm, in rows
MOST_REFERENCES = 8
Cells = Mapping[Any, Any]  # a row of a table
Said = Callable[[float], str]
COSTS: tuple[tuple[str, str, str, Said], ...] = (  # column, title, unit, how a value reads
    ("params_m", "parameters", "M", formats.significant),
    ("macs_g", "multiply-adds", "M", lambda giga: formats.significant(1000 * giga)),
    ("training_s", "training", "", formats.duration),
)


def colours(comparison: Comparison) -> dict[str, str]:
    """Return the colour of each arm, the same in every figure: grey for the control, then in the order of the file."""
    others = [score.name for score in comparison.arms if score is not comparison.control]
    return {comparison.control.name: GREY, **dict(zip(others, itertools.cycle(ARMS), strict=False))}


def drawn(comparison: Comparison) -> dict[str, Figure]:
    """Return every figure that has something to show, by its name of NAMES."""
    figures: dict[str, Figure] = {}
    if any(score.top1 for score in comparison.arms):
        figures["accuracy_comparison"] = accuracy_comparison(comparison)
        if any(score.to_control for score in comparison.arms):
            figures["ablation_analysis"] = ablation_analysis(comparison)
        if tradeoffs.costs_differ(comparison):
            figures["efficiency_analysis"] = efficiency_analysis(comparison)
        figures["architecture_comparison"] = architecture_comparison(comparison)
        if tradeoffs.setting(comparison) and any(score.top1 and score.arm.at for score in comparison.arms):
            figures["accuracy_by_setting"] = accuracy_by_setting(comparison)
    return figures


def accuracy_comparison(comparison: Comparison) -> Figure:
    """Draw every arm, best first: its seeds, its mean and interval, and numbers of others beside it.

    Raises:
        DataError: no run has finished.
    """
    rows = _rows(comparison)
    references = measures.near(comparison)
    with style(_texts(comparison)):
        figure, (axes,) = ladder(
            [Row(name=row["label"], text=_accuracy(row), colour=GREY if row["is_control"] else BLACK) for row in rows],
            title=comparison.study.question,
            subtitle=f"Top-1 on {_split(comparison)}: mean and 95 % interval over seeds, small dots are seeds; "
            "the control is grey",
            notes=list(_reference_notes(comparison)),
        )
        _accuracies(axes, rows, colours(comparison))
        of = {name: y for y, row in enumerate(rows) for name in row["names"]}
        for reference in references:
            axes.plot(100 * reference.top1, of[reference.arm], "D", ms=6, mfc="white", mec=BLACK, zorder=4)
        seen = [*_reach(rows), *(100 * reference.top1 for reference in references)]
        _axis(axes, seen, f"top-1 on {_split(comparison)}, %")
    listed = "; ".join(f"{row['label']} {_accuracy(row)}" for row in rows)
    figure.set_label(f"Top-1 on {_split(comparison)} in per cent, with 95 % intervals over seeds: {listed}")
    return figure


def ablation_analysis(comparison: Comparison) -> Figure:
    """Draw each paired difference with its interval around zero, over the band of noise.

    The band is one standard deviation, to either side, of the difference of two runs that differ in the seed alone.

    Raises:
        DataError: no arm has a difference to the control.
    """
    rows = tables.differences(comparison).to_dict("records")
    if not rows:
        raise DataError(comparison.study.name, found="no differences", expected="two arms with a seed in common")
    own, notes = colours(comparison), list(_unpaired_notes(comparison))
    if comparison.floor:
        noise, twenty = 100 * measures.noise_of_two(comparison.floor), 100 * measures.once_in_twenty(comparison.floor)
        notes.append(
            f"Band: ±{noise:.2f} points, one standard deviation of the difference of two runs that differ in the seed "
            f"alone; about once in twenty it is beyond ±{twenty:.2f}."
        )
    with style(_texts(comparison)):
        figure, (axes,) = ladder(
            [Row(name=_pair(row), text=_difference(row)) for row in rows],
            title=f"Differences to the control, {comparison.control.name}",
            subtitle="Paired by seed, with 95 % intervals; filled: a difference after Holm's correction (p < 0.05)",
            notes=notes,
        )
        if comparison.floor:
            axes.axvspan(-noise, noise, color=PALE, zorder=0)
        axes.axvline(0, color=GREY, lw=1)
        for y, row in enumerate(rows):
            colour = BLACK if row["contrast"] else own[row["a"]]
            _mark(axes, y, row["difference"], row["low"], row["high"], colour, filled=row["separable"])
        _axis_of_differences(axes, rows)
        axes.set_xlabel(f"difference in top-1 on {_split(comparison)}, percentage points")
    listed = "; ".join(f"{_pair(row)} {_difference(row)}" for row in rows)
    figure.set_label(f"Paired differences in top-1 on {_split(comparison)}, in points, with 95 % intervals: {listed}")
    return figure


def efficiency_analysis(comparison: Comparison) -> Figure:
    """Draw accuracy against the costs in which arms differ, each with its Pareto front.

    Raises:
        DataError: no run has finished, or arms cost the same as far as it is known.
    """
    return tradeoffs.efficiency_analysis(comparison, colours=colours(comparison))


def architecture_comparison(comparison: Comparison) -> Figure:
    """Draw accuracy and costs of every arm beside each other.

    Raises:
        DataError: no run has finished.
    """
    rows, own = _rows(comparison), colours(comparison)
    with style(_texts(comparison)):
        figure, panels = ladder(
            [Row(name=row["label"], colour=GREY if row["is_control"] else BLACK) for row in rows],
            title="Accuracy and what it costs",
            subtitle=f"Top-1 on {_split(comparison)} with its 95 % interval over seeds; training time is the median",
            panels=1 + len(COSTS),
        )
        _accuracies(panels[0], rows, own)
        _axis(panels[0], _reach(rows), "top-1, %", ticks=3, brief=True)
        for axes, (key, title, unit, said) in zip(panels[1:], COSTS, strict=True):
            _bars(axes, rows, key, own, said)
            axes.set_xlabel(f"{title}, {unit}" if unit else title)
    costs = {row["arm"]: [f"{said(row[key])} {unit}".strip() for key, _, unit, said in COSTS] for row in rows}
    listed = "; ".join(f"{row['label']} {_accuracy(row)}, {', '.join(costs[row['arm']])}" for row in rows)
    figure.set_label(f"Top-1, parameters, multiply-adds and training time of each arm: {listed}")
    return figure


def _rows(comparison: Comparison) -> list[dict[Any, Any]]:
    """Return the leaderboard as dicts; `label` names an arm with those that are the same recipe.

    Raises:
        DataError: no run has finished.
    """
    rows = tables.leaderboard(comparison).to_dict("records")
    if not any(row["n"] for row in rows):
        raise DataError(comparison.study.name, found="no finished run", expected="one or more")
    names = {score.name: (score.name, *score.arm.repeated) for score in comparison.arms}
    return [row | {"names": names[row["arm"]], "label": " = ".join(names[row["arm"]])} for row in rows]


def _texts(comparison: Comparison) -> Iterator[str]:
    yield comparison.study.question
    yield from (score.name for score in comparison.arms)
    yield from (reference.source for reference in comparison.references)


def _split(comparison: Comparison) -> str:
    return "test" if comparison.split == "test" else "validation"


def _accuracy(row: Cells) -> str:
    said = formats.interval(row["top1"], row["top1_low"], row["top1_high"], row["n"]) if row["n"] else "no finished run"
    return f"{said}, {len(row['diverged'])} diverged" if row["diverged"] else said


def _difference(row: Cells) -> str:
    said = formats.difference(row["difference"], row["low"], row["high"])
    return f"{said} (n = {row['n']}, no interval)" if formats.is_missing(row["low"]) else said


def _pair(row: Cells) -> str:
    return f"{row['a']} − {row['b']}" if row["contrast"] else str(row["a"])


def _reference_notes(comparison: Comparison) -> Iterator[str]:
    drawn = measures.near(comparison)[:MOST_REFERENCES]
    for reference in drawn:
        said = f"◇ {reference.arm}, {formats.percent(reference.top1)} % by others: {reference.source}"
        yield drawable(said)
    if left := len(comparison.references) - len(drawn):
        said = f"and {left} more" if drawn else f"{left} numbers of others, far outside"
        yield f"◇ {said}; the report lists them"


def _unpaired_notes(comparison: Comparison) -> Iterator[str]:
    control = comparison.control
    without = [score.name for score in comparison.arms if score is not control and score.to_control is None]
    if without:
        yield drawable(f"No seed finished in common with {control.name}, so not shown: {formats.names(without)}.")


def _accuracies(axes: Axes, rows: Sequence[Cells], own: Mapping[str, str]) -> None:
    for y, row in enumerate(rows):
        if row["n"]:
            colour = own[row["arm"]]
            seeds = [100 * value for value in row["by_seed"].values()]
            axes.scatter(seeds, [y + BELOW] * len(seeds), s=12, color=colour, alpha=0.5, lw=0, zorder=2)
            low, high = max(row["top1_low"], 0.0), min(row["top1_high"], 1.0)
            _mark(axes, y, row["top1"], low, high, colour, filled=True)


def _mark(axes: Axes, y: int, value: float, low: float, high: float, colour: str, *, filled: bool) -> None:
    """Draw one estimate and its interval; fractions, shown in per cent."""
    if not math.isnan(low):
        axes.plot([100 * low, 100 * high], [y, y], color=colour, lw=2.2, solid_capstyle="butt", zorder=2)
    axes.plot(100 * value, y, "o", ms=7, mfc=colour if filled else "white", mec=colour, mew=1.6, zorder=3)


def _reach(rows: Sequence[Cells]) -> list[float]:
    """Return what an axis of accuracy has to show, in per cent."""
    found = [100 * row[key] for row in rows if row["n"] for key in ("top1", "top1_low", "top1_high")]
    found += [100 * value for row in rows for value in row["by_seed"].values()]
    return [min(100.0, max(0.0, value)) for value in found if not math.isnan(value)]


def _axis(axes: Axes, seen: Sequence[float], label: str, *, ticks: int = 8, brief: bool = False) -> None:
    """Set an axis of per cent: from zero unless that would waste half of it, and then it says so."""
    low, high = min(seen), max(seen)
    margin = 0.06 * (high - low) or 0.5
    start = 0.0 if low <= high / 2 else low - margin
    axes.set_xlim(start - (0.02 * high if not start else 0), high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    where = f"from {start:.3g}" if brief else f"(axis starts at {start:.3g}, not at 0)"
    axes.set_xlabel(f"{label}  {where}" if start else label)


def _axis_of_differences(axes: Axes, rows: Sequence[Cells]) -> None:
    """Set an axis of signed points around zero that shows every interval."""
    seen = [100 * row[key] for row in rows for key in ("difference", "low", "high") if not math.isnan(row[key])]
    low, high = min(*seen, 0.0), max(*seen, 0.0)
    margin = 0.06 * (high - low) or 0.5
    axes.set_xlim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:+g}".replace("-", formats.MINUS) if value else "0")
    )


def _bars(axes: Axes, rows: Sequence[Cells], key: str, own: Mapping[str, str], said: Said) -> None:
    """Draw one cost as bars from zero, each with its value."""
    known = [row[key] for row in rows if not math.isnan(row[key])]
    longest = max(known, default=0) or 1.0
    axes.set_xlim(0, 1.75 * longest)  # the digits need room as well
    axes.set_xticks([])
    axes.grid(visible=False)  # a line through digits is no help
    axes.spines["bottom"].set_visible(False)
    for y, row in enumerate(rows):
        missing = math.isnan(row[key])
        if not missing:
            axes.barh(y, row[key], height=0.5, color=own[row["arm"]], zorder=2)
        at = 0 if missing else row[key]
        axes.annotate(said(row[key]), (at, y), xytext=(4, 0), textcoords="offset points", va="center", size=8)
