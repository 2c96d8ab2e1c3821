"""Recipes: one run, complete. `schema` says what there is, `resolve` how the layers merge."""

from bakeoff.recipe.resolve import load, overlay, resolve
from bakeoff.recipe.schema import Recipe

__all__ = ["Recipe", "load", "overlay", "resolve"]
