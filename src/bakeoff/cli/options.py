"""Options that several verbs share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from bakeoff.errors import refuse_unknown

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


def track(names: str | None) -> None:
    """Ask for trackers the way that worker processes hear as well; without names the environment decides.

    Raises:
        RecipeError: no such tracker.
    """
    if names is not None:
        from bakeoff.training import trackers

        refuse_unknown("--track", [name.strip() for name in names.split(",")], trackers.NAMES)
        os.environ[trackers.VARIABLE] = names
