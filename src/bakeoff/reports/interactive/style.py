"""How every interactive figure looks: axes, rows, menus, hover labels, and text that is safe in plotly.

A page that changes between light and dark relayouts one key, `font.color`: titles, ticks and legends follow it.
Backgrounds are transparent; grids, menus and hover labels have colours that can be read on both. Letters are the
page's, named here since plotly measures them outside the figure; its CSS asks for tabular digits.
"""

import html
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from bakeoff.reports.canvas import BLUE
from bakeoff.reports.fonts import shorten
from bakeoff.reports.formats import MISSING

Words = Callable[[str], str]
Settings = dict[str, Any]  # plotly's own

INK = "#222222"  # on white; the page sets another on black
CLEAR, GRID, LINE = "rgba(0,0,0,0)", "rgba(128,128,128,0.22)", "#888888"
_LETTERS = 'system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, "PingFang SC", "Noto Sans CJK SC", sans-serif'
NAME_COLUMNS = 20  # of a name beside an axis; hovering shows all of it
LEGEND_COLUMNS = 28  # so that an entry fits a phone
TEXT_ONLY = "%{hovertext}<extra></extra>"  # a hover label that says what the trace has written out


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One interactive figure.

    Args:
        id: unique in a page, a word.
        title: what it shows; like alt and note plain text, which the page escapes.
        alt: the same for those who cannot see it, with its main numbers.
        figure: what `Plotly.newPlot` takes, `data` and `layout`; JSON, its names escaped.
        note: how to read it, and what was left out.
        hint: what a reader can do with it on a screen.
    """

    id: str
    title: str
    alt: str
    figure: dict[str, Any]
    note: str = ""
    hint: str = ""


def safe(text: str, columns: int | None = None) -> str:
    """Return a name as plotly will show it letter by letter, cut in its middle to so many columns.

    Plotly reads a subset of HTML in every text, `%{...}` in templates, and looks for mathematics between `$`.
    """
    line = " ".join(text.split()) or MISSING
    line = line if columns is None else shorten(line, columns)
    return html.escape(line, quote=False).replace("%{", "&#37;{").replace("$", "&#36;")


def lines(*texts: str) -> str:
    """Join what a hover label says; empty lines are left out."""
    return "<br>".join(text for text in texts if text)


def rgba(colour: str, alpha: float) -> str:
    """Return a colour such as "#0072B2" with its opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def axis(title: str = "", **more: Any) -> Settings:  # noqa: ANN401 (plotly's own settings)
    """Return an axis with a title; it holds still unless told otherwise, so that a finger scrolls the page."""
    plain = {
        "automargin": True,
        "gridcolor": GRID,
        "linecolor": LINE,
        "ticklabelstandoff": 4,
        "zeroline": False,
        "fixedrange": True,
    }
    return {**plain, "title": {"text": title, "standoff": 8, "font": {"size": 12}}, **more}


def axis_of_rows(names: Sequence[str]) -> Settings:
    """Return a vertical axis with one name a row, the first on top."""
    ticks: Settings = {"tickvals": list(range(len(names))), "ticktext": list(names)}
    return axis(**ticks, range=[len(names) - 0.4, -0.6], showgrid=len(names) <= 40)


def height_of_rows(count: int) -> int:
    """Return the pixels of a figure with so many rows."""
    return round(110 + count * (34 if count <= 12 else 24 if count <= 40 else 16))


def axis_of_percent(quantity: str, values: Iterable[float], *, words: Words) -> Settings:
    """Return an axis for values in per cent, which begins at zero unless that would waste half of it, and says so."""
    values = list(values)
    low, high = max(0.0, min(values)), min(100.0, max(values))
    margin = 0.06 * (high - low) or 1.0
    start = 0.0 if low <= high / 2 else max(0.0, low - margin)
    cut = words("axis_starts").format(start=f"{start:.1f}") if start else ""
    return axis(lines(f"{quantity}, %", cut), range=[start, high + margin])


def menu(buttons: Sequence[Settings], *, gap: int = 8) -> list[Settings]:
    """Return a drop-down list above the figure, of which the first is chosen; none where there is no choice.

    Args:
        buttons: the choices.
        gap: pixels between the list and the figure.
    """
    if len(buttons) < 2:
        return []
    place = {"x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": gap, "t": 0, "l": 0, "r": 0}}
    colours = {"bgcolor": "#EEEEEE", "bordercolor": LINE, "font": {"color": INK, "size": 12}}
    return [{"buttons": list(buttons), "direction": "down", "showactive": True, **place, **colours}]


def button(text: str, traces: Settings, layout: Settings) -> Settings:
    """Return one choice of a menu: what it changes in the traces and in the layout."""
    return {"label": text, "method": "update", "args": [traces, layout]}


def figure(traces: Sequence[Any], *, height: int, **layout: Any) -> dict[str, Any]:  # noqa: ANN401 (plotly's settings)
    """Return a figure as plain JSON: arrays of numpy as base64, null for what is no number."""
    plain = {
        "autosize": True,
        "height": height,
        "font": {"family": _LETTERS, "size": 12, "color": INK},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "margin": {"l": 8, "r": 20, "t": 12, "b": 8},
        "hoverlabel": {
            "bgcolor": INK,
            "bordercolor": LINE,
            "font": {"family": _LETTERS, "color": "#FFFFFF"},
            "align": "left",
        },
        "hovermode": "closest",
        "dragmode": False,
        "showlegend": False,
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "maxheight": 0.3},
        "modebar": {"bgcolor": CLEAR, "color": LINE, "activecolor": BLUE},
    }
    drawn = go.Figure(data=list(traces), layout={**plain, **layout})
    content: dict[str, Any] = json.loads(drawn.to_json(engine="json"))
    content["layout"].pop("template", None)  # plotly's default look: 7 KB of colours that a dark page cannot use
    return content
