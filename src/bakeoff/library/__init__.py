"""What is shipped as data: cards, studies, costs, near duplicates. A card begins with `Key: value` comments.

And where what is made once on a machine is kept.
"""

import os
from pathlib import Path

FOLDER = Path(__file__).parent


def recipe_cards() -> dict[str, Path]:
    """Return the shipped recipe cards of families by name: each is a whole recipe."""
    return {card.stem: card for card in sorted((FOLDER / "recipes").glob("*.yaml"))}


def model_card(name: str) -> Path:
    """Return the card of one model: what it changes in its family's, and what is known of it."""
    return FOLDER / "recipes" / "models" / f"{name}.yaml"


def studies() -> dict[str, Path]:
    """Return the shipped studies by name."""
    return {study.stem: study for study in sorted((FOLDER / "studies").glob("*.yaml"))}


def costs_table() -> Path:
    """Return the table of what every model costs."""
    return FOLDER / "costs.csv"


def near_duplicates() -> Path:
    """Return the table of test pictures that have a near duplicate."""
    return FOLDER / "near_duplicates.csv"


def purpose(card: Path) -> str:
    """Return the first line of a card's or a study's header: what it is for."""
    first = card.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# Purpose:").strip()


def cache_folder() -> Path:
    """Return where what can be made again is kept: $BAKEOFF_CACHE, else $XDG_CACHE_HOME/bakeoff or ~/.cache/bakeoff."""
    if own := os.environ.get("BAKEOFF_CACHE"):
        return Path(own).expanduser()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))  # the XDG standard has relative paths ignored
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "bakeoff"
