"""Tables of people's own pictures: Parquet files, and data sets of the Hugging Face hub.

A picture is a struct with the encoded file under `bytes`, as the datasets library writes it, or the bytes themselves. A
`path` beside them is never followed. Column names are found, or given.
"""

import json
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from bakeoff.data import listing, places
from bakeoff.data.listing import PARTS, Listing, OwnPart
from bakeoff.errors import DataError

Schema = Any  # pyarrow has no types, and is imported only where it is needed
Column = Any
LABELS = ("label", "labels", "fine_label", "class", "target", "category", "y")  # in the order of preference


def read_parquet(place: Path, *, image: str | None, label: str | None) -> Listing:
    """List the rows of a Parquet file, or of a folder of them: `train-*.parquet`, `test-*.parquet`, and so on.

    The part stands in a file's name, or else in that of a folder above it, as in `test/0000.parquet`.

    Args:
        place: the file or folder.
        image: the column of pictures; None finds it.
        label: the column of classes; None finds it.

    Raises:
        DataError: no such file, a damaged one, or columns that are not there or not found.
    """
    found = [place] if place.is_file() else sorted(place.rglob("*.parquet")) if place.is_dir() else []
    if not found:
        raise DataError(str(place), found="no Parquet file", expected="a file, or a folder with train-*.parquet")
    files: dict[OwnPart, list[Path]] = {part: [] for part in PARTS}
    for path in found:
        below = path.relative_to(place).parts[:-1] if path != place else ()
        said = (part for name in (path.stem, *reversed(below)) if (part := _begins(name)) is not None)
        files[next(said, "train")].append(path)
    return _listed(place, files, image=image, label=label)


def read_hub(repository: str, *, image: str | None, label: str | None) -> Listing:
    """Fetch a data set of the hub, or find it fetched, and list its rows.

    Raises:
        StorageError: the disk refused what was fetched.
        DataError: no answer and nothing fetched before, or as `read_parquet`.
    """
    files: dict[OwnPart, list[Path]] = {part: [] for part in PARTS}
    splits = places.hub_splits(repository)
    for split in splits:
        part = _begins(split) if len(splits) > 1 else "train"
        if part is not None and not files[part]:  # one that is called otherwise, such as unsupervised, has no labels
            files[part] = list(places.hub(repository, split))
    return _listed(Path(repository), files, image=image, label=label)


def _begins(name: str) -> OwnPart | None:
    """Return the part that the beginning of a name means, if it means one."""
    return listing.part_of(name.replace("_", "-").split("-")[0])


def _listed(place: Path, files: dict[OwnPart, list[Path]], *, image: str | None, label: str | None) -> Listing:
    rows: dict[OwnPart, list[tuple[Path, str]]] = {}
    encoded: dict[OwnPart, Callable[[int], bytes]] = {}
    order: tuple[str, ...] = ()
    for part in PARTS:
        if not files[part]:
            continue
        first = _schema(files[part][0])
        where = str(files[part][0])
        pictures = _image_column(first, image, where=where)
        column = _label_column(first, label, where=where)
        names = _class_names(first, column)
        rows[part], blocks = [], []
        for file in files[part]:
            _refuse_others(file, _schema(file), (pictures, column), like=files[part][0])
            labels = _labels(_column(file, column).to_pylist(), names, where=f"{file}, {column}")
            rows[part] += [(Path(f"{file}:{row}"), name) for row, name in enumerate(labels)]
            blocks += _blocks(file, pictures)
        encoded[part] = _Encoded(blocks, names=[path for path, _ in rows[part]])
        order = order or names
    return listing.assemble(place, rows, encoded=encoded, files=files, order=order or _in_order(rows))


class _Encoded:
    """Gives the encoded file of a row; the block that it lies in stays in memory until another is asked for.

    Args:
        blocks: number of rows, and what reads these rows of the column of pictures.
        names: of the rows, for messages.
    """

    def __init__(self, blocks: Sequence[tuple[int, Callable[[], Column]]], *, names: Sequence[Path]) -> None:
        self.ends = list(accumulate(num for num, _ in blocks))
        self.reads = [read for _, read in blocks]
        self.names = names
        self.held: tuple[int, Column] = (-1, None)
        self.lock = threading.Lock()

    def __call__(self, row: int) -> bytes:
        block = bisect_right(self.ends, row)
        with self.lock:  # threads go through the rows side by side
            if self.held[0] != block:
                self.held = (-1, None)  # never two of them
                self.held = (block, self.reads[block]())
            column = self.held[1]
        content = column[row - (self.ends[block - 1] if block else 0)].as_py()
        content = content.get("bytes") if isinstance(content, dict) else content
        if content is None:
            found, expected = "no bytes, at most a path, which is not followed", "a picture in the table itself"
            raise DataError(str(self.names[row]), found=found, expected=expected)
        return bytes(content)


