"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

# Unknown options are settings: `--epochs 15` is `epochs=15`.
OPEN = {"ignore_unknown_options": True}
LOGS = Path("logs")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout; the log goes to stderr.")]
Root = Annotated[Path, typer.Option("--root", help="The folder of all runs.", show_default=True)]
