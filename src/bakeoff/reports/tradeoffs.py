"""Accuracy against something that has a size: what an arm costs, or the setting in which the arms differ."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from bakeoff.errors import DataError
from bakeoff.reports import formats, measures
from bakeoff.reports.canvas import BLUE, GREY, blank, headline, style
from bakeoff.reports.fonts import drawable, shorten
from bakeoff.reports.ladder import FOOT_IN, NOTE_IN, write_notes
from bakeoff.results.comparison import ArmScore, Comparison

HEAD_IN, PANEL_IN, GAP_IN = 0.85, 2.15, 0.74  # heights: above the panels, of each, below each
LABEL_SIZE, LABEL_PT, LABEL_COLUMNS = 8.0, 11.0, 24
MOST_LABELS = 12  # of a panel; above it the front and the control alone are named
RATIO_OF_LOG = 30  # an axis whose values span more is logarithmic
COSTS: tuple[tuple[str, str, Callable[[ArmScore], float | None]], ...] = (
    ("parameters", "M", lambda score: score.params_m),
    ("multiply-adds a picture", "M", lambda score: None if score.macs_g is None else 1000 * score.macs_g),
    ("training time", "s", lambda score: score.training_s),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One arm in a panel: its cost, and its accuracy in per cent with its interval."""

    name: str
    colour: str
    x: float
    y: float
    low: float
    high: float


def efficiency_analysis(comparison: Comparison, *, colours: Mapping[str, str]) -> Figure:
    """Draw accuracy against parameters, multiply-adds and training time where arms differ, with their Pareto fronts.

    Args:
        comparison: of one finished run or more.
        colours: of the arms.

    Raises:
        DataError: no run has finished, or arms cost the same as far as it is known.
    """
    panels = [(title, unit, _points(comparison, cost, colours)) for title, unit, cost in COSTS]
    panels = [panel for panel in panels if measures.costs_differ([point.x for point in panel[2]])]
    if not panels:
        raise DataError(comparison.study.name, found="no costs that differ", expected="finished runs of unlike costs")
    height = HEAD_IN + (PANEL_IN + GAP_IN) * len(panels)
    with style([score.name for score in comparison.arms]):
        figure = blank(height_in=height)
        figure.subplots_adjust(
            left=0.075, right=0.77, top=1 - HEAD_IN / height, bottom=GAP_IN / height, hspace=GAP_IN / PANEL_IN
        )
        for axes, (title, unit, points) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
            _scatter(axes, points, control=comparison.control.name)
            _axis_of_cost(axes, [point.x for point in points], f"{title}, {unit}")
        headline(
            figure,
            "Accuracy against cost",
            f"Top-1 on {_split(comparison)}, %, with 95 % intervals over seeds; dashed: the Pareto front of the means",
        )
    listed = (
        f"{title} ({unit}): " + formats.names(f"{p.name} {formats.significant(p.x)}" for p in front(points))
        for title, unit, points in panels
    )
    figure.set_label(f"Top-1 on {_split(comparison)} against cost. On the Pareto front of {'. Of '.join(listed)}")
    return figure