def _schema(file: Path) -> Schema:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _whole(file):
        if file.suffix == ".arrow":
            with pa.OSFile(str(file)) as source:
                return pa.ipc.open_stream(source).schema
        return pq.read_schema(file)


def _column(file: Path, name: str) -> Column:
    """Read one column: of Arrow's own format it is mapped, not read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _whole(file):
        if file.suffix == ".arrow":
            return pa.ipc.open_stream(pa.memory_map(str(file))).read_all()[name]
        with pq.ParquetFile(file) as source:
            return source.read(columns=[name])[name]


def _blocks(file: Path, column: str) -> list[tuple[int, Callable[[], Column]]]:
    """Return the pieces that the pictures of a file can be read in."""
    import pyarrow.parquet as pq

    if file.suffix == ".arrow":
        mapped = _column(file, column)
        return [(len(mapped), lambda: mapped)]
    with _whole(file), pq.ParquetFile(file) as source:
        sizes = [source.metadata.row_group(group).num_rows for group in range(source.num_row_groups)]
    return [(num, partial(_row_group, file, group, column)) for group, num in enumerate(sizes)]


def _row_group(file: Path, group: int, column: str) -> Column:
    import pyarrow.parquet as pq

    with _whole(file), pq.ParquetFile(file) as source:
        return source.read_row_group(group, columns=[column])[column]


@contextmanager
def _whole(file: Path) -> Iterator[None]:
    """Say which file is damaged."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        found = f"damage ({' '.join(str(error).split())[:200]})"
        raise DataError(str(file), found=found, expected="a whole file", hint="Get it again.") from error


def _refuse_others(file: Path, schema: Schema, columns: Sequence[str], *, like: Path) -> None:
    """Refuse a file that has not the columns of the first."""
    if missing := [column for column in columns if column not in schema.names]:
        found = f"other columns than in {like.name}: no {' nor '.join(missing)}"
        raise DataError(str(file), found=found, expected="the same columns in each file")


def _image_column(schema: Schema, wanted: str | None, *, where: str) -> str:
    """Return the column of pictures: the one that was named, or the only one that can be."""
    import pyarrow as pa

    def holds(kind: Any) -> bool:  # noqa: ANN401 - pyarrow's
        if pa.types.is_struct(kind):
            return bool(kind.get_field_index("bytes") >= 0)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    able = [field.name for field in schema if holds(field.type)]
    return _chosen(able, wanted, what="image_column", of="encoded pictures", names=schema.names, where=where)


def _label_column(schema: Schema, wanted: str | None, *, where: str) -> str:
    """Return the column of classes: the one that was named, or the first of those usually called so."""
    able = [name for name in LABELS if name in schema.names]
    if wanted in schema.names:
        able = [str(wanted)]
    return _chosen(able[:1], wanted, what="label_column", of="classes", names=schema.names, where=where)


def _chosen(able: list[str], wanted: str | None, *, what: str, of: str, names: Sequence[str], where: str) -> str:
    if wanted is not None and wanted in able:
        return wanted
    if wanted is None and len(able) == 1:
        return able[0]
    found = f"'{wanted}'" if wanted else f"{len(able)} columns of {of} ({', '.join(able)})" if able else f"no {of}"
    expected = f"data.{what}, one of {', '.join(able or names)}"
    raise DataError(where, found=found, expected=expected)


def _class_names(schema: Schema, column: str) -> tuple[str, ...]:
    """Return what the integers of a label column mean, or nothing where that is not said."""
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][column]["names"]
        return tuple(map(str, names))
    except (KeyError, TypeError, ValueError):
        return ()


def _labels(values: list[object], names: tuple[str, ...], *, where: str) -> list[str]:
    """Return the class of each row by its name."""
    found = []
    for row, value in enumerate(values):
        if names:
            if not isinstance(value, int) or not 0 <= value < len(names):
                expected = f"a whole number from 0 to {len(names) - 1}"
                raise DataError(f"{where}, row {row}", found=f"{value!r}"[:100], expected=expected)
            found.append(names[value])
        elif not isinstance(value, str | int) or value == "":
            raise DataError(f"{where}, row {row}", found=f"{value!r}"[:100], expected="a name or a whole number")
        else:
            found.append(str(value))
    return found


def _in_order(rows: dict[OwnPart, list[tuple[Path, str]]]) -> tuple[str, ...]:
    """Return classes that are numbers in the order of these, and nothing where they are names."""
    names = {name for _, name in rows.get("train", ())}
    if not all(name.isascii() and name.removeprefix("-").isdigit() for name in names):
        return ()
    return tuple(sorted(names, key=int))
