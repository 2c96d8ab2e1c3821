"""The verb that shows a trained network to people: a page on this machine to drop pictures on."""

import logging
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bakeoff.cli import options, screen, words
from bakeoff.cli.options import LOGS, Json, Root

if TYPE_CHECKING:
    from bakeoff.serving.demo import Look
    from bakeoff.serving.explain import Prepared

EXAMPLE = "bakeoff demo logs/resnet_20/first"

_log = logging.getLogger(__name__)


def demo(
    arguments: Annotated[list[str], typer.Argument(metavar="RUN", help="A run's folder or name.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65_535, help="0 is any; default: 7860, or the next that is free."),
    ] = None,
    near: Annotated[
        int, typer.Option("--near", min=0, max=50, help="Training pictures beside each; 0 reads no training data.")
    ] = 5,
    root: Root = LOGS,
    as_json: Json = False,
) -> None:
    """Open a page on this machine: drop a picture, see what the network takes it for, and why.

    It shows the five likeliest classes, where the network looked, and the nearest training pictures. Ctrl-C ends it.

    [dim]bakeoff demo logs/resnet_20/first[/]
    [dim]bakeoff demo first --port 8000[/]
    """
    from bakeoff.results import store
    from bakeoff.serving import demo as serving
    from bakeoff.serving import explain
    from bakeoff.training import trained

    names, settings = words.split(arguments)
    run = store.find(words.one(names, "run", EXAMPLE), root=root)
    plugin = options.only_plugin(settings)
    serving.require()
    port = serving.free_port(host, port)
    if not serving.is_local(host):
        _log.warning("Whoever reaches this machine can use the page: it listens on %s.", host)
    prepared = explain.prepare(trained.load(run, plugin=plugin), near=near)

    def tell(address: str) -> None:
        if as_json:
            screen.print_json({"run": str(run.folder), "address": address, "classes": len(prepared.model.classes)})
        else:
            screen.console().print(f"  page     {address}   (Ctrl-C ends it)", markup=False)
        sys.stdout.flush()

    serving.serve(prepared, _look(prepared), host=host, port=port, tell=tell)


def _look(prepared: "Prepared") -> "Look":
    """Return the pieces of the page, as the house's reports look."""
    from bakeoff.reports import dropped
    from bakeoff.serving.demo import Look

    layer = None if prepared.layer is None else prepared.layer.name
    title, about = _about(prepared)
    return Look(
        head=dropped.head(title, about=about, classes=prepared.model.classes),
        style=dropped.style(),
        answer=lambda picture: dropped.answer(picture, layer=layer, notes=prepared.notes),
        problem=dropped.problem,
    )


def _about(prepared: "Prepared") -> tuple[str, list[str]]:
    """Return the title, and what a visitor should know: how good the network is, and that it knows nothing else."""
    model = prepared.model
    name, data, num = model.recipe.model.name, model.recipe.data.name, len(model.classes)
    summary = model.run.record().summary
    part = next(part for part in ("test", "val", "") if part in summary or not part)
    lines = [f"Run {model.run.folder.name}, trained on {data}."]
    if part:
        measured = {"test": "Test pictures", "val": "Validation pictures"}[part]
        lines.append(f"{measured} of {data}: {screen.accuracy(summary[part])}.")
    lines.append(f"It knows {num} classes, and takes every picture for one of them, whatever it shows.")
    return f"What does {name} see?", lines
