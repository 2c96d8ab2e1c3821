"""Recipes: one run, complete. `schema` says what there is, `resolve` how the layers merge."""

from bakeoff.recipe.resolve import load, nest, overlay, parse, read_yaml, resolve, settled
from bakeoff.recipe.schema import Recipe

__all__ = ["Recipe", "load", "nest", "overlay", "parse", "read_yaml", "resolve", "settled"]
