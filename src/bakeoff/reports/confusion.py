"""The confusion matrix: which class is called what, and the mistakes made most often in words."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter

from bakeoff.reports.canvas import BLACK, BLUE, DPI, GREY, PALE, WIDTH_IN, blank, fitting, headline, style, width_in
from bakeoff.reports.fonts import drawable, shorten
from bakeoff.results.metrics import top_confusions

NUM_LISTED = 15
_ARROW = "\N{RIGHTWARDS ARROW}"
_GROUP_SIZE, _LIST_SIZE = 7.5, 8.5  # points
_TOP_IN, _RIGHT_IN, _ROW_IN = 0.95, 0.95, 0.2
Pair = tuple[str, str]  # true class, called class
_SHARES = LinearSegmentedColormap.from_list("shares", ["white", "#9CCBE8", BLUE, "#00304F"])


def confusion_matrix(
    matrix: np.ndarray,
    classes: Sequence[str],
    *,
    superclasses: Sequence[str] = (),
    superclass_of: Sequence[int] = (),
    title: str = "Confusion matrix",
) -> Figure:
    """Draw int [classes classes], true class by called class, as shares of each row.

    Classes stand beside their superclass where there is one. The scale of colour is a square root: one mistake in
    a hundred can be seen. Up to 20 classes the counts stand in the cells; a class without images is a grey row.
    The names of many classes need the full size of the file; the list below the matrix does not.
    """
    order = np.argsort(superclass_of, kind="stable") if len(superclass_of) else np.arange(len(classes))
    names = [drawable(name) for name in classes]
    groups = [drawable(shorten(name, 32)) for name in superclasses]
    title = drawable(title)
    mistakes = top_confusions(matrix, NUM_LISTED)
    pairs = [(names[true], names[called]) for true, called, _ in mistakes]
    counts = [f"{n:,} of {matrix[true].sum():,}" for true, _, n in mistakes]
    with style([title, *names, *groups]):
        names = [shorten(name, 22) for name in names]
        figure, axes, names_in = _frame(names, groups, num_rows=_rows(pairs))
        image = _cells(axes, matrix[np.ix_(order, order)])
        _name_classes(axes, [names[c] for c in order])
        if groups:
            _name_groups(axes, np.asarray(superclass_of)[order], groups, left_in=names_in)
        _scale(figure, axes, image)
        _list(figure, pairs, counts)
        subtitle = _subtitle(matrix)
        headline(figure, title, subtitle)
    worst = f" Most frequent mistake: {_called(pairs[0])}, {counts[0]}." if pairs else " No mistakes."
    figure.set_label(f"{title} of {len(classes)} classes. {subtitle.splitlines()[0]}{worst}")
    return figure


def _frame(names: Sequence[str], groups: Sequence[str], *, num_rows: int) -> tuple[Figure, Axes, float]:
    """Make a figure with room for the longest name and pixels for the smallest; return that room too, in inches."""
    size = _name_size(len(names))
    figure = blank(height_in=WIDTH_IN, dpi=float(np.clip(13 * 72 / size, DPI, 450)))
    names_in = width_in(figure, names, size) + 0.1
    left_in = 0.15 + names_in + (width_in(figure, groups, _GROUP_SIZE) + 0.1 if groups else 0)
    side_in = WIDTH_IN - left_in - _RIGHT_IN
    list_in = 0.55 + _ROW_IN * num_rows
    height = _TOP_IN + side_in + names_in + list_in
    figure.set_figheight(height)
    bottom_in = list_in + names_in
    axes = figure.add_axes((left_in / WIDTH_IN, bottom_in / height, side_in / WIDTH_IN, side_in / height))
    return figure, axes, names_in


def _name_size(num_classes: int) -> float:
    """Return the points a class name may be high, for a matrix of about five inches."""
    return min(9.0, max(0.8 * 5 * 72 / num_classes, 1.4))


def _cells(axes: Axes, matrix: np.ndarray) -> AxesImage:
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)
    colours = _SHARES.with_extremes(bad=PALE)
    image = axes.imshow(shares, cmap=colours, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.5)
    if len(matrix) <= 20:
        size = min(10.0, 110 / len(matrix))
        for row, column in np.argwhere(matrix):
            colour, count = "white" if shares[row, column] > 0.3 else BLACK, f"{matrix[row, column]}"
            axes.text(column, row, count, size=size, color=colour, ha="center", va="center")
    return image


def _name_classes(axes: Axes, names: Sequence[str]) -> None:
    size, at = _name_size(len(names)), range(len(names))
    axes.set_yticks(at, names, size=size)
    axes.set_xticks(at, names, size=size, rotation=90)
    axes.tick_params(length=0, pad=2)


def _name_groups(axes: Axes, parents: np.ndarray, groups: Sequence[str], *, left_in: float) -> None:
    """Write each superclass beside its block, with a line between blocks."""
    edges = [0, *(np.flatnonzero(np.diff(parents)) + 1).tolist(), len(parents)]
    for start, stop in pairwise(edges):
        axes.annotate(
            groups[parents[start]],
            (0, (start + stop - 1) / 2),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-72 * left_in, 0),
            textcoords="offset points",
            size=_GROUP_SIZE,
            ha="right",
            va="center",
        )
    for edge in edges[1:-1]:
        axes.axhline(edge - 0.5, color=GREY, lw=0.4)
        axes.axvline(edge - 0.5, color=GREY, lw=0.4)


def _scale(figure: Figure, axes: Axes, image: AxesImage) -> None:
    box = axes.get_position()
    bar = figure.add_axes((box.x1 + 0.12 / WIDTH_IN, box.y0, 0.16 / WIDTH_IN, box.height))
    ticks = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1]
    figure.colorbar(image, cax=bar, ticks=ticks, format=FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    bar.tick_params(length=2, labelsize=8.5)
    bar.set_title("of row", size=8.5, loc="left")


def _list(figure: Figure, pairs: Sequence[Pair], counts: Sequence[str]) -> None:
    """Write the most frequent mistakes in two columns at the foot, counts at the right of each."""
    height, half = figure.get_figheight(), _rows(pairs)
    top_in = 0.12 + _ROW_IN * half
    heading = f"Most frequent mistakes, true {_ARROW} called" if pairs else "No mistakes"
    listed = fitting(
        figure,
        lambda columns: [_called((shorten(true, columns), shorten(called, columns))) for true, called in pairs],
        size=_LIST_SIZE,
        room_in=WIDTH_IN / 2 - 0.75 - width_in(figure, counts, _LIST_SIZE),
    )
    figure.text(0.1 / WIDTH_IN, (top_in + 0.12) / height, heading, size=10.5)
    for i, (text, count) in enumerate(zip(listed, counts, strict=True)):
        left_in, y = 0.1 + (WIDTH_IN / 2) * (i // half), (top_in - _ROW_IN * (i % half + 0.5)) / height
        figure.text((left_in + 0.22) / WIDTH_IN, y, f"{i + 1}", size=_LIST_SIZE, color=GREY, ha="right")
        figure.text((left_in + 0.3) / WIDTH_IN, y, text, size=_LIST_SIZE)
        figure.text((left_in + WIDTH_IN / 2 - 0.25) / WIDTH_IN, y, count, size=_LIST_SIZE, ha="right")


def _called(pair: Pair) -> str:
    return f"{pair[0]} {_ARROW} {pair[1]}"


def _rows(pairs: Sequence[Pair]) -> int:
    return (len(pairs) + 1) // 2


def _subtitle(matrix: np.ndarray) -> str:
    n, correct = int(matrix.sum()), int(np.trace(matrix))
    absent = int((matrix.sum(axis=1) == 0).sum())
    grey = f"; {absent} without images are grey" if absent else ""
    right = f"{correct:,} of {n:,} right, {100 * correct / n:.1f} %" if n else "No images"
    return f"{right}.\nRow: true class, column: what it was called; colour: share of the row{grey}."
