"""Tables of encoded pictures and labels: Parquet, and the Arrow files that Hugging Face makes of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.decode import decode
from bakeoff.errors import DataError

Table = Any  # pyarrow has no types, and is imported only where the cache is cold


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Columns:
    """A decoded table.

    Args:
        pixels: uint8 [n h w c].
        labels: name of a label column -> int64 [n].
        names: name of a label column -> what its integers mean.
    """

    pixels: NDArray[np.uint8]
    labels: dict[str, NDArray[np.int64]]
    names: dict[str, tuple[str, ...]]


def has(file: Path, wanted: Sequence[str]) -> bool:
    """Tell whether a Parquet file has all the `wanted` columns.

    Raises:
        DataError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return set(wanted) <= set(pq.read_schema(file).names)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, error) from error


def read(files: Sequence[Path], *, image: str, labels: Sequence[str], size_px: int) -> Columns:
    """Decode the files of one part, in their order; their rows keep theirs.

    Args:
        files: `.parquet`, or `.arrow` in the streaming format.
        image: the column of pictures, structs with an encoded file under `bytes`; a `path` is never followed.
        labels: columns of class indices, whose names stand in the schema's "huggingface" entry.
        size_px: height and width of every picture.

    Raises:
        DataError: a damaged file, a missing column, an unknown label, an unreadable picture; says where.
    """
    import pyarrow.compute as pc

    tables = [_table(file, (image, *labels)) for file in files]
    names = {label: _names(files[0], tables[0], label) for label in labels}
    pixels = np.empty((sum(table.num_rows for table in tables), size_px, size_px, 3), dtype=np.uint8)
    start = 0
    for file, table in zip(files, tables, strict=True):
        encoded = pc.struct_field(table[image], "bytes").to_pylist()
        decode(encoded, out=pixels[start : start + len(encoded)], where=str(file))
        start += len(encoded)
    if start == 0:
        raise DataError(str(files[0]), found="no rows", expected="at least one picture")
    found = {
        label: np.concatenate(
            [_labels(file, table, label, names[label]) for file, table in zip(files, tables, strict=True)]
        )
        for label in labels
    }
    return Columns(pixels=pixels, labels=found, names=names)


def _table(file: Path, columns: Sequence[str]) -> Table:
    """Read `columns` of one file, with the pictures checked to be structs that hold bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.suffix == ".arrow":
            with pa.OSFile(str(file)) as source:
                table = pa.ipc.open_stream(source).read_all()
        else:
            with pq.ParquetFile(file) as source:
                table = source.read(columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, error) from error
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise DataError(str(file), found=f"no column {missing}", expected=f"columns {', '.join(columns)}")
    kind = table.schema.field(columns[0]).type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise DataError(str(file), found=f"'{columns[0]}' of type {kind}", expected="a struct with 'bytes'")
    return table


def _damaged(file: Path, error: Exception) -> DataError:
    return DataError(str(file), found=f"damage ({error})", expected="a whole file", hint="Get it again.")


def _names(file: Path, table: Table, label: str) -> tuple[str, ...]:
    """Read what the integers of a label column mean."""
    try:
        features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            str(file),
            found=f"no names for the labels in '{label}'",
            expected="a ClassLabel in the schema's 'huggingface' entry, as the datasets library writes it",
        ) from error


def _labels(file: Path, table: Table, label: str, names: Sequence[str]) -> NDArray[np.int64]:
    """Read one label column, int64 [n], every label within `names`."""
    found = table[label].to_pylist()  # not to_numpy: a null would turn all of them into floats
    for row, value in enumerate(found):
        if not isinstance(value, int) or not 0 <= value < len(names):
            expected = f"a whole number from 0 to {len(names) - 1}"
            raise DataError(f"{file}, row {row}", found=f"{label} {value}", expected=expected)
    return np.array(found, dtype=np.int64)
