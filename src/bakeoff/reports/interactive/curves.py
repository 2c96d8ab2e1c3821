"""Training curves of all runs of a study: an arm is a line, its runs are beside it, a menu chooses the quantity.

Each quantity has an axis of its own in one and the same panel. The menu makes the traces of the others transparent
instead of hiding them, because plotly keeps in `visible` which arms a reader has switched off.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from bakeoff.record import Record
from bakeoff.reports.interactive.arms import Look, label, looks, ranked
from bakeoff.reports.interactive.style import (
    CLEAR,
    LEGEND_COLUMNS,
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
from bakeoff.results.comparison import ArmScore, Comparison

MOST_RUNS = 60  # that are drawn one by one; above it a band from the lowest to the highest
MOST_SHOWN = 8  # arms that are switched on at first
FEW_EPOCHS = 12
LARGEST = 1e30  # a loss above it has no place on an axis, nor in float32
_POINTS, _POINTS_OF_MANY = 200, 60  # of a line


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """What the metric log holds of an epoch, with the key of its name in words and how it is drawn."""

    key: str
    word: str
    scale: float
    form: str


_QUANTITIES = (
    Quantity(key="val/top1", word="curve_val_top1", scale=100, form=".1f"),
    Quantity(key="val/loss", word="curve_val_loss", scale=1, form=".3f"),
    Quantity(key="train/loss", word="curve_train_loss", scale=1, form=".3f"),
    Quantity(key="lr", word="curve_lr", scale=1, form=".2~g"),
    Quantity(key="val/agreement", word="curve_agreement", scale=100, form=".1f"),
    Quantity(key="train/share/labels", word="curve_label_share", scale=100, form=".1f"),
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Course:
    """One quantity of one arm.

    Args:
        epochs: int32 [n].
        values: float32 [n runs], NaN where a run has none.
    """

    epochs: np.ndarray
    values: np.ndarray

    @property
    def differ(self) -> bool:
        """Whether its runs are not all the same, as their learning rates are."""
        return bool(np.nanmax(np.nanmax(self.values, axis=1) - np.nanmin(self.values, axis=1)) > 0)


def curves(comparison: Comparison, *, words: Words) -> Picture | None:
    """Draw loss, accuracy and learning rate over the epochs, finished or not."""
    scores = _in_order(comparison)
    num_runs = sum(bool(record.rows) for score in scores for record in score.runs.values())
    known = [q for q in _QUANTITIES if any(_is_known(score, q) for score in scores)]
    if not known:
        return None
    single, chosen = num_runs <= MOST_RUNS, looks(comparison)
    traces: list[go.Scatter] = []
    of: list[int | None] = []  # which quantity a trace shows; None for the entries of the legend
    for place, score in enumerate(scores):
        shared = {"visible": True if place < MOST_SHOWN else "legendonly", "legendgroup": str(place)}
        traces.append(_entry(score, chosen[score.name]).update(shared))
        of.append(None)
        for i, q in enumerate(known):
            drawn = _lines(score, q, chosen[score.name], single=single, words=words)
            traces += [line.update(shared, yaxis=f"y{i + 1}", opacity=float(i == 0)) for line in drawn]
            of += [i] * len(drawn)
    note = words("picture_curves_runs") if single else words("picture_curves_band").format(runs=num_runs)
    hidden = words("picture_curves_hidden").format(shown=MOST_SHOWN) if len(scores) > MOST_SHOWN else ""
    quantities = ", ".join(words(q.word) for q in known)
    return Picture(
        id="curves",
        title=words("picture_curves"),
        alt=words("picture_curves_alt").format(runs=num_runs, arms=len(scores), quantities=quantities),
        figure=figure(
            traces,
            height=520,
            showlegend=True,
            dragmode="zoom",
            updatemenus=menu([_choice(i, q, of, len(known), words) for i, q in enumerate(known)]),
            xaxis=_axis_of_epochs(scores, words),
            **{f"yaxis{i + 1}": _axis(q, i, words) for i, q in enumerate(known)},
        ),
        note=f"{note} {hidden}".strip(),
        hint=words("hint_curves"),
    )


def _in_order(comparison: Comparison) -> list[ArmScore]:
    """Return the arms that have an epoch: the control, then the best, then those without an accuracy."""
    order = [comparison.control, *ranked(comparison), *comparison.arms]
    by_name = {score.name: score for score in order if any(record.rows for record in score.runs.values())}
    return list(by_name.values())


def _is_known(score: ArmScore, quantity: Quantity) -> bool:
    return any(row.get(quantity.key) is not None for record in score.runs.values() for row in record.rows)


def _entry(score: ArmScore, look: Look) -> go.Scatter:
    """Return the legend's entry of an arm: a trace of its own, since the others become transparent."""
    line = {"color": look.colour, "dash": look.dash, "width": 2.5}
    return go.Scatter(
        x=[None], y=[None], mode="lines", line=line, name=safe(label(score), LEGEND_COLUMNS), hoverinfo="skip"
    )


