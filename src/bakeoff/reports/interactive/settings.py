"""What a setting does: accuracy along a numeric axis of the study, and what each trial of an arm reached."""

import statistics as averages

import plotly.graph_objects as go

from bakeoff.reports.interactive.arms import (
    Look,
    bars,
    hover_of_mean,
    hover_of_seed,
    interval,
    label,
    looks,
    percent,
    quantity,
    ranked,
    reach,
    runs_diverged,
)
from bakeoff.reports.interactive.style import (
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
from bakeoff.results.comparison import ArmScore, Comparison, TrialScore

_WIDE = 30.0  # a ratio of settings above which their axis is logarithmic
_MOST_TICKS = 10  # settings that are ticks themselves
_INDENT = 2 * "\N{NO-BREAK SPACE}"
Placed = list[tuple[float, ArmScore]]  # arms by their place on an axis


def setting(comparison: Comparison, *, words: Words) -> Picture | None:
    """Draw accuracy along the study's axis, where it has one and that is of numbers."""
    placed = _placed(comparison)
    if len(placed) < 2:
        return None
    name, unit, chosen = next(iter(comparison.study.file.axes)), quantity(comparison, words), looks(comparison)
    best, peak = max(placed, key=lambda pair: percent(pair[1]))
    lost = runs_diverged([score for score in comparison.arms if score.arm.at], words)
    told = {"low": f"{placed[0][0]:g}", "high": f"{placed[-1][0]:g}", "best": f"{best:g}", "top1": interval(peak)}
    return Picture(
        id="setting",
        title=words("picture_setting").format(setting=name),
        alt=words("picture_setting_alt").format(quantity=unit, setting=name, **told),
        figure=figure(
            [_seeds(placed, chosen, words), _means(placed, chosen, name=name, unit=unit)],
            height=400,
            xaxis=_axis(name, [value for value, _ in placed]),
            yaxis=axis_of_percent(unit, reach([score for _, score in placed]), words=words),
        ),
        note=" ".join(note for note in (words("picture_setting_note"), lost) if note),
    )


def trials(comparison: Comparison, *, words: Words) -> Picture | None:
    """Draw the validation accuracy of every trial, below the name of its arm; the chosen one is solid."""
    scores = [score for score in comparison.arms if any(trial.val_top1 for trial in score.trials)]
    if not scores:
        return None
    chosen, names, traces = looks(comparison), [], []
    for score in scores:
        names.append(f"<b>{safe(label(score), NAME_COLUMNS)}</b>")
        for trial in score.trials:
            if trial.val_top1:
                traces.append(_trial(score, trial, len(names), chosen[score.name], words))
            names.append(_INDENT + safe(trial.name, NAME_COLUMNS))
    won = "; ".join(f"{label(score)}: {trial.name}" for score in scores for trial in score.trials if trial.chosen)
    return Picture(
        id="trials",
        title=words("picture_trials"),
        alt=words("picture_trials_alt").format(arms=len(scores), chosen=won),
        figure=figure(
            traces,
            height=height_of_rows(len(names)),
            xaxis=axis_of_percent(words("val_accuracy"), [x for trace in traces for x in trace.x], words=words),
            yaxis=axis_of_rows(names),
        ),
        note=words("picture_trials_note"),
    )


def _placed(comparison: Comparison) -> Placed:
    """Return the arms that have an accuracy by their place on the study's one axis of numbers, in its order."""
    if len(comparison.study.file.axes) != 1:
        return []
    placed: Placed = []
    for score in ranked(comparison):
        for value in score.arm.at.values():
            if not isinstance(value, int | float) or isinstance(value, bool):
                return []
            placed.append((float(value), score))
    return sorted(placed, key=lambda pair: pair[0])


def _axis(name: str, values: list[float]) -> Settings:
    """Return an axis whose ticks are the settings themselves where they are few."""
    wide = min(values) > 0 and max(values) / min(values) > _WIDE
    own = {"tickvals": values, "ticktext": [f"{value:g}" for value in values]} if len(values) <= _MOST_TICKS else {}
    return axis(safe(name), type="log" if wide else "linear", **own)


def _seeds(placed: Placed, chosen: dict[str, Look], words: Words) -> go.Scatter:
    runs = [(value, score, seed, top1) for value, score in placed for seed, top1 in score.top1.items()]
    return go.Scatter(
        x=[value for value, *_ in runs],
        y=[100 * top1 for *_, top1 in runs],
        mode="markers",
        marker={"color": [rgba(chosen[score.name].colour, 0.65) for _, score, *_ in runs], "size": 6},
        hovertext=[hover_of_seed(safe(label(score)), seed, top1, words) for _, score, seed, top1 in runs],
        hovertemplate=TEXT_ONLY,
    )


def _means(placed: Placed, chosen: dict[str, Look], *, name: str, unit: str) -> go.Scatter:
    own = [chosen[score.name] for _, score in placed]
    return go.Scatter(
        x=[value for value, _ in placed],
        y=[percent(score) for _, score in placed],
        error_y={
            **bars([score.mean for _, score in placed], clipped=True),
            **{"color": LINE, "thickness": 1.5, "width": 4},
        },
        mode="lines+markers",
        line={"color": LINE, "width": 1.5},
        marker={"color": [look.colour for look in own], "symbol": [look.symbol for look in own], "size": 11},
        hovertext=[hover_of_mean(score, unit, f"{safe(name)}: {value:g}") for value, score in placed],
        hovertemplate=TEXT_ONLY,
    )


def _trial(score: ArmScore, trial: TrialScore, row: int, look: Look, words: Words) -> go.Scatter:
    """Return a trial's row: a small point a seed, and their mean."""
    seeds, mean = len(trial.val_top1), 100 * averages.fmean(trial.val_top1.values())
    name = f"{safe(label(score))}, {safe(trial.name)}"
    told = lines(
        f"<b>{name}</b>",
        f"{words('val_accuracy')}, %: {mean:.1f} (n = {seeds})",
        words("chosen") if trial.chosen else "",
    )
    return go.Scatter(
        x=[*(100 * top1 for top1 in trial.val_top1.values()), mean],
        y=[row] * (seeds + 1),
        mode="markers",
        marker={
            "color": [rgba(look.colour, 0.5)] * seeds + [look.colour],
            "symbol": ["circle"] * seeds + [look.symbol if trial.chosen else f"{look.symbol}-open"],
            "size": [5] * seeds + [11],
            "line": {"width": [0] * seeds + [2], "color": look.colour},
        },
        hovertext=[*(hover_of_seed(name, seed, top1, words) for seed, top1 in trial.val_top1.items()), told],
        hovertemplate=TEXT_ONLY,
    )
