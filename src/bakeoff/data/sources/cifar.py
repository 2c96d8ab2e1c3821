"""CIFAR-10 and CIFAR-100: 32x32 colour photographs, 50,000 to train on and 10,000 to test on.

Looked for in this order: Parquet files under $BAKEOFF_DATA; the authors' files, in the folder that
torchvision unpacks; the Hugging Face hub. Rows keep the order they have there, which can differ between the
three.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bakeoff.data import cache, columns, pickles, places
from bakeoff.data.columns import Columns
from bakeoff.data.images import ImageSet, Part, fingerprint
from bakeoff.errors import DataError

SIZE_PX = 32
_NUM_IMAGES: dict[Part, int] = {"train": 50_000, "test": 10_000}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cifar:
    """What sets the two apart.

    Args:
        name: ours, and the hub's after "uoft-cs/".
        labels: label columns, classes first, then superclasses.
        folder: what torchvision unpacks.
        md5: part -> file in that folder -> its published MD5.
        meta_md5: file with the names -> its published MD5.
        mean: of each channel over all training pixels, in [0, 1].
        std: likewise; over all pixels at once, not a mean of each picture's own.
    """

    name: str
    labels: tuple[str, ...]
    folder: str
    md5: dict[Part, dict[str, str]]
    meta_md5: dict[str, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]


CIFAR10 = Cifar(
    name="cifar10",
    labels=("label",),
    folder="cifar-10-batches-py",
    md5={
        "train": {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
    },
    meta_md5={"batches.meta": "5ff9c542aee3614f3951f8cda6e48888"},
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
CIFAR100 = Cifar(
    name="cifar100",
    labels=("fine_label", "coarse_label"),
    folder="cifar-100-python",
    md5={
        "train": {"train": "16019d7e3df5f24257cddd939b257f8d"},
        "test": {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    },
    meta_md5={"meta": "7973b15100ade9c7d40fb424638fde48"},
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
)


def load_cifar10(part: Part) -> ImageSet:
    """Return CIFAR-10, uint8 [n 3 32 32], 10 classes."""
    return _load(CIFAR10, part)


def load_cifar100(part: Part) -> ImageSet:
    """Return CIFAR-100, uint8 [n 3 32 32], 100 classes in 20 superclasses."""
    return _load(CIFAR100, part)


def _load(cifar: Cifar, part: Part) -> ImageSet:
    files, decode = _find(cifar, part)
    return cache.remember(
        f"{cifar.name}-{part}",
        files,
        lambda: _image_set(cifar, decode()),
        num_bytes=_NUM_IMAGES[part] * (SIZE_PX * SIZE_PX * 3 + 8),
    )


def _find(cifar: Cifar, part: Part) -> tuple[Sequence[Path], Callable[[], Columns]]:
    """Return the files whose bytes identify this part, and what decodes them."""
    files = places.parquet(cifar.name, part, wanted=("img", *cifar.labels))
    if not files and (folder := places.unpacked(cifar.folder)):
        md5 = {folder / name: md5 for name, md5 in (cifar.md5[part] | cifar.meta_md5).items()}
        return tuple(md5), partial(_unpickle, cifar.labels, md5)
    if not files:
        try:
            files = places.hub(f"uoft-cs/{cifar.name}", part)
        except DataError as error:
            raise _nowhere(cifar, part, reason=error.found) from error
    return files, partial(columns.read, files, image="img", labels=cifar.labels, size_px=SIZE_PX)


def _nowhere(cifar: Cifar, part: Part, *, reason: str) -> DataError:
    """Say where was looked, and the three ways to get the data."""
    root = places.data_root()
    own = "BAKEOFF_DATA is not set" if root is None else f"nothing in BAKEOFF_DATA={root}"
    return DataError(
        f"{cifar.name} ({part})",
        found=f"{own}, no {cifar.folder}/ in ./data or ~/data, and from the hub {reason}",
        expected=f"one of three: (1) Parquet files {part}-*.parquet in $BAKEOFF_DATA/{cifar.name}/; "
        f"(2) the folder {cifar.folder}/, as torchvision unpacks it, in $BAKEOFF_DATA, ./data or ~/data; "
        f"(3) uoft-cs/{cifar.name} on the Hugging Face hub, over the network, from a mirror (HF_ENDPOINT), "
        "or fetched before (HF_HOME)",
    )


def _unpickle(labels: Sequence[str], md5: Mapping[Path, str]) -> Columns:
    """Read the batches of one part, and the file of names, which comes last."""
    *batches, meta = [pickles.read(file, md5=expected) for file, expected in md5.items()]
    planes = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, SIZE_PX, SIZE_PX)
    return Columns(
        pixels=np.ascontiguousarray(planes.transpose(0, 2, 3, 1)),
        labels={
            label: np.concatenate([np.array(batch[f"{label}s"], dtype=np.int64) for batch in batches])
            for label in labels
        },
        names={label: tuple(meta[f"{label}_names"]) for label in labels},
    )


def _image_set(cifar: Cifar, decoded: Columns) -> ImageSet:
    label, *groups = cifar.labels
    classes = decoded.names[label]
    return ImageSet(
        images=decoded.pixels.transpose(0, 3, 1, 2),
        labels=decoded.labels[label],
        classes=classes,
        superclasses=decoded.names[groups[0]] if groups else (),
        superclass_of=_superclass_of(decoded, label, groups[0]) if groups else (),
        mean=cifar.mean,
        std=cifar.std,
        fingerprint=fingerprint(decoded.pixels, decoded.labels[label], classes),
    )


def _superclass_of(decoded: Columns, label: str, group: str) -> tuple[int, ...]:
    """Read off the rows which superclass each class belongs to."""
    pairs = np.unique(np.stack([decoded.labels[label], decoded.labels[group]]), axis=1)
    if not np.array_equal(pairs[0], np.arange(len(decoded.names[label]))):
        raise DataError(
            f"{label} and {group}",
            found=f"{pairs.shape[1]} different pairs in the rows",
            expected=f"each of the {len(decoded.names[label])} classes, with one superclass",
        )
    return tuple(pairs[1].tolist())
