"""Which classes an arm gains and which it loses: the recall of every class beside the control's."""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from bakeoff.reports import formats
from bakeoff.reports.interactive.arms import Look, label
from bakeoff.reports.interactive.counts import Counts
from bakeoff.reports.interactive.style import (
    LEGEND_COLUMNS,
    LINE,
    TEXT_ONLY,
    Picture,
    Words,
    axis_of_percent,
    axis_of_rows,
    figure,
    height_of_rows,
    lines,
    safe,
)

MOST_CLASSES = 120  # rows; of more, those with the greatest gains and losses
_NAME_COLUMNS = 20


def recall(control: Counts, best: Counts, looks: Sequence[Look], *, words: Words) -> Picture | None:
    """Draw the recall of every class of two arms, sorted by how they differ.

    Args:
        control: on the left of a difference.
        best: the arm to compare with it.
        looks: of the control and of the other.
        words: of the reader's language.
    """
    if control.classes != best.classes:
        return None
    gains = best.recall - control.recall  # NaN for a class without images
    order = np.argsort(-gains, kind="stable")[: np.isfinite(gains).sum()]
    if not len(order):
        return None
    rows = _extremes(order)
    arms = {"best": label(best.score), "control": label(control.score)}
    up, down = order[0], order[-1]
    told = {
        "up": best.classes[up],
        "gain": formats.points(gains[up], digits=1),
        "down": best.classes[down],
        "loss": formats.points(gains[down], digits=1),
    }
    noise = _noise(control)
    beyond = int((np.abs(100 * gains[order]) > noise).sum())
    note = words("picture_recall_note").format(noise=f"{noise:.1f}", beyond=beyond, classes=len(order))
    if len(rows) < len(order):
        note += " " + words("picture_recall_cut").format(shown=len(rows), classes=len(order))
    shown = 100 * np.concatenate([control.recall[rows], best.recall[rows]])
    dots = [_dots(one, look, rows, gains, words) for one, look in zip((control, best), looks, strict=True)]
    return Picture(
        id="recall",
        title=words("picture_recall").format(**arms),
        alt=words("picture_recall_alt").format(**arms, **told),
        figure=figure(
            [_links(control, best, rows), *dots],
            height=height_of_rows(len(rows)) + 30,
            showlegend=True,
            xaxis={**axis_of_percent(words("recall"), shown.tolist(), words=words), "side": "top"},
            yaxis=axis_of_rows([safe(best.classes[i], _NAME_COLUMNS) for i in rows]),
        ),
        note=note,
    )


def _extremes(order: np.ndarray) -> np.ndarray:
    half = MOST_CLASSES // 2
    return order if len(order) <= MOST_CLASSES else np.concatenate([order[:half], order[-half:]])


def _noise(counts: Counts) -> float:
    """Return, in points, within what two recalls of a class differ nineteen times in twenty by chance of its images."""
    images = np.bincount(counts.said.label)
    n, share = float(np.median(images[images > 0])), float(np.nanmean(counts.recall))
    return 100 * 1.96 * math.sqrt(2 * share * (1 - share) / n)


def _links(control: Counts, best: Counts, rows: np.ndarray) -> go.Scatter:
    """Return the lines between the dots of each row, as one trace with a gap after each."""
    across = np.stack([control.recall[rows], best.recall[rows], np.full(len(rows), np.nan)], axis=1)
    return go.Scatter(
        x=(100 * across).reshape(-1).astype(np.float32),
        y=np.repeat(np.arange(len(rows), dtype=np.int32), 3),
        mode="lines",
        line={"color": LINE, "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )


def _dots(counts: Counts, look: Look, rows: np.ndarray, gains: np.ndarray, words: Words) -> go.Scatter:
    totals, name = counts.confusion.sum(axis=1), safe(label(counts.score), LEGEND_COLUMNS)
    hover = [
        lines(
            f"<b>{safe(counts.classes[i])}</b>",
            f"{name}: {100 * counts.recall[i]:.1f} % ({counts.confusion[i, i]:,} / {totals[i]:,})",
            f"{words('difference')}: {formats.points(gains[i], digits=1)} {words('points')}",
        )
        for i in rows
    ]
    return go.Scatter(
        x=(100 * counts.recall[rows]).astype(np.float32),
        y=np.arange(len(rows), dtype=np.int32),
        mode="markers",
        marker={"color": look.colour, "symbol": look.symbol, "size": 9},
        name=name,
        hovertext=hover,
        hovertemplate=TEXT_ONLY,
    )
