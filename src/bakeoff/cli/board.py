"""How a study at work looks: a live table of its runs in a terminal, a line for each that has ended elsewhere."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bakeoff.cli import screen

if TYPE_CHECKING:
    from bakeoff.launch.board import Board, Row

GRAVE = ("failed", "diverged")
ENDED = (*GRAVE, "finished")
LOOKS = {"running": "bold", "busy": "yellow", "finished": "green", "failed": "bold red", "diverged": "bold red"}
BAR, NAME = 12, 32  # characters
AROUND = 5  # lines of the table that are not runs: title, heading, counts, and room for the cursor


@contextmanager
def show(title: str) -> Iterator[Callable[["Board"], None]]:
    """Show how the runs of a study stand, on stderr."""
    out = screen.console(stderr=True)
    if not out.is_terminal:
        yield _teller(out, ENDED)
        return
    with Live(console=out, refresh_per_second=4) as live:
        tell = _teller(out, GRAVE)  # above the table, which has no room for reasons

        def update(board: "Board") -> None:
            tell(board)
            live.update(picture(title, board, height=out.height))

        yield update


def _teller(out: Console, states: Collection[str]) -> Callable[["Board"], None]:
    """Return what prints a line for each run that has come into one of the states since the last time."""
    told: set[int] = set()

    def tell(board: "Board") -> None:
        for i, row in enumerate(board.rows):
            if row.state in states and i not in told:
                told.add(i)
                out.print(f"{board.done}/{board.total}  {line(row)}", markup=False)

    return tell


def line(row: "Row") -> str:
    """Return one run as a line of text."""
    parts = [f"{plain(row.name)}, seed {row.seed}: {row.state}"]
    parts += [f"val {row.val_top1:.2%}"] if math.isfinite(row.val_top1) else []
    parts += [f"{row.images_per_s:,.0f} img/s"] if row.images_per_s else []
    parts += [plain(row.note)] if row.note else []
    return ", ".join(parts)


def picture(title: str, board: "Board", *, height: int) -> Group:
    """Return the table as it stands: what runs, then what ended last, as far as there is room; counts for the rest."""
    rows = chosen(board.rows, room=max(1, height - AROUND))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="ellipsis", no_wrap=True, max_width=NAME)
    for column in ("seed", "state", "epoch", "", "val (%)", "img/s"):
        right = column in ("seed", "epoch", "val (%)", "img/s")
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*cells(row))
    counts = Counter(row.state for row in board.rows)
    listed = ", ".join(f"{count} {state}" for state, count in counts.items())
    left = board.seconds_left
    time = "" if left is None or not board.total - board.done else f"; about {screen.duration(left)} left"
    heading = Text(f"{plain(title)}: {board.done} of {board.total} runs{time}", style="bold", no_wrap=True)
    return Group(heading, table, Text(listed, style="dim", no_wrap=True))


def chosen(rows: Sequence["Row"], *, room: int) -> list["Row"]:
    """Return the rows to be shown: those at work, then those that failed, then the newest that ended."""
    at_work = [row for row in rows if row.state in ("running", "busy")]
    failed = [row for row in rows if row.state in GRAVE]
    finished = [row for row in rows if row.state == "finished"]
    return [*at_work, *failed[::-1], *finished[::-1]][:room]


def cells(row: "Row") -> list[Text]:
    """Return one run as cells, none of which is read as markup."""
    full = round(BAR * row.progress)
    values = [
        plain(row.name),
        str(row.seed),
        row.state,
        f"{row.epoch}/{row.epochs}",
        "━" * full + " " * (BAR - full),
        f"{100 * row.val_top1:.2f}" if math.isfinite(row.val_top1) else "",
        f"{row.images_per_s:,.0f}" if row.images_per_s else "",
    ]
    return [Text(value, style=LOOKS.get(row.state, "")) for value in values]


def plain(text: str) -> str:
    """Return a name or note on one line, without characters that move a cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
