"""Pictures with labels, up to the model: where they come from, how they are kept, parted, mixed, batched."""

from collections.abc import Callable

from bakeoff.data.images import ImageSet, Part
from bakeoff.data.sources import cifar, digits
from bakeoff.errors import RecipeError, nearest

SOURCES: dict[str, Callable[[Part], ImageSet]] = {
    "cifar10": cifar.load_cifar10,
    "cifar100": cifar.load_cifar100,
    "digits": digits.load,
}


def load(name: str, *, part: Part) -> ImageSet:
    """Return one part of a source, and open nothing of the other.

    Args:
        name: a key of `SOURCES`.
        part: "train" or "test".

    Raises:
        RecipeError: no such source or part.
        DataError: its files are missing or damaged.
        StorageError: its decoded form cannot be kept.
    """
    if name not in SOURCES:
        known = ", ".join(SOURCES)
        raise RecipeError("data", found=f"'{name}'", expected=f"one of {known}", hint=nearest(name, SOURCES))
    if part not in ("train", "test"):
        raise RecipeError("part", found=f"'{part}'", expected="train or test")
    return SOURCES[name](part)
