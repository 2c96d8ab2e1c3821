"""What all figures share: colours, style, and the one way from a figure to a file.

Figures are eight inches wide and laid out at 100 pixels an inch: a letter of 9 points is 12 pixels high on a
page of 800 pixels. The files have more pixels, for print and for the names of a hundred classes. A figure's
label is its text for those who cannot see it.
"""

import io
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bakeoff.reports.fonts import families, shorten
from bakeoff.results.files import write_atomically

# Okabe and Ito, "Color Universal Design", 2008: colours that stay apart for every kind of colour vision.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
ARMS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, YELLOW)  # one an arm, in every figure; the control is grey
GREY, PALE = "#666666", "#E4E4E4"  # control arms and small print; grids and what is absent

WIDTH_IN = 8.0
DPI = 200

_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "font.size": 9.5,
    "grid.color": PALE,
    "text.parse_math": False,  # a class called "$5_note" is not mathematics
    "xtick.color": GREY,
    "xtick.labelcolor": BLACK,
    "ytick.color": GREY,
    "ytick.labelcolor": BLACK,
}


def style(texts: Iterable[str] = ()) -> AbstractContextManager[None]:
    """Return the context to draw in: our style over matplotlib's defaults, not over this machine's settings.

    Args:
        texts: names in any script that the figure shows.
    """
    return matplotlib.style.context({**_STYLE, "font.family": families(texts)}, after_reset=True)


def blank(*, height_in: float, dpi: float = DPI) -> Figure:
    """Return an empty figure that needs no screen and is known to no window."""
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def headline(figure: Figure, title: str, subtitle: str) -> None:
    """Write what the figure is, and below it what it says, at the top left."""
    height = figure.get_figheight()
    (title,) = fitting(figure, lambda columns: [shorten(title, columns)], size=13, room_in=WIDTH_IN - 0.2)
    figure.text(0.1 / WIDTH_IN, 1 - 0.12 / height, title, size=13, va="top")
    figure.text(0.1 / WIDTH_IN, 1 - 0.42 / height, subtitle, color=GREY, va="top")


def width_in(figure: Figure, texts: Iterable[str], size: float) -> float:
    """Return the inches that the widest of `texts` takes at `size` points."""
    widest = 0.0
    for text in texts:
        drawn = figure.text(0, 0, text, size=size)
        widest = max(widest, drawn.get_window_extent().width / figure.dpi)
        drawn.remove()
    return widest


def fitting(figure: Figure, cut: Callable[[int], list[str]], *, size: float, room_in: float) -> list[str]:
    """Return the texts `cut(columns)` for the greatest number of columns, up to 100, at which all fit the room."""
    for columns in range(100, 4, -2):
        texts = cut(columns)
        if width_in(figure, texts, size) <= room_in:
            break
    return texts


def render(figure: Figure) -> bytes:
    """Return the figure as PNG, with its label as `Description`; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    label = str(figure.get_label()).encode(errors="replace").decode()  # half a character cannot be stored
    with style():
        figure.savefig(buffer, format="png", metadata={"Software": None, "Description": label})
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write the figure to `path` as PNG, in one piece.

    Raises:
        StorageError: the disk refused.
    """
    write_atomically(path, render(figure))
