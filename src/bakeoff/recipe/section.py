"""What every section of a recipe is, and the ranges of its numbers."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
FractionBelowOne = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Temperature = Annotated[float, Field(gt=0, le=1000)]
Count = Annotated[int, Field(ge=1)]
Pixels = Annotated[int, Field(ge=0, le=4096)]


class Section(BaseModel):
    """A part of a recipe: frozen, typed without coercion, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def without(content: dict[str, Any], absent: Mapping[str, object]) -> dict[str, Any]:
    """Leave out what is as if it were not there: such a recipe is the same as before there was any."""
    return {key: value for key, value in content.items() if key not in absent or value != absent[key]}
