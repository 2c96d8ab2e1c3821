"""The verbs. Each reads its arguments, calls one function of the house, and prints what it returned.

Rooms are imported inside the verbs: `--help` and `list` answer without loading torch.
"""

import dataclasses
import fnmatch
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import bakeoff
from bakeoff import catalogue, library
from bakeoff.cli import (
    benchmarking,
    distilling,
    doctoring,
    explaining,
    exporting,
    options,
    pictures,
    reporting,
    screen,
    showing,
    studies,
    words,
)
from bakeoff.cli.options import LOGS, OPEN, Json, Root, Track
from bakeoff.errors import RecipeError, nearest

if TYPE_CHECKING:
    from bakeoff.recipe import Recipe as RecipeType
    from bakeoff.record import Record

_log = logging.getLogger(__name__)

app = typer.Typer(
    name="bakeoff",
    help="Train small-image classifiers from scratch, compare them fairly, and say how sure the answer is.",
    epilog="Settings are key=value or --key value; `bakeoff show MODEL` lists them all with their values.",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Recipe = Annotated[str | None, typer.Option(help="A shipped recipe card, or a YAML file.")]

app.add_typer(studies.app)
app.command(name="distill", context_settings=OPEN)(distilling.distill)
app.command(name="predict", context_settings=OPEN)(pictures.predict)
app.command(name="doctor", context_settings=OPEN)(doctoring.doctor)
app.command(name="export", context_settings=OPEN)(exporting.export)
app.command(name="explain", context_settings=OPEN)(explaining.explain)
app.command(name="demo", context_settings=OPEN)(showing.demo)
app.command(name="benchmark")(benchmarking.benchmark)
app.command(name="compare")(reporting.compare)
app.command(name="report")(reporting.report)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bakeoff {bakeoff.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Parse what stands before the verb."""


@app.command(context_settings=OPEN)
def train(
    arguments: Annotated[list[str], typer.Argument(metavar="MODEL [KEY=VALUE]...", help="A model, and settings.")],
    recipe: Recipe = None,
    name: Annotated[str | None, typer.Option(help="The run's name; default: time and digest.")] = None,
    root: Root = LOGS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="One batch of train, validation and save.")] = False,
    test: Annotated[bool, typer.Option(help="Read the test split once at the end.")] = True,
    track: Track = None,
    as_json: Json = False,
) -> None:
    """Train one recipe: one run, its folder, its curves, its accuracy.

    [dim]bakeoff train resnet_20 epochs=15[/]
    [dim]bakeoff train resnet_20 --recipe digits --name first[/]
    """
    from bakeoff.recipe import resolve
    from bakeoff.results import store, teachers

    options.track(track)
    names, settings = words.split(arguments)
    model = words.one(names, "model", "bakeoff train resnet_20 epochs=15")
    resolved = resolve(model, overrides=settings, recipe=recipe, plugins=True)
    options.allow_plugin(model)
    resolved = teachers.identified(resolved, root=root)
    if recipe is None and resolved.data.name in library.recipe_cards():
        _log.warning("There is a recipe for %s: --recipe %s.", resolved.data.name, resolved.data.name)
    pictures.prepare([resolved])
    if dry_run:
        from bakeoff.training import rehearsal

        report = rehearsal.rehearse(resolved, root=root)
        screen.print_json(report) if as_json else _print_fields("dry run passed", report)
        return
    folder = store.new_folder(resolved, root=root, name=name)
    with screen.progress(resolved.model.name) as tell:
        from bakeoff.training import run as training
        from bakeoff.training.provenance import command_line

        record = training.start(resolved, folder, command=command_line(), tell=tell)
    _conclude(record, test=test, plugin=resolved.model.name, as_json=as_json)


@app.command(context_settings=OPEN)
def resume(
    arguments: Annotated[list[str], typer.Argument(metavar="RUN [epochs=N]", help="A run's folder or name.")],
    root: Root = LOGS,
    test: Annotated[bool, typer.Option(help="Read the test split once at the end.")] = True,
    any_world_size: Annotated[
        bool, typer.Option("--any-world-size", help="On more or fewer ranks than it began with: other rounding.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Go on exactly where a run stopped, or extend a finished one by `epochs=N`."""
    from bakeoff.results import store

    names, settings = words.split(arguments)
    run = store.find(words.one(names, "run", "bakeoff resume logs/resnet_20/first"), root=root)
    given = options.only(settings, "epochs", "model")
    options.allow_plugin(given.get("model", ""))
    with screen.progress(run.folder.name) as tell:
        from bakeoff.training import run as training
        from bakeoff.training.provenance import command_line

        record = training.resume(
            run,
            epochs=given.get("epochs"),
            plugin=given.get("model"),
            command=command_line(),
            any_world_size=any_world_size,
            tell=tell,
        )
    again = test and "test" not in record.summary
    _conclude(record, test=again, plugin=given.get("model"), as_json=as_json)


@app.command(name="eval", context_settings=OPEN)
def evaluate(
    arguments: Annotated[
        list[str], typer.Argument(metavar="RUN [data=NAME]", help="A run's folder or name; other pictures.")
    ],
    root: Root = LOGS,
    as_json: Json = False,
) -> None:
    """Read the test split with the run's chosen weights, and record the look.

    With `data=`, look at other pictures of the same classes instead, such as data=folder:from_another_camera.
    """
    from bakeoff.results import store
    from bakeoff.training import run as training
    from bakeoff.training.provenance import command_line

    names, settings = words.split(arguments)
    run = store.find(words.one(names, "run", "bakeoff eval logs/resnet_20/first"), root=root)
    given = options.only(settings, "model", "data")
    options.allow_plugin(given.get("model", ""))
    if other := given.get("data"):
        _present_other(training.read_other(run, other, plugin=given.get("model")), as_json=as_json)
        return
    record = training.read_test(run, plugin=given.get("model"), command=command_line())
    _draw_and_present(record, as_json=as_json)


@app.command(name="list")
def list_things(
    what: Annotated[str, typer.Argument(metavar="models|recipes|studies|datasets|runs", help="What to list.")],
    pattern: Annotated[str, typer.Argument(help="Only names like this; * stands for anything.")] = "*",
    root: Root = LOGS,
    as_json: Json = False,
) -> None:
    """List models, recipes, studies, data sets or runs."""
    tables: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "models": _models,
        "recipes": lambda: _cards(library.recipe_cards()),
        "studies": lambda: _cards(library.studies()),
        "datasets": _datasets,
        "runs": lambda: _runs(root),
    }
    if what not in tables:
        expected = f"one of {', '.join(tables)}"
        raise RecipeError("list", found=f"'{what}'", expected=expected, hint=nearest(what, tables))
    rows = [row for row in tables[what]() if fnmatch.fnmatchcase(str(row["name"]).lower(), pattern.lower())]
    if as_json:
        screen.print_json(rows)
    elif not rows:
        screen.console().print(f"No {what} like '{pattern}'.", markup=False)
    else:
        screen.print_rows(f"{what}: {len(rows)}", rows)


@app.command(context_settings=OPEN)
def show(
    arguments: Annotated[
        list[str], typer.Argument(metavar="MODEL|RECIPE|RUN [KEY=VALUE]...", help="What to show, and settings.")
    ],
    recipe: Recipe = None,
    depth: Annotated[int, typer.Option(min=1, help="How deep in the network the lines of its table are.")] = 2,
    root: Root = LOGS,
    as_json: Json = False,
) -> None:
    """Show a run's summary; a model's layers, shapes and costs; a card's or model's recipe with every default.

    A card is shown as it is for resnet_20; `bakeoff show MODEL --recipe CARD` shows it for another.
    """
    from bakeoff.recipe import resolve
    from bakeoff.results import store

    names, settings = words.split(arguments)
    name = words.one(names, "model, recipe or run", "bakeoff show resnet_20")
    is_card = name in library.recipe_cards() or name.endswith((".yaml", ".yml"))
    if not is_card and not catalogue.is_known(name) and ":" not in name:
        record = store.find(name, root=root).record()
        _present(record, sorted(record.folder.glob("**/*.png")), as_json=as_json)
        return
    model, card = ("resnet_20", name) if is_card else (name, recipe)
    resolved = resolve(model, overrides=settings, recipe=card)
    facts = {} if is_card else _model_facts(resolved, depth=depth)
    if as_json:
        screen.print_json({"digest": resolved.digest, "recipe": resolved.model_dump(mode="json"), **facts})
        return
    if facts:
        _print_fields(resolved.model.name, facts["model"])
        screen.print_rows("layers", facts["layers"])
    screen.console().print(f"# recipe {resolved.digest[:8]}", style="dim")
    typer.echo(resolved.to_yaml().rstrip())


def _model_facts(recipe: "RecipeType", *, depth: int) -> dict[str, Any]:
    """Build the network without its weights, and tell what it costs for a picture of the recipe's data."""
    from bakeoff.models import cost
    from bakeoff.training import assembly

    options.allow_plugin(recipe.model.name)
    dataset = assembly.dataset(recipe)
    network = assembly.outline(recipe, plugin=recipe.model.name)
    entry = catalogue.MODELS.get(recipe.model.name)
    about = {"paper": entry.paper, "year": entry.year, "recipe": entry.family} if entry else {}
    whole = cost.cost(network, dataset.image_shape)
    shape = "x".join(map(str, dataset.image_shape))
    counted = f"for one picture of {shape}, {dataset.num_classes} classes"
    return {
        "model": {**about, "counted": counted, **dataclasses.asdict(whole)},
        "layers": [dataclasses.asdict(layer) for layer in cost.layers(network, dataset.image_shape, depth=depth)],
    }


def _conclude(record: "Record", *, test: bool, plugin: str | None, as_json: bool) -> None:
    """After training: look at test if asked to, draw the pictures, print the answer."""
    if test:
        from bakeoff.results.store import Run
        from bakeoff.training import run as training
        from bakeoff.training.provenance import command_line

        record = training.read_test(Run(record.folder), plugin=plugin, command=command_line())
    _draw_and_present(record, as_json=as_json)


def _draw_and_present(record: "Record", *, as_json: bool) -> None:
    from bakeoff.reports import pictures

    _present(record, pictures.draw(record), as_json=as_json)


def _present(record: "Record", drawn: Sequence[Path], *, as_json: bool) -> None:
    """Print the answer, where things are, and what to type next."""
    if as_json:
        screen.print_json(
            {
                "run": str(record.folder),
                "status": record.status,
                "digest": record.recipe.digest,
                "epochs_done": len(record.rows),
                "summary": dict(record.summary),
                "pictures": [str(path) for path in drawn],
            }
        )
        return
    screen.print_record(record, pictures=drawn)
    screen.console().print(f"  next     {_next(record)}", markup=False)


def _present_other(report: dict[str, Any], *, as_json: bool) -> None:
    """Print how a run did on other pictures."""
    if as_json:
        screen.print_json(report)
        return
    out = screen.console()
    out.print(f"{report['model']} on {report['data']}, {report['part']}: {screen.accuracy(report)}", markup=False)
    balanced = f"balanced accuracy {report['balanced_accuracy']:.2%}"
    out.print(f"  {balanced}, {report['matched']} classes, matched by name", markup=False)
    out.print(f"  trained on {report['trained_on']}; predictions  {report['predictions']}", markup=False)


def _next(record: "Record") -> str:
    """Return what a person would most likely type next."""
    recipe = record.recipe
    if record.status == "finished" and recipe.data.name == "digits" and recipe.model.name in catalogue.MODELS:
        return f"bakeoff train {recipe.model.name} epochs=15   (the same network on CIFAR-100)"
    again = f"bakeoff train {recipe.model.name} --recipe {record.folder}/recipe.yaml seed={recipe.seed + 1}"
    return {
        "finished": f"{again}   (a second seed: how sure is it?)",
        "interrupted": f"bakeoff resume {record.folder}",
        "running": f"bakeoff show {record.folder}   (again, later)",
        "diverged": f"bakeoff train {recipe.model.name} lr={recipe.optimizer.lr / 3:.2g}   (a lower learning rate)",
    }[record.status]


def _models() -> list[dict[str, Any]]:
    return [_models_row(name) for name in catalogue.MODELS]


def _models_row(name: str) -> dict[str, Any]:
    model, costs = catalogue.MODELS[name], catalogue.costs()[name]
    return {
        "name": model.name,
        "params_m": costs.params / 1e6,
        "macs_g": costs.macs / 1e9,
        "activations_m": costs.activations / 1e6,
        "recipe": model.family,
        "year": model.year,
        "paper": model.paper.replace(",", f" {model.year},", 1),
    }


def _cards(cards: dict[str, Path]) -> list[dict[str, Any]]:
    return [{"name": name, "purpose": library.purpose(path), "file": str(path)} for name, path in cards.items()]


def _datasets() -> list[dict[str, Any]]:
    return [{"name": name, "about": dataset.about} for name, dataset in catalogue.DATASETS.items()]


def _runs(root: Path) -> list[dict[str, Any]]:
    from bakeoff.results import store

    records, unreadable = store.records(root)
    for error in unreadable:
        screen.show_error(error, as_json=False)
    return [
        {
            "name": record.name,
            "model": record.recipe.model.name,
            "data": record.recipe.data.name,
            "protocol": record.recipe.protocol,
            "status": record.status,
            "epochs": len(record.rows),
            "val_top1": record.summary.get("val", {}).get("top1"),
            "test_top1": record.summary.get("test", {}).get("top1"),
            "folder": str(record.folder),
        }
        for record in records
    ]


def _print_fields(title: str, fields: dict[str, Any]) -> None:
    out = screen.console()
    out.print(title, style="bold", markup=False)
    for key, value in fields.items():
        shown = f"{value:,}" if isinstance(value, int) and value > 9_999 else value
        out.print(f"  {key:<14} {shown}", markup=False)
