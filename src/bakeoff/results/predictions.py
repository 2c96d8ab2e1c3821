"""Logits per image, as Parquet: every later metric, test and figure comes from here and needs no GPU.

Columns: `index` int64, `label` int64, `logits` fixed_size_list<float32>[classes], in the order of `index`.
Metadata: key `bakeoff`, JSON with split, digest of the recipe, classes, superclasses and a SHA-256.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bakeoff.errors import DataError, VerificationFailed
from bakeoff.results.files import write_atomically

_KEY = b"bakeoff"
_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Predictions:
    """What a model said about each image of one split.

    Args:
        index: int64 [n], position of the image in its split.
        label: int64 [n], the true class.
        logits: float32 [n classes].
        classes: names, one a column of `logits`.
        superclass_of: class index -> superclass index, or empty.
        superclasses: names, or empty.
        split: "train", "val" or "test".
        recipe_digest: the identity of the run that said so.

    Raises:
        ValueError: the parts do not fit each other.
    """

    index: np.ndarray
    label: np.ndarray
    logits: np.ndarray
    classes: tuple[str, ...]
    superclass_of: tuple[int, ...] = ()
    superclasses: tuple[str, ...] = ()
    split: str = ""
    recipe_digest: str = ""

    def __post_init__(self) -> None:
        num_images, num_classes = len(self.index), len(self.classes)
        if self.index.shape != (num_images,) or self.label.shape != (num_images,):
            raise ValueError(f"index {self.index.shape} and label {self.label.shape} must be [n] alike")
        if self.logits.shape != (num_images, num_classes):
            raise ValueError(f"logits {self.logits.shape} must be [{num_images} {num_classes}]")
        if not num_classes or ((self.label < 0) | (self.label >= num_classes)).any():
            raise ValueError(f"labels must lie in 0 ... {num_classes - 1}")
        if len(self.superclass_of) != (num_classes if self.superclasses else 0):
            raise ValueError("superclass_of must name a superclass for each class, or nothing for none")
        if any(not 0 <= parent < len(self.superclasses) for parent in self.superclass_of):
            raise ValueError(f"superclass_of must lie in 0 ... {len(self.superclasses) - 1}")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.index)

    def of(self, images: np.ndarray) -> "Predictions":
        """Return what was said about some images, by their positions in the split."""
        chosen = np.isin(self.index, images)
        return replace(self, index=self.index[chosen], label=self.label[chosen], logits=self.logits[chosen])


def write(predictions: Predictions, path: Path) -> None:
    """Write to `path` in one piece; the same content, in whatever order, gives the same bytes.

    Raises:
        StorageError: the disk refused.
    """
    order = np.argsort(predictions.index, kind="stable")
    index = predictions.index[order].astype(np.int64)
    label = predictions.label[order].astype(np.int64)
    logits = np.ascontiguousarray(predictions.logits[order], dtype=np.float32)
    about = {
        "version": _VERSION,
        "split": predictions.split,
        "recipe_digest": predictions.recipe_digest,
        "classes": predictions.classes,
        "superclasses": predictions.superclasses,
        "superclass_of": predictions.superclass_of,
    }
    about["sha256"] = _digest(index, label, logits, about)
    columns = {
        "index": pa.array(index),
        "label": pa.array(label),
        "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits.reshape(-1)), logits.shape[1]),
    }
    table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(about, sort_keys=True)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False)
    write_atomically(path, sink.getvalue().to_pybytes())


def read(path: Path) -> Predictions:
    """Read what `write` wrote, whole and unaltered.

    Raises:
        DataError: the file is missing, damaged, or not one of ours.
    """
    try:
        data = path.read_bytes()
        table = pq.read_table(pa.BufferReader(data), use_threads=False)
        about = json.loads((table.schema.metadata or {})[_KEY])
        return _from_table(table, about)
    except FileNotFoundError as error:
        raise DataError(str(path), found="no such file", expected="predictions of a finished run") from error
    except (OSError, pa.ArrowException, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            str(path),
            found=f"a file that is damaged or not ours ({_first_line(error)})",
            expected="predictions in Parquet as bakeoff writes them",
            hint="Evaluate the run again.",
        ) from error


def verify(predictions: Predictions, num_images: int) -> None:
    """Check that each image of the split was counted exactly once.

    Raises:
        VerificationFailed: an image is missing, doubled or foreign to the split.
    """
    inside = predictions.index[(predictions.index >= 0) & (predictions.index < num_images)]
    times = np.bincount(inside, minlength=num_images)
    missing, doubled = int((times == 0).sum()), int((times > 1).sum())
    foreign = len(predictions) - len(inside)
    if missing or doubled or foreign:
        raise VerificationFailed(
            f"predictions of split '{predictions.split}'",
            found=f"{missing:,} images missing, {doubled:,} doubled, {foreign:,} rows of no image in it",
            expected=f"each of {num_images:,} images exactly once",
        )


def _from_table(table: pa.Table, about: dict[str, Any]) -> Predictions:
    columns = {name: table.column(name).combine_chunks() for name in ("index", "label", "logits")}
    index, label = (columns[name].to_numpy(zero_copy_only=False) for name in ("index", "label"))
    flat = columns["logits"].flatten().to_numpy(zero_copy_only=False)
    logits = flat.reshape(len(index), -1) if len(index) else flat.reshape(0, len(about["classes"]))
    expected = about.pop("sha256")
    if about["version"] != _VERSION or _digest(index, label, logits, about) != expected:
        raise ValueError("the content does not match its SHA-256")
    return Predictions(
        index=index,
        label=label,
        logits=logits,
        classes=tuple(about["classes"]),
        superclass_of=tuple(about["superclass_of"]),
        superclasses=tuple(about["superclasses"]),
        split=about["split"],
        recipe_digest=about["recipe_digest"],
    )


def _digest(index: np.ndarray, label: np.ndarray, logits: np.ndarray, about: dict[str, Any]) -> str:
    """Hash the content, not the file: Parquet itself notices a flipped bit of a number only by luck."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for array in (index, label, logits):
        digest.update(str(array.dtype).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
