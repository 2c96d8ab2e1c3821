"""The verb that looks into a trained network: where it looked, and which pictures it had learned that from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bakeoff.cli import options, screen, words
from bakeoff.cli.options import LOGS, Json, Root
from bakeoff.errors import DataError, RecipeError

if TYPE_CHECKING:
    from bakeoff.results.explanation import Explained, Explanation
    from bakeoff.results.store import Run

EXAMPLE = "bakeoff explain logs/resnet_20/first"
MOST_PICTURES = 500  # on one page
SHOWN = 10  # pictures on the screen


def explain(
    arguments: Annotated[
        list[str], typer.Argument(metavar="RUN [PATH]...", help="A run; pictures, folders of them, patterns.")
    ],
    only: Annotated[
        str | None,
        typer.Option("--class", help="Only pictures of this class or taken for it; of PATHs, where it would look."),
    ] = None,
    num: Annotated[int, typer.Option("--num", min=1, max=MOST_PICTURES, help="Pictures a section, at most.")] = 12,
    near: Annotated[
        int, typer.Option("--near", min=0, max=50, help="Training pictures beside each; 0 reads no training data.")
    ] = 5,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the page; default: explain/ in the run's.")
    ] = None,
    root: Root = LOGS,
    as_json: Json = False,
) -> None:
    """Show where a network looked: its worst mistakes on validation, or your own pictures, as one page.

    Beside each picture are the training pictures that the network takes for most alike, which shows wrong labels.

    [dim]bakeoff explain logs/resnet_20/first[/]
    [dim]bakeoff explain first photo.jpg inbox/ --class cat[/]
    """
    from bakeoff.results import store

    names, settings = words.split(arguments)
    if not names:
        raise RecipeError("command line", found="nothing", expected="a run", hint=f"For example: {EXAMPLE}")
    run = store.find(names[0], root=root)
    plugin = options.only_plugin(settings)
    explanation, skipped = _explained(run, names[1:], plugin=plugin, only=only, num=num, near=near)
    folder = out or run.folder / "explain"
    content = _write(explanation, run, folder, skipped=skipped)
    if as_json:
        screen.print_json(content)
    else:
        _print(explanation, skipped, folder)


def _explained(
    run: "Run", paths: list[str], *, plugin: str | None, only: str | None, num: int, near: int
) -> tuple["Explanation", dict[str, int]]:
    """Explain the run's pictures, or those of the paths; and count the files that were passed over."""
    from bakeoff.serving import explain as serving
    from bakeoff.serving import predict
    from bakeoff.training import trained

    found = predict.find(paths) if paths else None
    if found is not None and len(found.paths) > MOST_PICTURES:
        expected, hint = f"at most {MOST_PICTURES} on a page", "bakeoff predict takes any number."
        raise DataError("command line", found=f"{len(found.paths):,} pictures", expected=expected, hint=hint)
    model = trained.load(run, plugin=plugin)
    if found is None:
        return serving.gallery(model, num=num, near=near, only=only), {}
    return serving.pictures(model, found.paths, near=near, only=only), dict(found.skipped)


def _write(explanation: "Explanation", run: "Run", folder: Path, *, skipped: dict[str, int]) -> dict[str, Any]:
    """Write the page and its figures, and return these."""
    from bakeoff.reports import gallery
    from bakeoff.results import explanation as explanations
    from bakeoff.results.files import write_atomically

    recipe, page = run.recipe(), folder / "index.html"
    content = {
        "run": str(run.folder),
        "digest": recipe.digest,
        "split": None if explanation.num_mistakes is None else "val",
        **explanations.to_json(explanation),
        "skipped": skipped,
    }
    write_atomically(page, gallery.html(explanation, recipe=recipe, folder=run.folder).encode())
    run.write_json(folder / "explain.json", content)
    return {**content, "page": str(page)}


def _print(explanation: "Explanation", skipped: dict[str, int], folder: Path) -> None:
    """Print the first rows, what was left out, and where the page is."""
    console = screen.console()
    first = explanation.sections[0] if explanation.sections else None
    title = {"mistakes": "the most confident mistakes", "unsure": "the least certain answers", "pictures": "pictures"}
    if first is not None and first.kind in title:
        rows = [_row(picture) for picture in first.pictures[:SHOWN]]
        screen.print_rows(f"{title[first.kind]}: {len(rows)} of {first.num:,}", rows)
    else:
        console.print("There is no such picture.")
    for note in explanation.notes:
        console.print(f"  note     {note}", markup=False)
    for end, count in sorted(skipped.items()):
        console.print(f"  note     {count:,} {end} passed over", markup=False)
    console.print(f"  page     {folder / 'index.html'}", markup=False)
    console.print(f"  figures  {folder / 'explain.json'}", markup=False)


def _row(picture: "Explained") -> dict[str, str]:
    """Return a line of the table."""
    guess = picture.guesses[0]
    label = {"labelled": picture.label.name} if picture.label is not None else {}
    return {
        "picture": picture.name,
        **label,
        "taken for": guess.name,
        "probability": f"{guess.probability:.1%}",
        "nearest in training": ", ".join(alike.label for alike in picture.nearest),
    }
