"""Recipes: one run, complete. `schema` says what there is, `resolve` how the layers merge."""

from bakeoff.recipe.objective import Teacher
from bakeoff.recipe.resolve import load, nest, overlay, parse, read_yaml, resolve, setting, settled
from bakeoff.recipe.schema import Data, Recipe

__all__ = [
    "Data",
    "Recipe",
    "Teacher",
    "load",
    "nest",
    "overlay",
    "parse",
    "read_yaml",
    "resolve",
    "setting",
    "settled",
]
