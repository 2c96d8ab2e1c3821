"""What a run minimises, by name."""

import inspect
from collections.abc import Callable

from bakeoff.errors import refuse_unknown
from bakeoff.objectives.classify import classify
from bakeoff.objectives.outcome import Objective, Outcome

__all__ = ["OBJECTIVES", "Objective", "Outcome", "build"]

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "classify": classify,
}


def build(name: str, **options: object) -> Objective:
    """Build an objective: (model, x, targets) -> Outcome.

    Raises:
        RecipeError: an unknown name or option, a value out of range.
    """
    refuse_unknown("objective", [name], OBJECTIVES)
    function = OBJECTIVES[name]
    refuse_unknown("objective", options, inspect.getfullargspec(function).kwonlydefaults or ())
    return function(**options)
