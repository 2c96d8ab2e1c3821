"""Where studies live: `<root>/studies/<name>/`, with what was asked and its report. Their runs live with all others."""

import json
import os
from pathlib import Path

from bakeoff import study as studies
from bakeoff.errors import RecipeError
from bakeoff.results.files import write_atomically
from bakeoff.study import Study

FILE = "study.json"


def folder(study: Study, *, root: Path) -> Path:
    """Return the folder of a study; the same study with other settings has another."""
    return root / "studies" / study.folder_name


def keep(study: Study, *, root: Path) -> None:
    """Write down what is asked, so that its report can be made again whatever becomes of the study's file."""
    content = json.dumps(study.to_json(), indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder(study, root=root) / FILE, content.encode())


def find(text: str, *, root: Path) -> Study | None:
    """Find a study that was kept, by its folder, the folder's name, or its own name; None where there is none.

    Raises:
        RecipeError: several of that name, with different settings; a file that cannot be read.
    """
    kept = [path.parent for path in sorted((root / "studies").glob(f"*/{FILE}"))]
    for place in (Path(text), *kept):
        if (place == Path(text) or place.name == text) and os.path.isfile(place / FILE):
            return restore(place)
    of_name = [study for place in kept if (study := restore(place)).name == text]
    if len(of_name) > 1:
        listed = ", ".join(study.folder_name for study in of_name)
        raise RecipeError("study", found=f"'{text}', which ran with different settings", expected=f"one of {listed}")
    return of_name[0] if of_name else None


def restore(place: Path) -> Study:
    """Return the study that a folder holds.

    Raises:
        RecipeError: its file is damaged.
    """
    path = place / FILE
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(str(path), found=f"unreadable JSON ({error})", expected="a study's file") from None
    return studies.restore(content, where=str(path))
