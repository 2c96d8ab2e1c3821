"""Own pictures at the command line: what to know of them, said once, and a bar while they are decoded; `predict`."""

import csv
import io
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bakeoff.cli import options, screen, words
from bakeoff.cli.options import LOGS, Json, Root
from bakeoff.errors import DataError, RecipeError

if TYPE_CHECKING:
    from bakeoff.data.own import Tell
    from bakeoff.recipe import Recipe
    from bakeoff.serving.predict import Answer, Found

SHOWN = 20  # pictures on the screen; a file holds all

_log = logging.getLogger(__name__)


def prepare(recipes: Iterable["Recipe"]) -> dict[str, str]:
    """Decode the own pictures of these recipes before anything else, with a bar, and say what is odd about them.

    Returns:
        The fingerprint of each source's training pictures, by the text of the source.

    Raises:
        RecipeError, DataError, StorageError: they are not there, cannot be read, or cannot be kept.
    """
    sources = {str(recipe.data.source): recipe.data.source for recipe in recipes if not recipe.data.is_published}
    fingerprints = {}
    for key, source in sources.items():
        from bakeoff.data import own

        columns = {"image": source["image"], "label": source["label"]}
        for line in own.remarks(own.listing(source["name"], **columns)):
            _log.warning("%s: %s.", source["name"], line)
        with counting("decoding pictures") as tell:
            fingerprints[key] = own.load(part="train", tell=tell, **source).fingerprint
    return fingerprints


def warn_of_changed(recipes: Iterable["Recipe"], fingerprints: dict[str, str], *, root: Path) -> None:
    """Say which finished runs saw other pictures than lie there now; they are reported as they are."""
    from bakeoff.results import store

    records, _ = store.records_of(recipes, root=root)
    changed = [
        record
        for record in records.values()
        if (now := fingerprints.get(str(record.recipe.data.source)))
        and record.summary.get("data_fingerprint", now) != now
    ]
    if changed:
        hint = "Move them away to train anew."
        _log.warning(
            "%d runs saw other pictures than there are now, such as %s. %s", len(changed), changed[0].folder, hint
        )


def predict(
    arguments: Annotated[
        list[str], typer.Argument(metavar="RUN PATH...", help="A run; pictures, folders of them, patterns.")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Write all answers to this CSV.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name for each picture.")] = 5,
    root: Root = LOGS,
    as_json: Json = False,
) -> None:
    """Say what a trained network takes pictures for: labels and probabilities, on the screen, as CSV or JSON.

    Pictures are brought to the run's size as its own were. Files that are no pictures are passed over and counted.

    [dim]bakeoff predict logs/resnet18/signs photo.jpg[/]
    [dim]bakeoff predict signs 'inbox/**/*.png' --out answers.csv[/]
    """
    from bakeoff.results import store
    from bakeoff.serving import predict as serving
    from bakeoff.training import trained

    names, settings = words.split(arguments)
    if len(names) < 2:
        hint = "For example: bakeoff predict logs/resnet18/signs photo.jpg"
        if settings:
            hint = f"'{settings[0]}' was read as a setting; a file of that name is ./{settings[0]}"
        raise RecipeError("command line", found=f"{len(names)} names", expected="a run, and pictures", hint=hint)
    if out is not None and out.exists():
        raise RecipeError("--out", found=f"'{out}', which exists", expected="a new file")
    run = store.find(names[0], root=root)
    found = serving.find(names[1:])
    model = trained.load(run, plugin=options.only_plugin(settings))
    with counting("looking at pictures") as tell:
        answers = list(serving.predict(model, found.paths, top=top, tell=tell))
    if out is not None:
        _write_csv(out, answers, top=min(top, len(model.classes)))
    if as_json:
        screen.print_json(_content(answers, found))
    else:
        _print(answers, found, out=out)
    if all(answer.error for answer in answers):
        raise DataError(str(answers[0].path), found=f"no picture that can be read ({answers[0].error})", expected="one")


@contextmanager
def counting(title: str) -> Iterator["Tell"]:
    """Show a live bar of things done; nothing where it is no terminal."""
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    out = screen.console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, refresh_per_second=4, disable=not out.is_terminal, transient=True) as bar:
        task = bar.add_task(escape(title), total=None)  # a name is a name, square brackets included
        yield lambda done, of: bar.update(task, total=of, completed=done)


def _content(answers: list["Answer"], found: "Found") -> dict[str, Any]:
    return {
        "answers": [
            {
                "path": str(answer.path),
                "classes": list(answer.classes),
                "probabilities": list(answer.probabilities),
                **({"error": answer.error} if answer.error else {}),
            }
            for answer in answers
        ],
        "skipped": dict(found.skipped),
    }


def _print(answers: list["Answer"], found: "Found", *, out: Path | None) -> None:
    """Print the first answers, and how many there are of what."""
    console = screen.console()
    for answer in answers[:SHOWN]:
        shares = zip(answer.classes, answer.probabilities, strict=True)
        told = ", ".join(f"{name} {share:.1%}" for name, share in shares) or answer.error
        console.print(f"{answer.path}  {told}", markup=False)
    if len(answers) > SHOWN:
        console.print(f"  ... and {len(answers) - SHOWN:,} more", markup=False)
    broken = sum(bool(answer.error) for answer in answers)
    counted = [f"{len(answers) - broken:,} pictures"]
    counted += [f"{broken:,} could not be read"] if broken else []
    counted += [f"{count:,} {end} passed over" for end, count in sorted(found.skipped.items())]
    console.print(f"  {', '.join(counted)}", markup=False)
    if out is not None:
        console.print(f"  answers  {out}", markup=False)
    elif len(answers) > SHOWN:
        console.print("  next     the same with --out answers.csv, for all of them", markup=False)


def _write_csv(path: Path, answers: list["Answer"], *, top: int) -> None:
    """Write a row a picture: its path, the likeliest classes with their probabilities, and what was wrong with it."""
    from bakeoff.results.files import write_atomically

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    pairs = [(f"label{'' if k == 0 else k + 1}", f"probability{'' if k == 0 else k + 1}") for k in range(top)]
    writer.writerow(["path", *(name for pair in pairs for name in pair), "error"])
    for answer in answers:
        cells = [cell for pair in zip(answer.classes, answer.probabilities, strict=True) for cell in pair]
        writer.writerow([answer.path, *(cells or [""] * (2 * top)), answer.error])
    write_atomically(path, buffer.getvalue().encode(errors="surrogateescape"))
