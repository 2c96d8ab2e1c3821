"""What accuracy costs: parameters, multiply-adds, training time, and the arms that no other beats in both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from bakeoff.reports import formats, measures
from bakeoff.reports.interactive.arms import bars, hover_of_mean, label, looks, percent, quantity, ranked, reach
from bakeoff.reports.interactive.style import (
    LINE,
    NAME_COLUMNS,
    TEXT_ONLY,
    Picture,
    Settings,
    Words,
    axis,
    axis_of_percent,
    button,
    figure,
    menu,
    safe,
)
from bakeoff.results.comparison import ArmScore, Comparison

MOST_NAMES = 12  # arms whose names stand beside their points
_WIDE = 5.0  # a ratio of costs above which an axis is logarithmic
_NEAR_X, _NEAR_Y = 0.22, 0.045  # parts of an axis within which two names would touch
# Attribute of an arm, the factor to the unit that people use, the key of its name in words.
_COSTS = (("params_m", 1.0, "cost_params"), ("macs_g", 1000.0, "cost_macs"), ("training_s", 1 / 60, "cost_training"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Priced:
    """The arms whose cost is known.

    Args:
        name: of the cost, with its unit.
        scores: best first.
        costs: one an arm, above zero.
    """

    name: str
    scores: tuple[ArmScore, ...]
    costs: tuple[float, ...]

    @property
    def top1(self) -> list[float]:
        """The mean accuracy of each arm, per cent."""
        return [percent(score) for score in self.scores]

    @property
    def is_wide(self) -> bool:
        """Whether costs are so far apart that their axis is logarithmic."""
        return max(self.costs) / min(self.costs) > _WIDE


def costs(comparison: Comparison, *, words: Words) -> Picture | None:
    """Draw accuracy against each cost in which arms differ, chosen by a menu."""
    priced = [_priced(comparison, attribute, factor, words(word)) for attribute, factor, word in _COSTS]
    priced = [one for one in priced if measures.costs_differ(one.costs)]
    if not priced:
        return None
    unit, axes = quantity(comparison, words), [_axis(one) for one in priced]
    traces = [trace for one in priced for trace in (_front(one), _points(comparison, one, unit))]
    for place, trace in enumerate(traces):
        trace.update(visible=place < 2)
    choices = [
        button(one.name, {"visible": [place // 2 == i for place in range(len(traces))]}, {"xaxis": axes[i]})
        for i, one in enumerate(priced)
    ]
    first = priced[0]
    unbeaten = formats.names(label(first.scores[i]) for i in front(first.costs, first.top1))
    return Picture(
        id="cost",
        title=words("picture_cost"),
        alt=words("picture_cost_alt").format(quantity=unit, cost=first.name, unbeaten=unbeaten),
        figure=figure(
            traces,
            height=440,
            updatemenus=menu(choices),
            xaxis=axes[0],
            yaxis=axis_of_percent(unit, reach(ranked(comparison)), words=words),
        ),
        note=words("picture_cost_note"),
        hint=words("hint_cost"),
    )


def front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Return which points no other beats, cheapest first: nothing that costs no more is worth as much."""
    kept: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -values[i])):
        if not kept or values[i] > values[kept[-1]]:
            kept.append(i)
    return kept


def _priced(comparison: Comparison, attribute: str, factor: float, name: str) -> Priced:
    known = [(score, getattr(score, attribute)) for score in ranked(comparison)]
    known = [(score, factor * cost) for score, cost in known if cost]
    return Priced(name=name, scores=tuple(score for score, _ in known), costs=tuple(cost for _, cost in known))


def _axis(priced: Priced) -> Settings:
    """Return an axis with room for names."""
    low, high = min(priced.costs), max(priced.costs)
    if priced.is_wide:
        margin = 0.15 * math.log10(high / low)
        ends = [math.log10(low) - margin, math.log10(high) + margin]
        return axis(priced.name, type="log", range=ends, dtick="D2", tickformat="~g")
    margin = 0.15 * (high - low)
    return axis(priced.name, type="linear", range=[low - margin, high + margin], nticks=6)


def _front(priced: Priced) -> go.Scatter:
    """Return the staircase of the best accuracy that a cost can buy."""
    chosen = front(priced.costs, priced.top1)
    return go.Scatter(
        x=[priced.costs[i] for i in chosen],
        y=[priced.top1[i] for i in chosen],
        mode="lines",
        line={"color": LINE, "width": 1.2, "dash": "dot", "shape": "hv"},
        hoverinfo="skip",
    )


def _points(comparison: Comparison, priced: Priced, unit: str) -> go.Scatter:
    by_arm = looks(comparison)
    chosen = [by_arm[score.name] for score in priced.scores]
    said = [f"{priced.name}: {formats.significant(cost)}" for cost in priced.costs]
    low, high = min(priced.costs), max(priced.costs)
    middle = math.sqrt(low * high) if priced.is_wide else (low + high) / 2
    return go.Scatter(
        x=priced.costs,
        y=priced.top1,
        error_y={
            **bars([score.mean for score in priced.scores], clipped=True),
            **{"color": LINE, "thickness": 1.2, "width": 3},
        },
        mode="markers+text",
        marker={
            "color": [look.colour for look in chosen],
            "symbol": [look.symbol for look in chosen],
            "size": 11,
            "line": {"color": LINE, "width": 0.5},
        },
        text=_names(priced),
        textposition=["top right" if cost <= middle else "top left" for cost in priced.costs],
        hovertext=[hover_of_mean(score, unit, text) for score, text in zip(priced.scores, said, strict=True)],
        hovertemplate=TEXT_ONLY,
    )


def _names(priced: Priced) -> list[str]:
    """Return what stands beside each point: its name, or nothing where it would touch that of a better arm."""
    if len(priced.scores) > MOST_NAMES:
        return [""] * len(priced.scores)
    across, up, ends = [math.log(cost) for cost in priced.costs], priced.top1, reach(priced.scores)
    wide, tall = max(across) - min(across), max(ends) - min(ends)
    named: list[int] = []
    for i in range(len(up)):
        if all(abs(across[i] - across[j]) > _NEAR_X * wide or abs(up[i] - up[j]) > _NEAR_Y * tall for j in named):
            named.append(i)
    return [safe(label(score), NAME_COLUMNS) if i in named else "" for i, score in enumerate(priced.scores)]
