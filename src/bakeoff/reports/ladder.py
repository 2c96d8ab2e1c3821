"""A figure of rows: names at the left, marks on axes in the middle, what they say in digits at the right."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bakeoff.reports.canvas import BLACK, GREY, WIDTH_IN, blank, fitting, headline, width_in
from bakeoff.reports.fonts import drawable, shorten

ROW_IN, HEAD_IN, FOOT_IN, NOTE_IN = 0.27, 0.74, 0.62, 0.18  # heights: a row, above the rows, the axis below, a note
NAME_SIZE, NOTE_SIZE = 9.0, 8.0
NAMES_IN = 2.3  # at most; longer names lose their middle
GAP_IN, EDGE_IN = 0.12, 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the figure.

    Args:
        name: at the left.
        text: at the right; empty for nothing.
        colour: of the name.
    """

    name: str
    text: str = ""
    colour: str = BLACK


def ladder(
    rows: Sequence[Row], *, title: str, subtitle: str, notes: Sequence[str] = (), panels: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a line for each row, and its axes; row i lies at y = i, the first on top.

    Args:
        rows: one or more; the figure grows with them.
        title: what it is.
        subtitle: how to read it.
        notes: small print below, a line each.
        panels: axes beside each other that share the rows.
    """
    foot = FOOT_IN + NOTE_IN * len(notes)
    height = HEAD_IN + ROW_IN * max(len(rows), 3) + foot
    figure = blank(height_in=height)
    names = fitting(
        figure, lambda columns: [shorten(drawable(row.name), columns) for row in rows], size=NAME_SIZE, room_in=NAMES_IN
    )
    left = EDGE_IN + width_in(figure, names, NAME_SIZE) + GAP_IN
    right = EDGE_IN + (GAP_IN + width_in(figure, [row.text for row in rows], NAME_SIZE) if any_text(rows) else GAP_IN)
    grid = {"wspace": 0.16}
    axes = list(figure.subplots(1, panels, sharey=True, squeeze=False, gridspec_kw=grid)[0])
    figure.subplots_adjust(
        left=left / WIDTH_IN, right=1 - right / WIDTH_IN, top=1 - HEAD_IN / height, bottom=foot / height
    )
    axes[0].set_ylim(max(len(rows), 3) - 0.5, -0.5)
    axes[0].set_yticks(range(len(rows)), names, size=NAME_SIZE)
    for label, row in zip(axes[0].get_yticklabels(), rows, strict=True):
        label.set_color(row.colour)
    for panel in axes:
        panel.tick_params(axis="y", length=0)
        panel.spines["left"].set_visible(False)
        panel.grid(axis="y")
    for y, row in enumerate(rows):
        place = (1 + GAP_IN / (WIDTH_IN - left - right) * panels, y)
        axes[-1].text(*place, row.text, size=NAME_SIZE, va="center", transform=axes[-1].get_yaxis_transform())
    write_notes(figure, notes)
    headline(figure, drawable(title), subtitle)
    return figure, axes


def any_text(rows: Sequence[Row]) -> bool:
    """Tell whether any row has something to say at the right."""
    return any(row.text for row in rows)


def write_notes(figure: Figure, notes: Sequence[str]) -> None:
    """Write small print at the bottom, a line each, cut to the width of the figure."""
    for i, note in enumerate(reversed(notes)):
        room = WIDTH_IN - 2 * EDGE_IN
        (text,) = fitting(figure, lambda columns, note=note: [shorten(note, 2 * columns)], size=NOTE_SIZE, room_in=room)  # type: ignore[misc]
        at = (0.08 + NOTE_IN * i) / figure.get_figheight()
        figure.text(EDGE_IN / WIDTH_IN, at, text, size=NOTE_SIZE, color=GREY, va="bottom")
