"""The confusion matrix: what is called what, by class and by superclass."""

import itertools
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from bakeoff.reports.canvas import BLUE
from bakeoff.reports.interactive.arms import label
from bakeoff.reports.interactive.counts import Counts
from bakeoff.reports.interactive.style import (
    Picture,
    Settings,
    Words,
    axis,
    button,
    figure,
    menu,
    rgba,
    safe,
)
from bakeoff.results.metrics import top_confusions

_MENU_COLUMNS, _CLASS_COLUMNS = 14, 16  # of names: a phone is narrow
_NUM_TOLD = 3  # of the most frequent mistakes
_TICKS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)  # of the scale of colours, shares of a row
# From nothing to blue: on white paper as on black, the more the farther from the paper; one mistake is a step.
_SHARES = [[0, rgba(BLUE, 0)], [0.001, rgba(BLUE, 0.06)], [1, rgba(BLUE, 1)]]


def confusion(counted: Sequence[Counts], *, words: Words) -> Picture | None:
    """Draw the matrix of each arm, summed over its seeds; a menu chooses the arm, and classes or superclasses.

    The scale of colour is a square root: one mistake in a hundred can be seen beside the diagonal.
    """
    if not counted:
        return None
    views = [(counts, *view) for counts in counted for view in counts.views()]
    traces, choices = [], []
    for i, (counts, kind, names, matrix) in enumerate(views):
        traces.append(_cells(names, matrix, words).update(visible=i == 0))
        text = f"{safe(label(counts.score), _MENU_COLUMNS)}, {words(kind)}"
        choices.append(button(text, {"visible": [j == i for j in range(len(views))]}, _axes(names, words)))
    first, _, names, _ = views[0]
    mistakes = _mistakes(first, words)
    return Picture(
        id="confusion",
        title=words("picture_confusion"),
        alt=words("picture_confusion_alt").format(
            arm=label(first.score), classes=len(first.classes), mistakes=mistakes
        ),
        figure=figure(
            traces,
            height=int(np.clip(240 + 9.8 * len(names), 460, 1400)),
            dragmode="zoom",
            updatemenus=menu(choices, gap=46),
            coloraxis=_scale(),
            **_axes(names, words),
        ),
        note=words("picture_confusion_note").format(arm=label(first.score), runs=first.num_runs, mistakes=mistakes),
        hint=words("hint_confusion"),
    )


def _cells(names: Sequence[str], matrix: np.ndarray, words: Words) -> go.Heatmap:
    """Return a heat map of the shares of each row; a class without images is an empty row."""
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)
    categories = _distinct(names)
    true, called, share, times = (words(key) for key in ("true_class", "called", "share", "count"))
    return go.Heatmap(
        x=categories,
        y=categories,
        z=np.sqrt(shares).astype(np.float32),
        customdata=np.stack([matrix, 100 * shares], axis=-1).astype(np.float32),
        coloraxis="coloraxis",
        hoverongaps=False,
        hovertemplate=f"{true}: <b>%{{y}}</b><br>{called}: <b>%{{x}}</b><br>{times}: %{{customdata[0]:,.0f}}"
        f"<br>{share}: %{{customdata[1]:.1f}} %<extra></extra>",
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names as plotly shows them, of which no two are equal: equal categories would be one row."""
    given: dict[str, None] = {}
    for name in map(safe, names):
        numbered = (f"{name} ({number})" for number in itertools.count(2))
        given[next(one for one in itertools.chain([name], numbered) if one not in given)] = None
    return list(given)


def _axes(names: Sequence[str], words: Words) -> dict[str, Settings]:
    """Return both axes. Plotly leaves out names that have no room, and shows them where one zooms in."""
    size = 8 if len(names) > 40 else 11
    short = {whole: safe(name, _CLASS_COLUMNS) for whole, name in zip(_distinct(names), names, strict=True)}
    same: Settings = {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": _distinct(names),
        "labelalias": {whole: cut for whole, cut in short.items() if whole != cut},
        "tickfont": {"size": size},
        "showgrid": False,
        "fixedrange": False,
    }
    last = len(names) - 0.5
    return {
        "xaxis": axis(words("called"), **same, range=[-0.5, last], tickangle=-90),
        "yaxis": axis(words("true_class"), **same, range=[last, -0.5]),
    }


def _scale() -> Settings:
    """Return the colours and their legend, which lies above the matrix: at its side it would take a phone's width."""
    bar = {
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "xpad": 0,
        "y": 1,
        "yanchor": "bottom",
        "len": 1,
        "thickness": 8,
        "ticklabeloverflow": "allow",
        "tickvals": np.sqrt(_TICKS).tolist(),
        "ticktext": [f"{100 * share:g}{' %' if share == 1 else ''}" for share in _TICKS],
        "tickfont": {"size": 10},
        "outlinewidth": 0,
    }
    return {"colorscale": _SHARES, "cmin": 0, "cmax": 1, "colorbar": bar}


def _mistakes(counts: Counts, words: Words) -> str:
    """Return the most frequent mistakes in words, as plain text."""
    found = top_confusions(counts.confusion, _NUM_TOLD)
    total = counts.confusion.sum(axis=1)
    told = [
        words("mistake").format(
            true=counts.classes[true], called=counts.classes[called], share=f"{100 * n / total[true]:.1f}"
        )
        for true, called, n in found
    ]
    return "; ".join(told) or words("no_mistakes")
