"""The answer as pictures: every arm's accuracy, and how far each is from the control."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from bakeoff.reports import formats, measures
from bakeoff.reports.interactive.arms import (
    Look,
    bars,
    hover_of_mean,
    hover_of_seed,
    interval,
    label,
    looks,
    quantity,
    ranked,
    reach,
    runs_diverged,
)
from bakeoff.reports.interactive.style import (
    GRID,
    LINE,
    NAME_COLUMNS,
    TEXT_ONLY,
    Picture,
    Settings,
    Words,
    axis,
    axis_of_percent,
    axis_of_rows,
    figure,
    height_of_rows,
    lines,
    rgba,
    safe,
)
from bakeoff.results.comparison import ArmScore, Comparison
from bakeoff.results.statistics import Difference, Interval
from bakeoff.study.schema import Reference

_SEEDS_BELOW = 0.24  # rows: where the small points lie, so that the mean does not cover them
_MOST_TOLD = 10  # arms in the text for those who cannot see


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """One estimate with its interval, in its row."""

    row: int
    of: Interval | Difference
    look: Look
    solid: bool
    hover: str


def accuracy(comparison: Comparison, *, words: Words) -> Picture | None:
    """Draw every arm: a point a seed, the mean with its interval, what others have measured."""
    scores, chosen, unit = ranked(comparison), looks(comparison), quantity(comparison, words)
    if not scores:
        return None
    rows = {name: row for row, score in enumerate(scores) for name in (score.name, *score.arm.repeated)}
    references = [reference for reference in measures.near(comparison) if reference.arm in rows]
    outside = len(comparison.references) - len(references)
    traces = [_seeds(scores, chosen, words)]
    means = [_mean(score, row, chosen[score.name], unit) for row, score in enumerate(scores)]
    traces += _marks(means, clipped=True)
    traces += [_others(references, rows, words)] if references else []
    shown = reach(scores) + [100 * reference.top1 for reference in references]
    best, worst = scores[0], scores[-1]
    told = {"best": label(best), "high": interval(best), "worst": label(worst), "low": interval(worst)}
    notes = (
        *(words("picture_accuracy_note"), words("picture_accuracy_others") if references else ""),
        words("picture_accuracy_outside").format(n=outside) if outside else "",
        runs_diverged(comparison.arms, words),
    )
    return Picture(
        id="accuracy",
        title=words("picture_accuracy"),
        alt=words("picture_accuracy_alt").format(quantity=unit, count=len(scores), **told),
        figure=figure(
            traces,
            height=height_of_rows(len(scores)),
            xaxis=axis_of_percent(unit, shown, words=words),
            yaxis=axis_of_rows([safe(label(score), NAME_COLUMNS) for score in scores]),
        ),
        note=" ".join(note for note in notes if note),
    )


def difference(comparison: Comparison, *, words: Words) -> Picture | None:
    """Draw what each arm gains or loses beside the control: paired means with their intervals over the noise floor."""
    scores, chosen = [score for score in ranked(comparison) if score.to_control is not None], looks(comparison)
    if not scores:
        return None
    control, floor = label(comparison.control), comparison.floor
    noise = 0.0 if floor is None else 100 * measures.noise_of_two(floor)
    note = words("picture_difference_note").format(control=control)
    if floor is not None:
        spread, twenty = (formats.percent(x, digits=2) for x in (floor.sd, measures.once_in_twenty(floor)))
        told = {"noise": f"{noise:.2f}", "spread": spread, "df": floor.df, "twenty": twenty}
        note += " " + words("picture_difference_floor").format(**told)
    listed = "; ".join(f"{label(score)} {_points(score)}" for score in scores[:_MOST_TOLD])
    return Picture(
        id="difference",
        title=words("picture_difference").format(control=comparison.control.name),
        alt=words("picture_difference_alt").format(control=control, listed=listed),
        figure=figure(
            _marks([_gain(score, row, chosen[score.name], words) for row, score in enumerate(scores)], clipped=False),
            height=height_of_rows(len(scores)),
            xaxis=_axis_of_points(scores, noise, words),
            yaxis=axis_of_rows([safe(label(score), NAME_COLUMNS) for score in scores]),
            shapes=[_band(noise)] if noise else [],
        ),
        note=note,
    )


def _marks(marks: Sequence[Mark], *, clipped: bool) -> list[go.Scatter]:
    """Return one trace a colour, since an interval has its trace's; one an arm would take a browser seconds."""
    traces = []
    for colour in dict.fromkeys(mark.look.colour for mark in marks):
        own = [mark for mark in marks if mark.look.colour == colour]
        traces.append(
            go.Scatter(
                x=[100 * mark.of.estimate for mark in own],
                y=[mark.row for mark in own],
                error_x={
                    **bars([mark.of for mark in own], clipped=clipped),
                    **{"color": colour, "thickness": 2, "width": 5},
                },
                mode="markers",
                marker={
                    "color": colour,
                    "symbol": [mark.look.symbol if mark.solid else f"{mark.look.symbol}-open" for mark in own],
                    "size": 11,
                    "line": {"width": [0 if mark.solid else 2 for mark in own], "color": colour},
                },
                hovertext=[mark.hover for mark in own],
                hovertemplate=TEXT_ONLY,
            )
        )
    return traces