def _lines(score: ArmScore, quantity: Quantity, look: Look, *, single: bool, words: Words) -> list[go.Scatter]:
    """Return the mean line of one arm, and below it its runs or the band that they fill."""
    course = _course(score.runs, quantity, most=_POINTS if single else _POINTS_OF_MANY)
    if course is None:
        return []
    below = [_runs(course, look) if single else _band(course, look)] if course.differ else []
    unit = " %" if quantity.scale == 100 else ""
    hover = f"{words('epoch')} %{{x}}<br>{words(quantity.word)}: %{{y:{quantity.form}}}{unit}"
    return [
        *below,
        go.Scatter(
            x=course.epochs,
            y=np.nanmean(course.values, axis=1).astype(np.float32),
            mode="lines" if len(course.epochs) > 1 else "markers",
            line={"color": look.colour, "dash": look.dash, "width": 2.2},
            marker={"color": look.colour},
            name=safe(label(score)),
            customdata=np.isfinite(course.values).sum(axis=1).astype(np.int16),
            hovertemplate=f"<b>%{{fullData.name}}</b><br>{hover}<br>n = %{{customdata}}<extra></extra>",
            showlegend=False,
        ),
    ]


def _course(runs: Mapping[int, Record], quantity: Quantity, *, most: int) -> Course | None:
    """Return a quantity by epoch and run, thinned to at most so many epochs of which the last is one."""
    of_runs = [by_epoch for record in runs.values() if (by_epoch := _finite(record, quantity))]
    epochs = sorted(set().union(*of_runs))
    if not epochs:
        return None
    step = math.ceil(len(epochs) / most)
    epochs = epochs[::-step][::-1]
    values = [[by_epoch.get(epoch, math.nan) for by_epoch in of_runs] for epoch in epochs]
    # float32 holds seven digits, in half the letters of a page.
    return Course(epochs=np.array(epochs, np.int32), values=np.array(values, np.float32))


def _finite(record: Record, quantity: Quantity) -> dict[int, float]:
    """Return a quantity of one run by epoch, without what is no number or as good as infinite."""
    values = ((row.get("epoch"), row.get(quantity.key)) for row in record.rows)
    return {
        epoch: quantity.scale * value
        for epoch, value in values
        if isinstance(epoch, int) and isinstance(value, int | float) and abs(value) < LARGEST
    }


def _runs(course: Course, look: Look) -> go.Scatter:
    """Return all runs as one trace, with a gap after each."""
    num_runs = course.values.shape[1]
    gaps = np.full((1, num_runs), np.nan, np.float32)
    return go.Scatter(
        x=np.tile(np.append(course.epochs, course.epochs[-1]), num_runs),
        y=np.concatenate([course.values, gaps]).T.reshape(-1),
        mode="lines",
        line={"color": rgba(look.colour, 0.4), "width": 1},
        hoverinfo="skip",
        showlegend=False,
    )


def _band(course: Course, look: Look) -> go.Scatter:
    """Return the area from the lowest to the highest run."""
    low, high = np.nanmin(course.values, axis=1), np.nanmax(course.values, axis=1)
    return go.Scatter(
        x=np.concatenate([course.epochs, course.epochs[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        mode="lines",
        line={"color": CLEAR, "width": 0},
        fill="toself",
        fillcolor=rgba(look.colour, 0.18),
        hoverinfo="skip",
        showlegend=False,
    )


def _axis_of_epochs(scores: Sequence[ArmScore], words: Words) -> Settings:
    """Return an axis whose ticks are whole epochs, which plotly would split where they are few."""
    most = max(len(record.rows) for score in scores for record in score.runs.values())
    whole = {"dtick": 1} if most <= FEW_EPOCHS else {}
    return axis(words("epoch"), fixedrange=False, **whole)


def _axis(quantity: Quantity, place: int, words: Words) -> Settings:
    unit = f"{words(quantity.word)}{', %' if quantity.scale == 100 else ''}"
    over = {"overlaying": "y", "side": "left", "showgrid": True, "tickmode": "auto"} if place else {}
    return axis(unit, fixedrange=False, rangemode="tozero", visible=place == 0, **over)


def _choice(place: int, quantity: Quantity, of: Sequence[int | None], count: int, words: Words) -> Settings:
    """Return the button that brings one quantity to the front."""
    opacity = [1.0 if shown in (None, place) else 0.0 for shown in of]
    axes = {f"yaxis{i + 1 if i else ''}.visible": i == place for i in range(count)}
    return button(words(quantity.word), {"opacity": opacity}, axes)
