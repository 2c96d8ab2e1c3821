"""What is shipped as YAML: recipe cards. A card's header is a comment of `Key: value` lines."""

from pathlib import Path


def recipe_cards() -> dict[str, Path]:
    """Return the shipped recipe cards by name."""
    folder = Path(__file__).parent / "recipes"
    return {card.stem: card for card in sorted(folder.glob("*.yaml"))}


def purpose(card: Path) -> str:
    """Return the first line of a card's header: what it is for."""
    first = card.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# Purpose:").strip()
