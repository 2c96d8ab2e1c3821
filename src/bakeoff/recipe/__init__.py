"""Recipes: one run, complete. `schema` says what there is, `resolve` how the layers merge."""

from bakeoff.recipe.resolve import load, nest, overlay, parse, read_yaml, resolve, setting, settled
from bakeoff.recipe.schema import Recipe, Teacher

__all__ = ["Recipe", "Teacher", "load", "nest", "overlay", "parse", "read_yaml", "resolve", "setting", "settled"]
