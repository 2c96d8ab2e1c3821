"""The whole zoo in one picture: parameters against multiply-adds, each network where it stands."""

import itertools
import math
import random
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Bbox

from bakeoff.reports.canvas import BLUE, GREEN, GREY, PURPLE, VERMILION, blank, headline, style

COLOURS = (BLUE, VERMILION, GREEN, PURPLE)
# Networks of a family that are no further apart than this, in both numbers, share a point and a label.
TOGETHER = 0.05
# Where a label may stand around its point, nearest and most legible first: (angle in degrees, distance in points).
ANGLES = (0, 180, 45, -45, 135, -135, 90, -90, 20, -20, 160, -160, 70, -70, 110, -110)
PLACES = [(angle, distance) for distance in (9, 15, 22, 32, 44, 58, 74, 92) for angle in ANGLES]
ORDERS = 60  # how many orders of choosing are tried
SIZE, NOTE_SIZE, NOTE_COLUMNS = 8, 8, 112

Place = tuple[float, float]
Boxes = np.ndarray  # [n 4]: left, bottom, right, top, in pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One network.

    Attributes:
        name: as it is written beside its point.
        family: what its colour stands for.
        params: trainable parameters.
        macs: multiply-adds for one picture.
    """

    name: str
    family: str
    params: int
    macs: int

    @property
    def at(self) -> tuple[float, float]:
        """Return where it stands: millions of multiply-adds, millions of parameters."""
        return self.macs / 1e6, self.params / 1e6


def zoo(points: Sequence[Point], *, counted: str) -> Figure:
    """Draw the networks on logarithmic axes; those that would cover each other share a label, and a note below.

    Args:
        points: one a name.
        counted: for what they were counted, such as "one 3x32x32 picture, 100 classes".
    """
    groups = list(_together(points))
    notes = list(_notes(groups))
    height = 8.6 + 0.15 * len(notes)
    with style():
        figure = blank(height_in=height)
        axes = figure.subplots()
        figure.subplots_adjust(left=0.09, right=0.98, top=1 - 0.75 / height, bottom=(0.65 + 0.15 * len(notes)) / height)
        headline(figure, "The zoo: parameters against multiply-adds", f"For {counted}; both axes are logarithmic")
        families = sorted({point.family for point in points})
        colours = dict(zip(families, itertools.cycle(COLOURS), strict=False))
        for family, colour in colours.items():
            own = [point.at for point in points if point.family == family]
            x, y = zip(*own, strict=True)
            axes.scatter(x, y, s=34, color=colour, label=family, zorder=3, ec="white", lw=0.5)
        _dress(axes)
        _label(axes, groups, colours)
        for i, line in enumerate(reversed(notes)):
            figure.text(0.1 / 8, (0.1 + 0.15 * i) / height, line, size=NOTE_SIZE, color=GREY, va="bottom")
    figure.set_label(
        f"Parameters against multiply-adds of {len(points)} networks for {counted}: "
        + "; ".join(f"{p.name} {p.params / 1e6:.2f} M, {p.macs / 1e6:,.0f} M" for p in points)
    )
    return figure


def _together(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Gather those that would cover each other."""
    groups: list[list[Point]] = []
    for point in points:
        for group in groups:
            near = (abs(math.log(a / b)) < TOGETHER for a, b in zip(point.at, group[0].at, strict=True))
            if point.family == group[0].family and all(near):
                group.append(point)
                break
        else:
            groups.append([point])
    yield from groups


def _text(group: Sequence[Point]) -> str:
    """Name the first of a group, and say how many more the note below lists."""
    return group[0].name + (f" (+{len(group) - 1})" if len(group) > 1 else "")


def _notes(groups: Sequence[Sequence[Point]]) -> Iterator[str]:
    """Yield lines that say who shares a point."""
    listed = [f"{_text(g)}: {', '.join(p.name for p in g[1:])}." for g in groups if len(g) > 1]
    if listed:
        yield f"Within {TOGETHER:.0%} of another in both numbers, in its family and under its label:"
        for line in listed:
            yield from textwrap.wrap(line, NOTE_COLUMNS, subsequent_indent="    ", break_on_hyphens=False)


