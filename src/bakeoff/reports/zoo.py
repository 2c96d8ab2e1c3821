"""The whole zoo in one picture: parameters against multiply-adds, each network where it stands."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Bbox

from bakeoff.reports.canvas import BLUE, GREEN, GREY, VERMILION, blank, headline, style

COLOURS = (BLUE, VERMILION, GREEN)
# Where a label may stand around its point, nearest and most legible first: (angle in degrees, distance in points).
PLACES = [(angle, distance) for distance in (9, 18, 30, 44, 60) for angle in (0, 180, 45, -45, 135, -135, 90, -90)]


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


def zoo(points: Sequence[Point], *, counted: str) -> Figure:
    """Draw the networks on logarithmic axes; those within 3 % of another share its point and are counted there.

    Args:
        points: one a name.
        counted: for what they were counted, such as "one 3x32x32 picture, 100 classes".
    """
    groups = list(_together(points))
    with style():
        figure = blank(height_in=8.6)
        axes = figure.subplots()
        figure.subplots_adjust(left=0.09, right=0.98, top=0.9, bottom=0.075)
        headline(figure, "The zoo: parameters against multiply-adds", f"For {counted}; both axes are logarithmic")
        families = sorted({point.family for point in points})
        for family, colour in zip(families, itertools.cycle(COLOURS), strict=False):
            own = [group[0] for group in groups if group[0].family == family]
            x, y = [p.macs / 1e6 for p in own], [p.params / 1e6 for p in own]
            axes.scatter(x, y, s=34, color=colour, label=family, zorder=3, linewidths=0)
        _dress(axes)
        _label(axes, groups)
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
            near = (abs(math.log(a / b)) < 0.03 for a, b in _axes_of(point, group[0]))
            if point.family == group[0].family and all(near):
                group.append(point)
                break
        else:
            groups.append([point])
    yield from groups


def _axes_of(one: Point, other: Point) -> tuple[tuple[int, int], tuple[int, int]]:
    return (one.params, other.params), (one.macs, other.macs)


def _dress(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(0.12)
    plain = FuncFormatter(lambda value, _: f"{value:,g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(plain)
    axes.set_xlabel("multiply-adds a picture, millions")
    axes.set_ylabel("parameters, millions")
    axes.grid(which="major")
    axes.legend(loc="upper left", title="family of recipes", alignment="left", frameon=False)


def _label(axes: Axes, groups: Sequence[list[Point]]) -> None:
    """Write each name where it covers no point and no other name, as near as there is room."""
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    scale = axes.figure.dpi / 72
    at = [axes.transData.transform((g[0].macs / 1e6, g[0].params / 1e6)) for g in groups]
    taken = [Bbox.from_bounds(x - 4 * scale, y - 4 * scale, 8 * scale, 8 * scale) for x, y in at]
    legend = axes.get_legend()
    taken += [legend.get_window_extent(renderer)] if legend else []
    for group in sorted(groups, key=lambda g: -g[0].macs):
        text = group[0].name + (f" and {len(group) - 1} more" if len(group) > 1 else "")
        taken.append(_place(axes, group[0], text, taken).get_window_extent(renderer))


def _place(axes: Axes, point: Point, text: str, taken: Sequence[Bbox]) -> Annotation:
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for angle, distance in PLACES:
        x, y = (distance * f(math.radians(angle)) for f in (math.cos, math.sin))
        label = axes.annotate(
            text,
            (point.macs / 1e6, point.params / 1e6),
            xytext=(x, y),
            textcoords="offset points",
            ha="left" if x > 1 else "right" if x < -1 else "center",
            va="center",
            size=8,
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.6, "shrinkB": 3} if distance > 9 else None,
        )
        box = Annotation.get_window_extent(label, renderer)
        inside = axes.get_window_extent(renderer)
        fits = inside.x0 < box.x0 and box.x1 < inside.x1 and inside.y0 < box.y0 and box.y1 < inside.y1
        if fits and not any(box.overlaps(other) for other in taken):
            break
        last = (angle, distance) == PLACES[-1]
        if not last:
            label.remove()
    return label
