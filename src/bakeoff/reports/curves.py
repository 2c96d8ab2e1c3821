"""Training curves: loss, accuracy and learning rate of one run over its epochs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bakeoff.errors import DataError
from bakeoff.reports.canvas import BLACK, BLUE, GREEN, GREY, VERMILION, blank, headline, style
from bakeoff.reports.fonts import drawable
from bakeoff.results.metrics import wilson

Rows = Sequence[Mapping[str, Any]]


class Line(NamedTuple):
    """One quantity over the epochs; NaN where it was not finite."""

    label: str
    colour: str
    epochs: np.ndarray
    values: np.ndarray

    @property
    def last(self) -> tuple[float, float] | None:
        """Epoch and value of the last finite point."""
        finite = np.flatnonzero(np.isfinite(self.values))
        return (float(self.epochs[finite[-1]]), float(self.values[finite[-1]])) if len(finite) else None


class Best(NamedTuple):
    """The epoch of greatest validation accuracy; the first of several."""

    epoch: float
    top1: float  # per cent


def training_curves(rows: Rows, *, title: str = "", num_images: int | None = None) -> Figure:
    """Draw the rows of a metric log: three panels over one axis of epochs, the best epoch marked.

    Args:
        rows: `epoch`, `lr`, `train/loss`, and where there is validation `val/loss`, `val/top1`, `val/top5`.
        title: name of the run.
        num_images: images behind `val/top1`, for its interval.

    Raises:
        DataError: there are no rows.
    """
    if not rows:
        raise DataError("training curves", found="no rows", expected="the metrics of at least one epoch")
    title = drawable(title) or "Training curves"
    loss = [_line(rows, "train/loss", "train", VERMILION), _line(rows, "val/loss", "val", BLUE)]
    top1 = _line(rows, "val/top1", "top-1", BLUE, scale=100)
    accuracy = [_line(rows, "val/top5", "top-5", GREEN, scale=100), top1]
    with style([title]):
        figure = blank(height_in=7.6)
        panels = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1.7])
        figure.subplots_adjust(left=0.085, right=0.845, top=0.87, bottom=0.065, hspace=0.27)
        _panel(panels[0], "Loss", loss, form="{:.3g}")
        _panel(panels[1], "Validation accuracy, %", accuracy, form="{:.1f}")
        _panel(panels[2], "Learning rate", [_line(rows, "lr", "", BLACK)], form="{:.2g}")
        _axis_of_epochs(panels[2], _column(rows, "epoch"))
        best = _best(top1)
        if best:
            _mark_best(panels, best)
        subtitle = _subtitle(top1, loss[0], num_images)
        headline(figure, title, subtitle)
    chosen = f" Best epoch {best.epoch:g}: {best.top1:.1f} %." if best else ""
    figure.set_label(f"Training curves of {title}, {len(rows)} epochs. {subtitle}.{chosen}")
    return figure


def _column(rows: Rows, key: str) -> np.ndarray:
    """Return float64 [n]; what is no finite number (diverged, null, damaged) becomes NaN."""
    values = (row.get(key) for row in rows)
    numbers = (float(value) if isinstance(value, int | float) else math.nan for value in values)
    return np.array([number if math.isfinite(number) else math.nan for number in numbers])


def _line(rows: Rows, key: str, label: str, colour: str, *, scale: float = 1) -> Line:
    """Return one quantity: a row without the key is skipped, a row whose value is not finite is a gap."""
    present = [row for row in rows if key in row]
    return Line(label, colour, _column(present, "epoch"), scale * _column(present, key))


def _best(top1: Line) -> Best | None:
    if top1.last is None:
        return None
    at = int(np.nanargmax(top1.values))
    return Best(float(top1.epochs[at]), float(top1.values[at]))


def _subtitle(top1: Line, train_loss: Line, num_images: int | None) -> str:
    if top1.last is None:
        if train_loss.last is None:
            return "No finite loss; no validation accuracy"
        return f"Train loss {train_loss.last[1]:.3g} after epoch {train_loss.last[0]:g}; no validation accuracy"
    epoch, value = top1.last
    text = f"Validation top-1 {value:.1f} % after epoch {epoch:g}"
    if not num_images:
        return text
    low, high = wilson(round(value / 100 * num_images), num_images)
    return f"{text} (95 % interval {100 * low:.1f} to {100 * high:.1f}, n = {num_images:,})"


def _panel(axes: Axes, title: str, lines: Sequence[Line], *, form: str) -> None:
    lines = [line for line in lines if line.last]
    for line in lines:
        few = len(line.values) <= 30  # a single point has no line
        axes.plot(line.epochs, line.values, color=line.colour, lw=1.8, marker="o" if few else "", ms=4)
    axes.grid(axis="y")
    if not lines:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, color=GREY, ha="center", va="center")
        axes.set_yticks([])
        axes.set_title(title)
        return
    single = all(len(line.values) == 1 for line in lines)
    start = _set_limits(axes, np.concatenate([line.values for line in lines]), from_zero=single)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_title(title + (f"   (axis starts at {start:.3g}, not at 0)" if start else ""))
    _label_ends(axes, lines, form=form)


def _set_limits(axes: Axes, values: np.ndarray, *, from_zero: bool) -> float:
    """Begin at zero unless that would waste half the panel; return where the axis starts."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if from_zero or low == high or 0 <= low <= high / 2:
        bottom, top = min(low, 0.0), max(high, 0.0)
        axes.set_ylim(bottom * 1.06, top * 1.06 if top > bottom else 1)
    else:
        axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    return float(axes.get_ylim()[0])


def _label_ends(axes: Axes, lines: Sequence[Line], *, form: str, gap: float = 13) -> None:
    """Write name and last value beside the end of each line, at least `gap` points apart."""
    height = 72 * axes.get_position().height * axes.figure.get_figheight()  # type: ignore[union-attr]
    bottom, top = axes.get_ylim()
    ends = sorted((line.last[1], line) for line in lines if line.last)
    own = [height * (value - bottom) / (top - bottom) for value, _ in ends]
    placed = own.copy()
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    for at, moved, (value, line) in zip(own, placed, ends, strict=True):
        axes.annotate(
            f"{line.label} {form.format(value)}".strip(),
            (1, value),
            xycoords=axes.get_yaxis_transform(),
            xytext=(7, moved - at),
            textcoords="offset points",
            color=line.colour,
            va="center",
        )


def _axis_of_epochs(axes: Axes, epochs: np.ndarray) -> None:
    first, last = float(np.nanmin(epochs)), float(np.nanmax(epochs))
    margin = 0.01 * (last - first) or 0.5
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")


def _mark_best(panels: Sequence[Axes], best: Best) -> None:
    for axes in panels:
        axes.axvline(best.epoch, color=GREY, lw=0.9, ls=(0, (2, 2)), zorder=1)
    axes = panels[1]
    axes.plot([best.epoch], [best.top1], "o", ms=9, mfc="none", mec=BLUE, mew=1.5)
    right = best.epoch > sum(axes.get_xlim()) / 2  # the half with more room for the text is the other one
    axes.annotate(
        f"best epoch {best.epoch:g}: {best.top1:.1f} %",
        (best.epoch, 0),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-5 if right else 5, 6),
        textcoords="offset points",
        ha="right" if right else "left",
        color=GREY,
    )