def _dress(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(0.12, 0.06)
    plain = FuncFormatter(lambda value, _: f"{value:,g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(plain)
    axes.set_xlabel("multiply-adds a picture, millions")
    axes.set_ylabel("parameters, millions")
    axes.grid(which="major")
    axes.legend(loc="upper left", title="family of recipes", alignment="left", frameon=False)
    axes.autoscale_view()  # now: where the points stand on the page decides where labels can


def _label(axes: Axes, groups: Sequence[Sequence[Point]], colours: Mapping[str, str]) -> None:
    """Write each name where it covers no point, no other name and no line to one, as near as there is room."""
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    pt = axes.figure.dpi / 72
    where = {p.name: axes.transData.transform(p.at) for group in groups for p in group}
    middles = np.array(list(where.values()))
    legend = axes.get_legend()
    assert legend
    taken = np.vstack([np.hstack([middles - 4 * pt, middles + 4 * pt]), legend.get_window_extent(renderer).extents])
    names = []
    for group in groups:
        drawn = axes.text(0, 0, _text(group), size=SIZE)
        size = np.array(drawn.get_window_extent(renderer).size)
        drawn.remove()
        names.append(_Name(group=group, at=where[group[0].name], size=size, pt=pt))
    for name, (angle, distance) in _arrange(names, taken, axes.get_window_extent(renderer)):
        (x, y), (across, _) = name.offset(angle, distance), name.aligned(angle)
        line = {"arrowstyle": "-", "color": colours[name.group[0].family], "lw": 0.7, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(
            _text(name.group),
            name.group[0].at,
            xytext=(x, y),
            textcoords="offset points",
            ha={0: "left", 0.5: "center", 1: "right"}[across],
            va="center",
            size=SIZE,
            arrowprops=line if distance > PLACES[0][1] else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Name:
    """A label that wants a place: whose it is, its point and its size in pixels, and pixels per typographic point."""

    group: Sequence[Point]
    at: np.ndarray
    size: np.ndarray
    pt: float

    def offset(self, angle: float, distance: float) -> tuple[float, float]:
        """Return how far from its point the label is anchored, in typographic points."""
        return distance * math.cos(math.radians(angle)), distance * math.sin(math.radians(angle))

    def aligned(self, angle: float) -> tuple[float, float]:
        """Return which share of the label is left of and below its anchor."""
        across = math.cos(math.radians(angle))
        return (0.5 if abs(across) < 0.1 else float(across < 0)), 0.5

    def boxes(self, angle: float, distance: float) -> Boxes:
        """Return what the label covers at a place: itself, and the line from its point, as small boxes."""
        step = np.array(self.offset(angle, distance)) * self.pt
        corner = self.at + step - self.size * np.array(self.aligned(angle))
        # The line begins where no point of the own group can be.
        along = np.arange(10, distance, 2)[:, None] / distance
        line = self.at + along * step
        low, high = np.vstack([corner - self.pt, line - self.pt / 2]), np.vstack([corner + self.size, line])
        return np.hstack([low, high + self.pt / 2])


def _arrange(names: Sequence[_Name], taken: Boxes, inside: Bbox) -> list[tuple[_Name, Place]]:
    """Return a place for each name: of some orders in which they may choose, the one that keeps them nearest."""
    free: dict[int, list[tuple[int, Place, Boxes]]] = {}
    for name in names:
        boxes = ((i, place, name.boxes(*place)) for i, place in enumerate(PLACES))
        free[id(name)] = [(i, p, b) for i, p, b in boxes if _within(b[0], inside) and not _overlap(b, taken)]
    draw, least = random.Random(0), math.inf
    best: list[tuple[_Name, Place]] = []
    order = sorted(names, key=lambda name: len(free[id(name)]))  # who has least room chooses first
    for _ in range(ORDERS):
        placed, covered, cost = [], np.empty((0, 4)), 0
        for name in order:
            fitting = ((i, p, b) for i, p, b in free[id(name)] if not _overlap(b, covered))
            i, place, own = next(fitting, (1_000, PLACES[0], covered[:0]))  # no room: over others, not nowhere
            placed.append((name, place))
            covered, cost = np.vstack([covered, own]), cost + i
        if cost < least:
            best, least = placed, cost
        order = sorted(names, key=lambda name: len(free[id(name)]) * draw.uniform(0.2, 1))
    return best


def _within(box: np.ndarray, frame: Bbox) -> bool:
    x0, y0, x1, y1 = box
    return bool(frame.x0 < x0 and x1 < frame.x1 and frame.y0 < y0 and y1 < frame.y1)


def _overlap(some: Boxes, others: Boxes) -> bool:
    low = np.maximum(some[:, None, :2], others[None, :, :2])
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])
    return bool((low < high).all(2).any())