def costs_differ(comparison: Comparison) -> bool:
    """Tell whether `efficiency_analysis` has anything to draw."""
    of = [[cost(score) for score in comparison.arms if score.mean] for _, _, cost in COSTS]
    return any(measures.costs_differ([cost for cost in costs if cost is not None]) for costs in of)


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other is at most as dear and at least as accurate as, cheapest first."""
    best, found = -math.inf, []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if point.y > best:
            found.append(point)
            best = point.y
    return found


def setting(comparison: Comparison) -> str | None:
    """Return the one numeric setting on which the arms lie, or None where they lie on no such axis."""
    on_axis = [score.arm.at for score in comparison.arms if score.arm.at]
    keys = {key for at in on_axis for key in at}
    if len(on_axis) < 2 or len(keys) != 1:
        return None
    (key,) = keys
    return key if all(type(at[key]) in (int, float) for at in on_axis) else None


def accuracy_by_setting(comparison: Comparison) -> Figure:
    """Draw accuracy over the numeric setting in which the arms differ: seeds, means, intervals.

    Raises:
        DataError: the arms lie on no such axis, or none of them has a finished run.
    """
    key = setting(comparison)
    scores = [score for score in comparison.arms if key in score.arm.at and score.top1]
    if key is None or not scores:
        raise DataError(comparison.study.name, found="no numeric axis with a result", expected="an axis of numbers")
    at = {score.name: float(str(score.arm.at[key])) for score in scores}
    scores.sort(key=lambda score: at[score.name])
    points = _points(comparison, lambda score: at.get(score.name), dict.fromkeys(at, BLUE))
    points.sort(key=lambda point: point.x)
    notes = [drawable(note) for note in _lost(comparison, key)]
    height = 4.6 + NOTE_IN * len(notes)
    with style([key, *notes]):
        figure = blank(height_in=height)
        axes = figure.subplots()
        foot = FOOT_IN + NOTE_IN * len(notes)
        figure.subplots_adjust(left=0.075, right=0.97, top=1 - HEAD_IN / height, bottom=foot / height)
        write_notes(figure, notes)
        for score in scores:
            seeds = [100 * value for value in score.top1.values()]
            axes.scatter([at[score.name]] * len(seeds), seeds, s=16, color=BLUE, alpha=0.4, lw=0)
        axes.plot([point.x for point in points], [point.y for point in points], "-", color=BLUE, lw=1)
        _intervals(axes, points)
        _axis_of_accuracy(axes, points, seeds=[100 * value for score in scores for value in score.top1.values()])
        _axis_of_cost(axes, [point.x for point in points], key, ticks_at_values=True)
        headline(
            figure,
            drawable(f"Accuracy by {key}"),
            f"Top-1 on {_split(comparison)}, %: mean and 95 % interval over seeds; small dots are seeds",
        )
    listed = "; ".join(f"{point.x:g}: {point.y:.1f}" for point in points)
    figure.set_label(f"Top-1 on {_split(comparison)} in per cent by {key}: {listed}")
    return figure


def _lost(comparison: Comparison, key: str) -> Iterator[str]:
    """Yield a note on runs of the axis that diverged, if any did."""
    lost = [
        (score.name, sum(run.status == "diverged" for run in score.runs.values()))
        for score in comparison.arms
        if key in score.arm.at
    ]
    if any(n for _, n in lost):
        yield f"Runs that diverged are not shown: {formats.names(f'{name} ({n})' for name, n in lost if n)}."


def _points(
    comparison: Comparison, cost: Callable[[ArmScore], float | None], colours: Mapping[str, str]
) -> list[Point]:
    """Return the arms that have both a score and a cost; an arm of one seed has no interval, and so no length."""
    found = []
    for score in comparison.arms:
        x, mean = cost(score), score.mean
        if x is not None and mean is not None:
            y = 100 * mean.estimate
            low, high = measures.bounds(mean, clipped=True)
            found.append(Point(name=score.name, colour=colours[score.name], x=x, y=y, low=low, high=high))
    return found


def _split(comparison: Comparison) -> str:
    return "test" if comparison.split == "test" else "validation"


def _scatter(axes: Axes, points: Sequence[Point], *, control: str) -> None:
    _intervals(axes, points)
    best = front(points)
    axes.step([p.x for p in best], [p.y for p in best], where="post", color=GREY, lw=1, ls=(0, (4, 3)), zorder=1)
    _axis_of_accuracy(axes, points)
    named = points if len(points) <= MOST_LABELS else [p for p in points if p in best or p.name == control]
    _label(axes, named[-MOST_LABELS:])


def _intervals(axes: Axes, points: Sequence[Point]) -> None:
    for point in points:
        axes.plot([point.x, point.x], [point.low, point.high], color=point.colour, lw=1.6, solid_capstyle="butt")
        axes.plot([point.x], [point.y], "o", ms=6.5, color=point.colour, mec="white", mew=0.6, zorder=3)


def _axis_of_accuracy(axes: Axes, points: Sequence[Point], *, seeds: Sequence[float] = ()) -> None:
    """From zero unless that would waste half of the panel, and then its title says so."""
    low, high = min(*(p.low for p in points), *seeds, 100.0), max(*(p.high for p in points), *seeds, 0.0)
    margin = 0.07 * (high - low) or 0.5
    start = 0.0 if low <= high / 2 else low - margin
    axes.set_ylim(start, high + margin)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="y")
    axes.set_title(f"top-1, %   (axis starts at {start:.3g}, not at 0)" if start else "top-1, %", size=9)


def _axis_of_cost(axes: Axes, values: Sequence[float], label: str, *, ticks_at_values: bool = False) -> None:
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low > RATIO_OF_LOG
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=12))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(low / 1.3, high * 1.3)
        places = [math.log(value / low) / math.log(high / low) for value in sorted(set(values))]
    else:
        margin = max(0.06 * (high - low), 0.05 * abs(high)) or 1.0  # arms of nearly one cost stand at one place
        axes.set_xlim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        places = [(value - low) / ((high - low) or 1) for value in sorted(set(values))]
    apart = min((b - a for a, b in itertools.pairwise(places)), default=1.0)
    if ticks_at_values and apart > 0.06:
        axes.xaxis.set_major_locator(FixedLocator(sorted(set(values))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(f"{label}, logarithmic" if logarithmic else label)


def _label(axes: Axes, points: Sequence[Point]) -> None:
    """Name the points at the right of the panel, in order of accuracy, each with a line to its point."""
    bottom, top = axes.get_ylim()
    height, gap = 72 * PANEL_IN, LABEL_PT
    ordered = sorted(points, key=lambda point: point.y)
    places: list[float] = []
    for point in ordered:
        places.append(max(height * (point.y - bottom) / (top - bottom), places[-1] + gap if places else 0.0))
    ceiling = height + gap / 2
    for i in reversed(range(len(places))):
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - gap
    for point, place in zip(ordered, places, strict=True):
        axes.annotate(
            shorten(drawable(point.name), LABEL_COLUMNS),
            (point.x, point.y),
            xytext=(1.03, place / height),
            textcoords="axes fraction",
            size=LABEL_SIZE,
            va="center",
            arrowprops={"arrowstyle": "-", "color": point.colour, "lw": 0.8, "ls": ":", "shrinkA": 1, "shrinkB": 4},
        )
