"""Options that several verbs share."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bakeoff import catalogue
from bakeoff.errors import RecipeError, refuse_unknown

if TYPE_CHECKING:
    from bakeoff.launch.executors import Placement

# Unknown options are settings: `--epochs 15` is `epochs=15`.
OPEN = {"ignore_unknown_options": True}
LOGS = Path("logs")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout; the log goes to stderr.")]
Root = Annotated[Path, typer.Option("--root", help="The folder of all runs.", show_default=True)]
Jobs = Annotated[int | None, typer.Option(min=1, help="Runs side by side: on the CPU, or on each GPU.")]
Executor = Annotated[
    str, typer.Option("--executor", help="Where runs are made: local (this machine), ray or slurm (docs/scaling.md).")
]
Address = Annotated[str | None, typer.Option("--address", help="A Ray cluster, such as auto or HOST:6379.")]
Store = Annotated[
    str | None,
    typer.Option("--store", help="Where nodes leave files: a folder that all see, or a URL such as s3://..."),
]
Slurm = Annotated[
    list[str] | None, typer.Option("--slurm", metavar="KEY=VALUE", help="For sbatch: partition=gpu, gpus_per_node=1...")
]
Lang = Annotated[str, typer.Option("--lang", help="Language of the report: en or zh.")]
Track = Annotated[
    str | None,
    typer.Option("--track", help="Send metrics to tensorboard, wandb, mlflow or swanlab too; several with commas."),
]


def allow_plugin(model: str) -> None:
    """Let `package.module:function`, typed by a person, be found in the folder where it was typed."""
    if catalogue.is_plugin(model) and "" not in sys.path:
        sys.path.insert(0, "")


def placement(
    executor: str,
    *,
    jobs: int | None,
    address: str | None = None,
    store: str | None = None,
    slurm: Sequence[str] | None = None,
) -> "Placement":
    """Read where a study's runs are to be made.

    Raises:
        RecipeError: no such executor, or an option that it has no use for.
    """
    from bakeoff.launch.executors import Placement

    for text in slurm or ():
        if "=" not in text:
            raise RecipeError("command line", found=f"--slurm {text}", expected="--slurm KEY=VALUE")
    parameters = dict(text.split("=", 1) for text in slurm or ())
    return Placement(executor=executor, jobs=jobs, address=address, store=store, slurm=parameters)


def only(settings: Sequence[str], *allowed: str) -> dict[str, Any]:
    """Read the few settings that an existing run may be given; the rest of its recipe is fixed.

    Raises:
        RecipeError: another setting, or a value that it cannot have.
    """
    from bakeoff import recipe as recipes
    from bakeoff.recipe.resolve import nest, setting

    given: dict[str, Any] = {}
    for text in settings:
        key, value = setting(text)
        section = key.partition(".")[0]
        if section not in allowed:
            expected = f"nothing but {', '.join(f'{name}=...' for name in allowed)}"
            hint = "A run keeps its recipe; train anew for another."
            raise RecipeError("command line", found=f"'{text}'", expected=expected, hint=hint)
        given[key] = value
    checked = recipes.overlay(recipes.Recipe(), nest(given), where="command line")
    found = {key.partition(".")[0] for key in given}
    return {name: given["model"] if name == "model" else getattr(checked, name) for name in allowed if name in found}


def only_plugin(settings: Sequence[str]) -> str | None:
    """Read the only setting that using a run takes: the plug-in that its network comes from, allowed by being typed."""
    plugin: str | None = only(settings, "model").get("model")
    allow_plugin(plugin or "")
    return plugin


def track(names: str | None) -> None:
    """Ask for trackers the way that worker processes hear as well; without names the environment decides.

    Raises:
        RecipeError: no such tracker.
    """
    if names is not None:
        from bakeoff.training import trackers

        refuse_unknown("--track", [name.strip() for name in names.split(",")], trackers.NAMES)
        os.environ[trackers.VARIABLE] = names
