"""Pictures with labels, and the fair ways to part them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bakeoff.errors import RecipeError

Part = Literal["train", "test"]
Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageSet:
    """uint8 pictures with labels.

    Args:
        images: uint8 [m c h w], a view of [m h w c] memory, often a memory-map; of a part of a set, the whole set's.
        rows: int64 [n], which of `images` belong to this set, in its order; None is all of them.
        groups: int64 [n], equal where pictures must stay together when the set is parted, as copies of one must.
        reserved: int64 [m], sorted: places in the set of what the source itself sets apart for validation.
        labels: int64 [n], indices into `classes`.
        classes: a name a class.
        superclasses: a name a group of classes; empty where the source has no groups.
        superclass_of: class index -> superclass index.
        mean: of each channel, in units of [0, 1]; a constant of the source.
        std: of each channel, in units of [0, 1]; a constant of the source.
        fingerprint: sha256 of the pixels, or of a person's own files, and of labels and names, in their order.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    superclasses: tuple[str, ...] = ()
    superclass_of: tuple[int, ...] = ()
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    rows: Indices | None = None
    groups: Indices | None = None
    reserved: Indices | None = None

    def __post_init__(self) -> None:
        assert self.images.dtype == np.uint8
        assert self.images.ndim == 4
        assert self.labels.dtype == np.int64
        assert self.labels.shape == (self.images.shape[:1] if self.rows is None else self.rows.shape)
        assert len(self.mean) == len(self.std) == self.images.shape[1]
        assert len(self.superclass_of) in (0, len(self.classes))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, and height and width in pixels, of each picture."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def pixels(self, index: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return a copy of the pictures at `index` [b], uint8 [b h w c]."""
        rows = index if self.rows is None else self.rows[index]
        return np.ascontiguousarray(self.images.transpose(0, 2, 3, 1)[rows])

    def take(self, index: NDArray[np.integer]) -> "ImageSet":
        """Return the set of the pictures at `index` [m], in that order, with a fingerprint of its own.

        No picture is copied: a part of a set larger than memory is still a memory-map.
        """
        chosen: Indices = np.asarray(index, dtype=np.int64)
        return replace(
            self,
            rows=chosen if self.rows is None else self.rows[chosen],
            labels=self.labels[chosen],
            groups=None if self.groups is None else self.groups[chosen],
            reserved=None if self.reserved is None else np.flatnonzero(np.isin(chosen, self.reserved)),
            fingerprint=hashlib.sha256(self.fingerprint.encode() + chosen.tobytes()).hexdigest(),
        )


