"""Tables of people's own pictures: Parquet files, and data sets of the Hugging Face hub.

A picture is a struct with the encoded file under `bytes`, as the datasets library writes it, or the bytes themselves. A
`path` beside them is never followed. Column names are found, or given.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bakeoff.data import listing, places
from bakeoff.data.listing import PARTS, Listing, OwnPart
from bakeoff.data.sources.folder import NAMES
from bakeoff.errors import DataError

Table = Any  # pyarrow has no types, and is imported only where it is needed
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
        said = (part for name in (path.stem, *reversed(below)) if (part := _part_of(name)) is not None)
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
        part = _part_of(split) if len(splits) > 1 else "train"
        if part is not None and not files[part]:  # one that is called otherwise, such as unsupervised, has no labels
            files[part] = list(places.hub(repository, split))
    return _listed(Path(repository), files, image=image, label=label)


def _part_of(name: str) -> OwnPart | None:
    """Return the part that the beginning of a name means, if it means one."""
    word = name.lower().replace("_", "-").split("-")[0]
    return next((part for part, names in NAMES.items() if word in names), None)


def _listed(place: Path, files: dict[OwnPart, list[Path]], *, image: str | None, label: str | None) -> Listing:
    rows: dict[OwnPart, list[tuple[Path, str]]] = {}
    encoded: dict[OwnPart, Callable[[int], bytes]] = {}
    order: tuple[str, ...] = ()
    for part in PARTS:
        if not files[part]:
            continue
        table, names_of_rows = _table(files[part])
        where = str(files[part][0])
        pictures = table[_image_column(table, image, where=where)]
        column = _label_column(table, label, where=where)
        names = _class_names(table, column)
        labels = _labels(table[column].to_pylist(), names, where=f"{where}, {column}")
        rows[part] = list(zip(names_of_rows, labels, strict=True))
        encoded[part] = _Encoded(pictures, names=names_of_rows)
        order = order or names
    return listing.assemble(place, rows, encoded=encoded, files=files, order=order or _in_order(rows))


class _Encoded:
    """Gives the encoded file of a row."""

    def __init__(self, pictures: Table, *, names: Sequence[Path]) -> None:
        self.pictures, self.names = pictures, names

    def __call__(self, row: int) -> bytes:
        content = self.pictures[row].as_py()
        content = content.get("bytes") if isinstance(content, dict) else content
        if content is None:
            found, expected = "no bytes, at most a path, which is not followed", "a picture in the table itself"
            raise DataError(str(self.names[row]), found=found, expected=expected)
        return bytes(content)


def _table(files: Sequence[Path]) -> tuple[Table, list[Path]]:
    """Read the files of one part, mapped where they allow it; and name each row by its file and place in it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for file in files:
        try:
            if file.suffix == ".arrow":
                tables.append(pa.ipc.open_stream(pa.memory_map(str(file))).read_all())
            else:
                with pq.ParquetFile(file) as source:
                    tables.append(source.read())
        except (OSError, pa.ArrowException) as error:
            found = f"damage ({' '.join(str(error).split())[:200]})"
            raise DataError(str(file), found=found, expected="a whole file", hint="Get it again.") from error
    try:
        whole = pa.concat_tables(tables, promote_options="default").replace_schema_metadata(tables[0].schema.metadata)
        pairs = zip(files, tables, strict=True)
        return whole, [Path(f"{file}:{row}") for file, table in pairs for row in range(table.num_rows)]
    except pa.ArrowException as error:
        found = f"other columns than in {files[0].name} ({' '.join(str(error).split())[:200]})"
        raise DataError(str(files[-1]), found=found, expected="the same columns in each file") from error


def _image_column(table: Table, wanted: str | None, *, where: str) -> str:
    """Return the column of pictures: the one that was named, or the only one that can be."""
    import pyarrow as pa

    def holds(kind: Any) -> bool:  # noqa: ANN401 - pyarrow's
        if pa.types.is_struct(kind):
            return bool(kind.get_field_index("bytes") >= 0)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    able = [field.name for field in table.schema if holds(field.type)]
    return _chosen(able, wanted, what="image_column", of="encoded pictures", table=table, where=where)


def _label_column(table: Table, wanted: str | None, *, where: str) -> str:
    """Return the column of classes: the one that was named, or the first of those usually called so."""
    able = [name for name in LABELS if name in table.column_names]
    if wanted in table.column_names:
        able = [str(wanted)]
    return _chosen(able[:1], wanted, what="label_column", of="classes", table=table, where=where)


def _chosen(able: list[str], wanted: str | None, *, what: str, of: str, table: Table, where: str) -> str:
    if wanted is not None and wanted in able:
        return wanted
    if wanted is None and len(able) == 1:
        return able[0]
    found = f"'{wanted}'" if wanted else f"{len(able)} columns of {of} ({', '.join(able)})" if able else f"no {of}"
    expected = f"data.{what}, one of {', '.join(able or table.column_names)}"
    raise DataError(where, found=found, expected=expected)


def _class_names(table: Table, column: str) -> tuple[str, ...]:
    """Return what the integers of a label column mean, or nothing where that is not said."""
    try:
        names = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"][column]["names"]
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
