"""Parquet files: found where people put them, and refused with file and row where they are wrong."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from bakeoff.data import load
from bakeoff.data.sources import cifar
from bakeoff.errors import DataError
from tests.data.cifar_files import NAMES, encode, pictures, table, write, write_cifar10


@pytest.mark.parametrize("place", ["data/cifar10", "data"])
def test_parquet_is_found_under_its_name_or_where_the_variable_points(home: Path, place: str) -> None:
    pixels = write_cifar10(home / place)
    found = load("cifar10", part="train")
    assert np.array_equal(found.images, pixels.transpose(0, 3, 1, 2))
    assert found.labels.tolist() == [row % 10 for row in range(20)]
    assert found.classes == NAMES
    assert (found.superclasses, found.superclass_of) == ((), ())
    assert (found.mean, found.std) == (cifar.CIFAR10.mean, cifar.CIFAR10.std)


def test_training_never_opens_the_test_part(home: Path) -> None:
    write_cifar10(home / "data/cifar10")
    (home / "data/cifar10/test-00000-of-00001.parquet").write_bytes(b"not Parquet")
    assert len(load("cifar10", part="train")) == 20
    assert [path.name[:13] for path in (home / "cache").iterdir() if path.is_dir()] == ["cifar10-train"]
    with pytest.raises(DataError, match="test-00000-of-00001"):
        load("cifar10", part="test")


def test_parquet_of_another_data_set_is_not_taken_for_this_one(home: Path) -> None:
    write_cifar10(home / "data")
    with pytest.raises(DataError, match="nothing in BAKEOFF_DATA"):
        load("cifar100", part="train")


def test_a_superclass_comes_from_the_rows_and_must_be_one(home: Path) -> None:
    def both(groups: list[int]) -> pa.Table:
        fine = table(
            [encode(picture) for picture in pictures(20)], [row % 10 for row in range(20)], column="fine_label"
        )
        features = json.loads(fine.schema.metadata[b"huggingface"])
        features["info"]["features"]["coarse_label"] = {"names": ["even", "odd"]}
        fine = fine.append_column("coarse_label", pa.array(groups))
        return fine.replace_schema_metadata({"huggingface": json.dumps(features)})

    write(home / "data/cifar100/train-0.parquet", both([row % 2 for row in range(20)]))
    found = load("cifar100", part="train")
    assert found.superclasses == ("even", "odd")
    assert found.superclass_of == (0, 1) * 5
    write(home / "data/cifar100/train-0.parquet", both([0, *(row % 2 for row in range(19))]))
    with pytest.raises(DataError, match="with one superclass"):
        load("cifar100", part="train")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    "damage", [cut, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"PAR1" * 9)]
)
@pytest.mark.parametrize("place", ["data/cifar10", "data"])
def test_damaged_parquet_is_named(home: Path, place: str, damage: Callable[[Path], object]) -> None:
    write_cifar10(home / place)
    damage(home / place / "train-00001-of-00002.parquet")
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet"):
        load("cifar10", part="train")


@pytest.mark.parametrize("lost", ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"])
def test_a_missing_piece_is_noticed(home: Path, lost: str) -> None:
    write_cifar10(home / "data/cifar10")
    (home / "data/cifar10" / lost).unlink()
    with pytest.raises(DataError, match="expected 2, as its name says"):
        load("cifar10", part="train")


def test_a_missing_part_is_noticed(home: Path) -> None:
    write(home / "data/cifar10/test-0.parquet", table([encode(pictures(1)[0])], [0]))
    with pytest.raises(DataError, match=r"train-\*\.parquet"):
        load("cifar10", part="train")


def claiming(side_px: int) -> bytes:
    """Return a small PNG whose header promises a large picture."""
    content = encode(pictures(1)[0])
    header = b"IHDR" + struct.pack(">II", side_px, side_px) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


def gif() -> bytes:
    return encode(pictures(1)[0][..., 0], "GIF")


def rgba() -> bytes:
    return encode(np.zeros((32, 32, 4), dtype=np.uint8))


BAD_PICTURES: dict[str, Callable[[], bytes | None]] = {
    "no picture": lambda: None,
    "do not decode": lambda: encode(pictures(1)[0])[:700],
    "identify": lambda: b"noise",
    "cannot identify": gif,
    "64x64 RGB": lambda: encode(np.zeros((64, 64, 3), dtype=np.uint8)),
    "32x32 RGBA": rgba,
    "9000x9000 RGB": lambda: claiming(9_000),
    "decompression bomb": lambda: claiming(20_000),
}


@pytest.mark.parametrize("found", BAD_PICTURES)
def test_a_bad_picture_is_named_with_file_and_row(home: Path, found: str) -> None:
    good = encode(pictures(1)[0])
    write(home / "data/cifar10/train-0.parquet", table([good, good], [0, 1]))
    write(home / "data/cifar10/train-1.parquet", table([good, BAD_PICTURES[found]()], [2, 3]))
    with pytest.raises(DataError, match=rf"train-1\.parquet, row 1: found .*{found}"):
        load("cifar10", part="train")
    assert [path.suffix for path in (home / "cache").iterdir()] == [".lock"]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "palette"])
def test_lossless_formats_give_the_same_pixels(home: Path, kind: str) -> None:
    pixels = pictures(1)[0] // 128 * 255  # eight colours fit a palette
    content = encode(pixels, "WEBP", lossless=True)
    if kind != "WEBP":
        image = Image.fromarray(pixels)
        image = image.quantize(8) if kind == "palette" else image
        image.save(buffer := io.BytesIO(), "PNG")
        content = buffer.getvalue()
    write(home / "data/cifar10/train-0.parquet", table([content], [0]))
    assert np.array_equal(load("cifar10", part="train").images[0], pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("label", [10, -1, None])
def test_a_label_without_a_name_is_named_with_file_and_row(home: Path, label: int | None) -> None:
    content = table([encode(picture) for picture in pictures(3)], [0, 1, label])
    write(home / "data/cifar10/train-0.parquet", content)
    with pytest.raises(DataError, match=rf"train-0\.parquet, row 2: found label {label}"):
        load("cifar10", part="train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (table([], []), "no rows"),
        (table([encode(pictures(1)[0])], [0]).drop_columns(["label"]), "no column"),
        (table([encode(pictures(1)[0])], [0]).drop_columns(["img"]), "no column"),
        (table([encode(pictures(1)[0])], [0]).replace_schema_metadata(None), "no names"),
        (table([encode(pictures(1)[0])], [0]).set_column(0, "img", pa.array(["a path"])), "of type string"),
    ],
)
def test_an_unfit_table_is_refused(home: Path, content: pa.Table, message: str) -> None:
    write(home / "data/cifar10/train-0.parquet", content)
    with pytest.raises(DataError, match=message):
        load("cifar10", part="train")
