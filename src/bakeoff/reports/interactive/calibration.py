"""Whether an arm's confidence can be believed: accuracy beside confidence."""

from collections.abc import Mapping, Sequence

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
    axis,
    figure,
    lines,
    safe,
)

NUM_SHOWN = 2  # arms of the reliability diagram that are switched on at first


def reliability(counted: Sequence[Counts], looks: Mapping[str, Look], *, words: Words) -> Picture | None:
    """Draw accuracy against confidence, bin by bin, and below it how many images each bin has."""
    if not counted:
        return None
    traces: list[go.Scatter] = [_diagonal()]
    for i, counts in enumerate(counted):
        visible = True if i < NUM_SHOWN else "legendonly"
        pair = _bins(counts, looks[counts.score.name], words)
        traces += [trace.update(visible=visible, legendgroup=str(i)) for trace in pair]
    errors = "; ".join(f"{label(counts.score)} {formats.percent(counts.ece)} %" for counts in counted)
    scale = {"range": [0, 100], "dtick": 20}
    return Picture(
        id="reliability",
        title=words("picture_reliability"),
        alt=words("picture_reliability_alt").format(errors=errors),
        figure=figure(
            traces,
            height=560,
            showlegend=True,
            xaxis=axis(words("confidence"), **scale, anchor="y2"),
            yaxis=axis(words("accuracy_of_bin"), **scale, domain=[0.3, 1]),
            yaxis2=axis(words("images_of_bin"), domain=[0, 0.2], rangemode="tozero", nticks=3),
        ),
        note=words("picture_reliability_note"),
    )


def _diagonal() -> go.Scatter:
    line = {"color": LINE, "width": 1, "dash": "dot"}
    return go.Scatter(x=[0, 100], y=[0, 100], mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _bins(counts: Counts, look: Look, words: Words) -> tuple[go.Scatter, go.Scatter]:
    """Return accuracy by confidence, and the images of each bin as steps below it."""
    bins, used = counts.bins, np.flatnonzero(counts.bins.images)
    confidence, accuracy = 100 * bins.mean_confidence[used], 100 * bins.accuracy[used]
    name, share = safe(label(counts.score)), 100 * bins.images / bins.images.sum()
    hover = [
        lines(
            f"<b>{name}</b>",
            f"{words('confidence')}: {x:.1f}",
            f"{words('accuracy_of_bin')}: {y:.1f}",
            f"{words('images')}: {n:,} ({part:.1f} %)",
        )
        for x, y, n, part in zip(confidence, accuracy, bins.images[used], share[used], strict=True)
    ]
    edges = np.linspace(0, 100, len(share) + 1)
    line = {"color": look.colour, "dash": look.dash, "width": 2}
    return (
        go.Scatter(
            x=confidence.astype(np.float32),
            y=accuracy.astype(np.float32),
            mode="lines+markers",
            line=line,
            marker={"color": look.colour, "symbol": look.symbol, "size": 7},
            name=f"{safe(label(counts.score), LEGEND_COLUMNS)}, {words('ece')} {formats.percent(counts.ece)} %",
            hovertext=hover,
            hovertemplate=TEXT_ONLY,
        ),
        go.Scatter(
            x=edges.astype(np.float32),
            y=np.append(share, share[-1]).astype(np.float32),
            yaxis="y2",
            mode="lines",
            line={**line, "shape": "hv", "width": 1.5},
            hoverinfo="skip",
            showlegend=False,
        ),
    )