def fingerprint(pixels: NDArray[np.uint8], labels: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Return the sha256, in hex, of pixels [n h w c], labels [n] and class names: all that a model learns."""
    digest = hashlib.sha256(repr((pixels.shape, tuple(classes))).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()


def hold_out(
    labels: NDArray[np.integer], *, fraction: float, seed: int, groups: Indices | None = None
) -> tuple[Indices, Indices]:
    """Part a labelled set in two, each class in proportion.

    The second part gets round(fraction * n) pictures, spread as evenly as whole numbers allow. The first
    keeps at least one picture of every class, which can leave the second short where classes have very few.
    A group goes to the second part only where all of it has room there, so that this can come out short.

    Args:
        labels: int [n].
        fraction: share of the second part, in [0, 1).
        seed: the same seed parts the same labels alike, on any machine and with any version of numpy.
        groups: int64 [n], equal where pictures must stay together; None where each stands for itself.

    Returns:
        Two sorted index arrays, int64 [n - m] and [m]: train and validation.

    Raises:
        RecipeError: `fraction` outside [0, 1) or a negative `seed`.
    """
    if not 0.0 <= fraction < 1.0:
        raise RecipeError("hold_out fraction", found=str(fraction), expected="a number in [0, 1)")
    _, sizes = np.unique(labels, return_counts=True)
    total, key = round(fraction * len(labels)), (seed, "hold_out")
    if groups is None:
        chosen = _draw(labels, total=total, at_least=sizes * 0, at_most=sizes - 1, key=key)
    else:
        chosen = _draw_groups(labels, groups, total=total, key=key)
    return np.flatnonzero(~chosen).astype(np.int64), np.flatnonzero(chosen).astype(np.int64)


def noise(shape: tuple[int, int, int], *, num_classes: int, num: int) -> ImageSet:
    """Return pictures of noise, always the same, for whatever is tried out on pictures of a shape (c, h, w)."""
    channels, height, width = shape
    draw = np.random.default_rng(0)
    return ImageSet(
        images=draw.integers(0, 256, (num, height, width, channels), dtype=np.uint8).transpose(0, 3, 1, 2),
        labels=draw.integers(0, num_classes, num),
        classes=tuple(map(str, range(num_classes))),
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        fingerprint="",
    )


def limit(labels: NDArray[np.integer], *, num_images: int, seed: int) -> Indices:
    """Choose `num_images` pictures, each class in proportion, at least one of each if that is possible.

    Args:
        labels: int [n].
        num_images: how many to choose, 1 to n.
        seed: as for `hold_out`, of which the choice is independent.

    Returns:
        A sorted index array, int64 [num_images].

    Raises:
        RecipeError: `num_images` outside 1 to n or a negative `seed`.
    """
    if not 1 <= num_images <= len(labels):
        raise RecipeError("limit", found=f"{num_images} images", expected=f"1 to the {len(labels)} there are")
    _, sizes = np.unique(labels, return_counts=True)
    at_least = np.full_like(sizes, int(num_images >= len(sizes)))
    chosen = _draw(labels, total=num_images, at_least=at_least, at_most=sizes, key=(seed, "limit"))
    return np.flatnonzero(chosen).astype(np.int64)


def _draw(
    labels: NDArray[np.integer], *, total: int, at_least: Indices, at_most: Indices, key: tuple[int, str]
) -> NDArray[np.bool_]:
    """Mark `total` pictures, bool [n]: in each class the ones with the smallest random numbers.

    Raw numbers, because numpy promises those of a bit generator for ever, and its shuffles only for a
    version.
    """
    class_of, sizes, rank, ties = _ranked(labels, key)
    counts = _apportion(sizes, total=total, at_least=at_least, at_most=at_most, ties=ties)
    return rank < counts[class_of]


def _draw_groups(
    labels: NDArray[np.integer], groups: Indices, *, total: int, key: tuple[int, str]
) -> NDArray[np.bool_]:
    """Mark about `total` pictures, bool [n], whole groups of them, and not all of any class.

    Groups are gone through in the order of their first drawn picture; where each is of one picture, it is `_draw`.
    """
    class_of, sizes, rank, ties = _ranked(labels, key)
    room = _apportion(sizes, total=total, at_least=sizes * 0, at_most=sizes - 1, ties=ties)
    _, group_of, num = np.unique(groups, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(group_of, kind="stable"), np.cumsum(num)[:-1])
    chosen, is_decided = np.zeros(len(labels), dtype=bool), np.zeros(len(num), dtype=bool)
    for picture in np.lexsort((class_of, rank)):
        group = group_of[picture]
        if is_decided[group]:
            continue
        is_decided[group] = True
        of_class, needed = np.unique(class_of[members[group]], return_counts=True)
        if (needed <= room[of_class]).all():
            room[of_class] -= needed
            chosen[members[group]] = True
    return chosen


def _ranked(labels: NDArray[np.integer], key: tuple[int, str]) -> tuple[Indices, Indices, Indices, NDArray[np.uint64]]:
    """Return each picture's class [n] and rank within it [n], the sizes of classes, and how to break ties of these."""
    seed, purpose = key
    if seed < 0:
        raise RecipeError("seed", found=str(seed), expected="a whole number from 0 on")
    _, class_of, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    stream = np.random.Philox(np.random.SeedSequence(seed, spawn_key=tuple(purpose.encode())))
    by_class = np.lexsort((stream.random_raw(len(labels)), class_of))
    rank = np.empty(len(labels), dtype=np.int64)
    rank[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return class_of, sizes, rank, stream.random_raw(len(sizes))


def _apportion(sizes: Indices, *, total: int, at_least: Indices, at_most: Indices, ties: NDArray[np.uint64]) -> Indices:
    """Spread `total` over classes in proportion to `sizes`, in whole numbers within bounds: int64 [classes].

    Largest remainders, in exact integers; equal ones go by the random `ties`, so no class is always favoured.
    """
    num_images = max(int(sizes.sum()), 1)
    counts = np.clip(sizes * total // num_images, at_least, at_most).astype(np.int64)
    while (missing := total - int(counts.sum())) != 0:
        movable = np.flatnonzero(counts < at_most if missing > 0 else counts > at_least)
        if movable.size == 0:
            break  # the bounds leave no room: as near as they allow
        shortage = (sizes * total - counts * num_images)[movable] * np.sign(missing)
        counts[movable[np.lexsort((ties[movable], -shortage))[0]]] += np.sign(missing)
    return counts