def _mean(score: ArmScore, row: int, look: Look, unit: str) -> Mark:
    assert score.mean is not None
    return Mark(row=row, of=score.mean, look=look, solid=True, hover=hover_of_mean(score, unit))


def _seeds(scores: list[ArmScore], chosen: dict[str, Look], words: Words) -> go.Scatter:
    runs = [(row, score, seed, top1) for row, score in enumerate(scores) for seed, top1 in score.top1.items()]
    return go.Scatter(
        x=[100 * top1 for *_, top1 in runs],
        y=[row + _SEEDS_BELOW for row, *_ in runs],
        mode="markers",
        marker={"color": [rgba(chosen[score.name].colour, 0.65) for _, score, *_ in runs], "size": 6},
        hovertext=[hover_of_seed(safe(label(score)), seed, top1, words) for _, score, seed, top1 in runs],
        hovertemplate=TEXT_ONLY,
    )


def _others(references: list[Reference], rows: dict[str, int], words: Words) -> go.Scatter:
    """Return the marks of what others have measured, their sources cut into lines, since a hover label does not."""
    hover = [
        lines(
            f"<b>{safe(reference.arm)}</b>, {words('theirs')}: {formats.percent(reference.top1)} %",
            *(safe(line) for line in textwrap.wrap(reference.source, 48)),
        )
        for reference in references
    ]
    return go.Scatter(
        x=[100 * reference.top1 for reference in references],
        y=[rows[reference.arm] for reference in references],
        mode="markers",
        marker={"color": LINE, "symbol": "diamond-open", "size": 11, "line": {"width": 2}},
        hovertext=hover,
        hovertemplate=TEXT_ONLY,
    )


def _gain(score: ArmScore, row: int, look: Look, words: Words) -> Mark:
    """Return one arm's difference to the control: solid where it is separable, else hollow."""
    gain = score.to_control
    assert gain is not None
    hover = lines(
        f"<b>{safe(label(score))}</b>",
        f"{_points(score)} {words('points')}, n = {gain.n}",
        f"{words('p_holm')}: {formats.p_value(score.p_holm)}",
        f"{words('beyond_noise')}: {words('yes') if score.separable else words('no')}",
    )
    return Mark(row=row, of=gain, look=look, solid=score.separable, hover=hover)


def _points(score: ArmScore) -> str:
    gain = score.to_control
    return formats.MISSING if gain is None else formats.difference(gain.estimate, gain.low, gain.high)


def _axis_of_points(scores: list[ArmScore], noise: float, words: Words) -> Settings:
    """Return an axis that reaches zero, the noise floor and all intervals."""
    gains = [measures.bounds(score.to_control, clipped=False) for score in scores]
    ends = [-noise, 0.0, noise, *(end for gain in gains for end in gain)]
    margin = 0.06 * (max(ends) - min(ends)) or 1.0
    zero = {"zeroline": True, "zerolinecolor": LINE, "zerolinewidth": 1.5}
    return axis(words("axis_points"), range=[min(ends) - margin, max(ends) + margin], **zero)


def _band(noise: float) -> Settings:
    """Return the noise floor behind all rows."""
    place = {"xref": "x", "x0": -noise, "x1": noise, "yref": "paper", "y0": 0, "y1": 1}
    return {"type": "rect", "layer": "below", "fillcolor": GRID, "line": {"width": 0}, **place}
