"""Options that several verbs share."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bakeoff import catalogue
from bakeoff.errors import RecipeError, refuse_unknown

# Unknown options are settings: `--epochs 15` is `epochs=15`.
OPEN = {"ignore_unknown_options": True}
LOGS = Path("logs")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout; the log goes to stderr.")]
Root = Annotated[Path, typer.Option("--root", help="The folder of all runs.", show_default=True)]
Jobs = Annotated[int | None, typer.Option(min=1, help="Runs side by side: on the CPU, or on each GPU.")]
Lang = Annotated[str, typer.Option("--lang", help="Language of the report: en or zh.")]
Track = Annotated[
    str | None,
    typer.Option("--track", help="Send metrics to tensorboard, wandb, mlflow or swanlab too; several with commas."),
]


def allow_plugin(model: str) -> None:
    """Let `package.module:function`, typed by a person, be found in the folder where it was typed."""
    if catalogue.is_plugin(model) and "" not in sys.path:
        sys.path.insert(0, "")


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
