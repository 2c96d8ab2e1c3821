"""How results and progress look in a terminal: Rich where there is one, plain lines elsewhere."""

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bakeoff.errors import BakeoffError

if TYPE_CHECKING:
    from bakeoff.record import Record
    from bakeoff.training.trainer import Tick

WIDTH, NO_LIMIT = 100, 10_000  # columns

# How a field looks in a table: its heading, and its value as text. Files keep fractions and full precision.
LOOKS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "params_m": ("params\n(M)", "{:.3f}".format),
    "macs_g": ("MACs\n(G)", "{:.3f}".format),
    "activations_m": ("activ.\n(M)", "{:.2f}".format),
    "shape": ("output", lambda value: "x".join(map(str, value))),
    "params": ("params", "{:,}".format),
    "macs": ("MACs", "{:,}".format),
    "val_top1": ("val top-1 (%)", lambda value: f"{100 * value:.2f}"),
    "test_top1": ("test top-1 (%)", lambda value: f"{100 * value:.2f}"),
    "images_per_s": ("images/s", lambda value: significant(value)),
    "least_images_per_s": ("slowest", lambda value: significant(value)),
    "most_images_per_s": ("fastest", lambda value: significant(value)),
    "step_ms": ("step\n(ms)", "{:.2f}".format),
    "share_of_peak": ("of peak\n(%)", lambda value: f"{100 * value:.1f}"),
    "memory_mb": ("memory\n(MB)", "{:,.0f}".format),
    "single_ms": ("1 picture\n(ms)", "{:.2f}".format),
    "single_p95_ms": ("95 % in\n(ms)", "{:.2f}".format),
    "paper": ("paper", lambda value: value.partition(",")[0]),
}
FOR_MACHINES = ("file", "folder", "year")  # the year stands with the paper


def console(*, stderr: bool = False) -> Console:
    """Return a console of at most 100 columns; where it is no terminal nothing is wrapped or cut."""
    found = Console(stderr=stderr, highlight=False, emoji=False)
    width = min(found.width, WIDTH) if found.is_terminal else NO_LIMIT
    return Console(stderr=stderr, highlight=False, emoji=False, width=width)


def set_up_logging() -> None:
    """Send the package's log to stderr: warnings beside the progress bar, everything where there is none."""
    log = logging.getLogger("bakeoff")
    on_terminal = console(stderr=True).is_terminal
    handler: logging.Handler = logging.StreamHandler()
    if on_terminal:
        handler = RichHandler(console=console(stderr=True), show_time=False, show_path=False, markup=False)
    handler.setLevel(logging.WARNING if on_terminal else logging.INFO)
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


@contextmanager
def progress(title: str) -> Iterator[Callable[["Tick"], None]]:
    """Show a live bar with loss, accuracy, speed and time left; nothing where it is no terminal."""
    screen = console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # Two refreshes a second: each takes the interpreter from the training loop for some milliseconds.
    with Progress(*columns, console=screen, refresh_per_second=2, disable=not screen.is_terminal, expand=True) as bar:
        task = bar.add_task(title, total=None, state="loading")

        def tell(tick: "Tick") -> None:
            parts = [f"epoch {tick.epoch}"]
            parts += [f"loss {tick.loss:.3f}"] if math.isfinite(tick.loss) else []
            parts += [f"val {tick.val_top1:.1%}"] if math.isfinite(tick.val_top1) else []
            parts += [f"{tick.images_per_s:,.0f} img/s"]
            bar.update(task, total=tick.total_steps, completed=tick.step, state="  ".join(parts))

        yield tell


def show_error(error: BakeoffError, *, as_json: bool) -> None:
    """Print one message, for a person on stderr or for a machine on stdout."""
    if as_json:
        fields = {key: getattr(error, key) for key in ("where", "found", "expected", "hint")}
        print_json({"error": {"kind": type(error).__name__, "message": str(error), **fields}, "exit": error.exit_code})
    else:
        console(stderr=True).print("[bold red]error[/] ", end="")
        console(stderr=True).print(str(error), markup=False)


def print_json(content: object) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(content, indent=2) + "\n")


def print_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table: headings with units, numbers to the right; what only a machine needs is left to --json."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    columns = [key for key in rows[0] if key not in FOR_MACHINES]
    for key in columns:
        heading, _ = LOOKS.get(key, (key, str))
        number = any(isinstance(row[key], int | float) for row in rows)
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in rows:
        shown = ("" if row[key] is None else LOOKS.get(key, (key, str))[1](row[key]) for key in columns)
        table.add_row(*map(Text, shown))  # names are names: a plain str would be read for styles in square brackets
    console().print(table)


def print_record(record: "Record", *, pictures: Sequence[Path] = ()) -> None:
    """Print a run's answer, where its things are, and what to type next."""
    out, summary, recipe = console(), record.summary, record.recipe
    place = escape(f"{recipe.model.name} on {recipe.data.name}")
    if record.status != "finished":
        out.print(f"[bold]{place}[/]: {record.status}, {len(record.rows)} of {recipe.epochs} epochs")
    for part in ("test", "val"):
        if scores := summary.get(part):
            out.print(f"[bold]{place}, {part}[/]: {accuracy(scores)}")
            if clean := scores.get("clean"):
                left_out = f"{scores['n'] - clean['n']:,} images that ciFAIR lists as near duplicates"
                out.print(f"  clean    {accuracy(clean)}, without {left_out}", markup=False)
    if summary:
        looks = len(summary.get("test_reads", []))
        out.print(
            f"  protocol {recipe.protocol}, chosen on {summary['selected_on']}, seed {recipe.seed} (one seed: no "
            f"interval over seeds), test read {looks}x, training {summary['training_seconds']:,.0f} s",
            style="dim",
        )
    if (taught := summary.get("teacher")) and taught.get("top1") is not None:
        agreement = f", agreed with on {taught['agreement']:.1%} of it" if taught.get("agreement") is not None else ""
        measured = f"{taught['top1']:.2%} top-1 on {taught.get('measured_on')}"
        out.print(f"  teacher  {taught.get('name')}: {measured}{agreement}", markup=False)
    out.print(f"  run      {record.folder}/", markup=False)
    for picture in pictures:
        out.print(f"  picture  {picture}", markup=False)
    if summary:
        out.print(f"  summary  {record.folder / 'evaluation_summary.json'}", markup=False)


def significant(value: float) -> str:
    """Return a number with three digits, or as a whole number where it has more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return how long, as people say it: "45 s", "12 min", "3.5 h"."""
    minutes = seconds / 60
    if minutes < 1:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 60 / 24:.1f} days"


def accuracy(scores: Mapping[str, Any]) -> str:
    """Return top-1 with its counts and its interval over images; balanced accuracy first, where classes are not."""
    from bakeoff.results import metrics

    balanced = f"{scores['balanced_accuracy']:.2%} balanced accuracy; " if metrics.is_unbalanced(scores) else ""
    return balanced + (
        f"{scores['top1']:.2%} top-1 ({scores['top1_correct']:,} of {scores['n']:,}; "
        f"95 % interval over images {scores['top1_low']:.1%} to {scores['top1_high']:.1%})"
    )
