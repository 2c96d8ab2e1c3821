"""Pictures with labels, up to the model: where they come from, how they are kept, parted, mixed, batched."""

from collections.abc import Callable

from bakeoff.catalogue import OWN, is_own
from bakeoff.data import own
from bakeoff.data.decode import Fit
from bakeoff.data.images import ImageSet, Part
from bakeoff.data.sources import cifar, digits
from bakeoff.errors import RecipeError, nearest

# Published sets by name; a person's own are found by `own`.
SOURCES: dict[str, Callable[[Part], ImageSet]] = {
    "cifar10": cifar.load_cifar10,
    "cifar100": cifar.load_cifar100,
    "digits": digits.load,
}


def load(
    name: str, *, part: Part, size: int = 32, fit: Fit = "squash", image: str | None = None, label: str | None = None
) -> ImageSet:
    """Return one part of a source, and open nothing of the other.

    Args:
        name: a key of `SOURCES`, or where a person's own pictures are.
        part: "train" or "test".
        size: the side that own pictures are brought to, in pixels.
        fit: how an own picture of another shape becomes a square.
        image: the column of pictures, of an own table; None finds it.
        label: the column of classes, of an own table; None finds it.

    Raises:
        RecipeError: no such source or part.
        DataError: its files are missing or damaged.
        StorageError: its decoded form cannot be kept.
    """
    if part not in ("train", "test"):
        raise RecipeError("part", found=f"'{part}'", expected="train or test")
    if is_own(name):
        return own.load(name, part=part, size=size, fit=fit, image=image, label=label)
    if name not in SOURCES:
        known = ", ".join((*SOURCES, *OWN))
        raise RecipeError("data", found=f"'{name}'", expected=f"one of {known}", hint=nearest(name, SOURCES))
    return SOURCES[name](part)


def load_unseen(
    name: str, *, size: int = 32, fit: Fit = "squash", image: str | None = None, label: str | None = None
) -> tuple[ImageSet, str]:
    """Return pictures of another set than a network was trained on, and say which: its test part, or all.

    Args:
        name: a key of `SOURCES`, or where a person's own pictures are.
        size: as `load` takes it.
        fit: as `load` takes it.
        image: as `load` takes it.
        label: as `load` takes it.

    Raises:
        RecipeError, DataError, StorageError: as `load`.
    """
    if is_own(name):
        return own.load_unseen(name, size=size, fit=fit, image=image, label=label)
    return load(name, part="test"), "test"
