"""A person's own pictures: folders, CSV, Parquet, the hub's format; listed, parted, decoded, kept."""

import csv
import dataclasses
import io
import os
import shutil
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bakeoff import data
from bakeoff.data import listing, own
from bakeoff.data.images import ImageSet
from bakeoff.errors import DataError, RecipeError
from tests.data import pictures

THREE = {"red": 12, "green": 9, "blue": 6}


def load(name: str, part: Any = "train", **options: Any) -> ImageSet:
    return data.load(name, part=part, size=options.pop("size", 16), **options)


def colour_of(images: ImageSet) -> list[str]:
    """Tell the colour of each picture from its pixels, which know nothing of labels."""
    means = images.pixels(np.arange(len(images))).reshape(len(images), -1, 3).mean(axis=1)
    names, colours = zip(*pictures.COLOURS.items(), strict=True)
    return [names[int(np.abs(np.array(colours) - mean).sum(axis=1).argmin())] for mean in means]


def labels_of(images: ImageSet) -> list[str]:
    return [images.classes[label] for label in images.labels]


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "TESTING"), ("train_dataset", "test_dataset")])
def test_a_folder_with_train_and_test(tmp_path: Path, names: tuple[str, str]) -> None:
    root = pictures.folder(tmp_path, {names[0]: THREE, names[1]: {"red": 2, "blue": 3}})
    train, test = load(f"folder:{root}"), load(f"folder:{root}", "test")
    assert (len(train), len(test)) == (27, 5)
    assert train.classes == test.classes == ("blue", "green", "red")
    assert train.shape == (3, 16, 16)
    assert labels_of(train) == colour_of(train)
    assert labels_of(test) == colour_of(test)


def test_validation_that_the_source_sets_apart(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path, {"train": THREE, "valid": {"red": 2, "green": 2}, "test": {"red": 1}})
    train = load(f"folder:{root}")
    assert len(train) == 31
    assert train.reserved is not None
    assert train.reserved.tolist() == [27, 28, 29, 30]
    assert labels_of(train.take(train.reserved)) == ["green", "green", "red", "red"]
    part = train.take(np.array([30, 0, 27]))
    assert part.reserved is not None
    assert part.reserved.tolist() == [0, 2]


def test_a_plain_folder_gets_a_test_part(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path, {"": {"red": 40, "green": 20, "blue": 10}})
    train, test = load(f"folder:{root}"), load(f"folder:{root}", "test")
    assert (len(train), len(test)) == (56, 14)
    assert np.bincount(test.labels).tolist() == [2, 4, 8]
    seen = {picture.tobytes() for images in (train, test) for picture in images.pixels(np.arange(len(images)))}
    assert len(seen) == 70
    assert labels_of(test) == colour_of(test)
    assert np.array_equal(load(f"folder:{root}", "test").labels, test.labels)


def test_copies_stay_on_one_side(tmp_path: Path) -> None:
    """Five copies of each of eight pictures a class, under other names: no copy is on the other side."""
    for name, colour in list(pictures.COLOURS.items())[:2]:
        for number in range(40):
            pictures.draw(tmp_path / name / f"{number}.png", colour, seed=number % 8)
    train, test = (load(f"folder:{tmp_path}", part) for part in ("train", "test"))
    assert len(test) > 0
    assert len(train) + len(test) == 80
    assert not {p.tobytes() for p in train.pixels(np.arange(len(train)))} & {
        p.tobytes() for p in test.pixels(np.arange(len(test)))
    }


def test_pictures_may_lie_deeper_and_be_called_anything(tmp_path: Path) -> None:
    for name in ("狐狸", "ёж", "a b", "<img src=x onerror=alert(1)>", "=1+1"):
        for number in range(2):
            pictures.draw(tmp_path / name / "deeper" / f"{name}{number}.PNG", (9, 90, 200), seed=number)
    found = own.listing(f"folder:{tmp_path}")
    assert found.classes == tuple(sorted(("狐狸", "ёж", "a b", "<img src=x onerror=alert(1)>", "=1+1")))
    assert len(found.parts["train"]) == 10


def test_what_is_no_picture_is_passed_over_and_counted(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path / "set", {"": THREE})
    for name in ("red/notes.txt", "red/more.TXT", "red/README", "red/.hidden.png", "red/Thumbs.db", "red/photo.tif"):
        (root / name).write_text("no picture")
    pictures.draw(root / "loose.png", (1, 2, 3), seed=0)
    outside = pictures.draw(tmp_path / "elsewhere.png", (1, 2, 3), seed=1)
    (root / "red" / "link.png").symlink_to(outside)
    (root / "red" / "inside.png").symlink_to(root / "red" / "000.png")
    (root / "red" / "loop").symlink_to(root / "red")
    found = own.listing(f"folder:{root}")
    assert len(found.parts["train"]) == 28
    assert found.skipped == {
        ".txt": 2,
        ".tif": 1,
        "without an ending": 1,
        "pictures outside of any class": 1,
        "links that lead out of the folder": 2,
    }
    assert "2 .txt" in " ".join(own.remarks(found))


def test_a_class_that_is_missing_from_a_part_is_said(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path, {"train": THREE, "test": {"red": 2}})
    (line,) = own.remarks(own.listing(f"folder:{root}"))
    assert line == "2 of 3 classes have no picture in test: blue, green"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "no picture to train on"),
        ({"": {"red": 3}}, "one class, red"),
        ({"test": THREE}, "test and no train"),
        ({"test": THREE, "val": THREE}, "val and test and no train"),
        ({"train": THREE, "training": THREE}, "one folder for train"),
        ({"train": THREE, "test": {"greem": 3}}, "Did you mean 'green'"),
    ],
)
def test_a_folder_that_is_no_data_set(tmp_path: Path, parts: dict[str, dict[str, int]], message: str) -> None:
    root = pictures.folder(tmp_path / "set", parts)
    root.mkdir(exist_ok=True)
    with pytest.raises(DataError, match=message):
        load(f"folder:{root}")


@pytest.mark.parametrize("name", ["folder:/nowhere/at/all", "csv:/nowhere.csv", "parquet:/nowhere", "folder:\0"])
def test_nothing_there(name: str) -> None:
    with pytest.raises(DataError, match=r"found|no such|embedded"):
        load(name)


@pytest.mark.parametrize("name", ["folder:", "folder: ", "zip:x", "folder"])
def test_no_such_source(name: str) -> None:
    with pytest.raises(RecipeError):
        own.listing(name)


def test_a_broken_picture_is_named_and_counted(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path, {"": THREE})
    for number in range(3):
        (root / "red" / f"broken{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(number))
    with pytest.raises(DataError, match=r"broken0.png: found bytes that do not decode.*3 pictures are.*doctor"):
        load(f"folder:{root}")


def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path, {"": THREE})
    os.mkfifo(root / "red" / "pipe.png")
    with pytest.raises(DataError, match=r"pipe.png: found no regular file"):
        load(f"folder:{root}")


def test_data_root_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures.folder(tmp_path / "root" / "mine", {"": {"red": 3, "blue": 3}})
    pictures.folder(tmp_path / "here" / "mine", {"": {"green": 4, "grey": 4}})
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("BAKEOFF_DATA", raising=False)
    assert own.listing("folder:mine").classes == ("green", "grey")
    monkeypatch.setenv("BAKEOFF_DATA", str(tmp_path / "root"))
    assert own.listing("folder:mine").classes == ("blue", "red")


def test_a_second_look_decodes_nothing_and_a_change_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pictures.folder(tmp_path, {"train": THREE, "test": {"red": 1}})
    first = load(f"folder:{root}")
    told: list[tuple[int, int]] = []
    again = own.load(f"folder:{root}", part="train", size=16, fit="squash", tell=lambda *at: told.append(at))
    assert told == []
    assert again.fingerprint == first.fingerprint
    pictures.draw(root / "train" / "red" / "000.png", (0, 0, 0), seed=77)
    changed = own.load(f"folder:{root}", part="train", size=16, fit="squash", tell=lambda *at: told.append(at))
    assert told[-1] == (27, 27)
    assert changed.fingerprint != first.fingerprint


def test_size_and_fit_are_entries_of_their_own(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path, {"": THREE})
    shapes = {load(f"folder:{root}", size=size, fit=fit).shape for size in (16, 24) for fit in ("squash", "pad")}
    assert shapes == {(3, 16, 16), (3, 24, 24)}
    assert load(f"folder:{root}", fit="pad").fingerprint != load(f"folder:{root}", fit="squash").fingerprint


def test_mean_and_deviation_are_those_of_the_training_pixels(tmp_path: Path) -> None:
    for parts in ({"": THREE}, {"train": THREE, "test": {"red": 5}}):
        root = pictures.folder(tmp_path / str(len(parts)), parts)
        train = load(f"folder:{root}")
        pixels = train.pixels(np.arange(len(train))).reshape(-1, 3) / 255
        assert train.mean == pytest.approx(pixels.mean(axis=0).tolist(), abs=1e-4)
        assert train.std == pytest.approx(pixels.std(axis=0).tolist(), abs=1e-4)


def test_large_sets_are_decoded_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pictures.folder(tmp_path, {"": THREE})
    wanted = load(f"folder:{root}").fingerprint
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))  # an empty one
    monkeypatch.setattr(own, "IN_MEMORY_BYTES", 0)
    assert load(f"folder:{root}").fingerprint == wanted


def write_csv(path: Path, rows: Iterable[Iterable[str]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return f"csv:{path}"


def test_a_csv_is_the_folder_it_lists(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path, {"train": THREE, "test": {"red": 2, "blue": 3}})
    paths = sorted(path.relative_to(root) for path in root.rglob("*.png"))
    rows = [[str(path), path.parts[1], path.parts[0]] for path in paths]
    name = write_csv(tmp_path / "set.csv", [["Path", "LABEL", "split"], *rows])
    for part in ("train", "test"):
        here, there = load(name, part), load(f"folder:{root}", part)
        assert here.classes == there.classes
        assert here.fingerprint == load(f"folder:{root}", part).fingerprint


def test_a_group_stays_on_one_side(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path, {"": {"red": 30, "blue": 30}})
    paths = sorted(path.relative_to(root) for path in root.rglob("*.png"))
    rows = [[str(path), path.parts[0], f"{path.parts[0]}{int(path.stem) // 5}"] for path in paths]
    name = write_csv(tmp_path / "set.csv", [["path", "label", "group"], *rows])
    train, test = load(name), load(name, "test")
    assert train.groups is not None
    assert test.groups is not None
    assert len(test) in (10, 15)
    assert not set(train.groups.tolist()) & set(test.groups.tolist())
    assert set(np.unique(train.groups, return_counts=True)[1].tolist()) == {5}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["file", "label"], ["a.png", "x"]], "no column 'path'"),
        ([["path", "labels"], ["a.png", "x"]], "Did you mean 'labels'"),
        ([["path", "label"], ["a.png", ""]], "line 2: found no label"),
        ([["path", "label"], ["", "x"]], "line 2: found no path"),
        ([["path", "label", "split"], ["a.png", "x", "tst"]], "split 'tst'"),
        ([["path", "label"], ["a.png", "x"], ["b.png", "y"]], "a.png: found 'No such file or directory'"),
        ([], "no column 'path'"),
    ],
)
def test_a_csv_that_is_none(tmp_path: Path, rows: list[list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write_csv(tmp_path / "set.csv", rows))


def test_a_binary_csv(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match=r"set.csv"):
        load(f"csv:{tmp_path / 'set.csv'}")


def png(colour: tuple[int, int, int], seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(-30, 31, (16, 20, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def hub_folder(root: Path, splits: dict[str, dict[str, int]], *, image: str = "image", label: str = "label") -> Path:
    """Write Parquet files as the datasets library does."""
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Picture

    names = ["red", "grey", "blue"]  # in an order that is not the alphabet's
    features = Features({image: Picture(), label: ClassLabel(names=names)})
    root.mkdir(parents=True, exist_ok=True)
    for split, classes in splits.items():
        drawn = [(name, number) for name, num in classes.items() for number in range(num)]
        rows = [(names.index(name), png(pictures.COLOURS[name], number)) for name, number in drawn]
        columns = {image: [{"bytes": content, "path": None} for _, content in rows], label: [n for n, _ in rows]}
        Dataset.from_dict(columns, features=features).to_parquet(root / f"{split}-00000-of-00001.parquet")
    return root


@pytest.mark.parametrize("source", ["parquet", "hf"])
def test_tables(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's reader is given a folder, which it takes as it takes a data set of the hub, without a network."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    splits = {"train": {"red": 8, "blue": 6, "grey": 5}, "validation": {"red": 2, "blue": 2}, "test": {"grey": 3}}
    root = hub_folder(tmp_path / "set", splits)
    train, test = load(f"{source}:{root}"), load(f"{source}:{root}", "test")
    assert train.classes == ("red", "grey", "blue")
    assert (len(train), len(test)) == (23, 3)
    assert train.reserved is not None
    assert len(train.reserved) == 4
    assert labels_of(train) == colour_of(train)
    assert labels_of(test) == colour_of(test)


def test_columns_are_found_or_given(tmp_path: Path) -> None:
    root = hub_folder(tmp_path / "odd", {"train": {"red": 5, "blue": 5}}, image="photo", label="kind")
    with pytest.raises(DataError, match=r"data.label_column"):
        load(f"parquet:{root}")
    assert len(load(f"parquet:{root}", label="kind", image="photo")) == 8
    with pytest.raises(DataError, match=r"found 'pic'"):
        load(f"parquet:{root}", label="kind", image="pic")


@pytest.mark.parametrize("labels", [["10", "9", "1"], [10, 9, 1]])
def test_a_parquet_of_plain_columns(tmp_path: Path, labels: list[Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [(labels[i % 3], png(list(pictures.COLOURS.values())[i % 3], i)) for i in range(12)]
    pq.write_table(pa.table({"data": [c for _, c in rows], "label": [n for n, _ in rows]}), tmp_path / "all.parquet")
    train = load(f"parquet:{tmp_path / 'all.parquet'}")
    assert train.classes == ("1", "9", "10")
    assert len(train) + len(load(f"parquet:{tmp_path / 'all.parquet'}", "test")) == 12


def test_a_path_in_a_table_is_not_followed(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    there = pictures.draw(tmp_path / "there.png", (1, 2, 3), seed=0)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = pa.array([{"bytes": None, "path": str(there)}] * 4, type=kind)
    pq.write_table(pa.table({"image": column, "label": ["a", "b", "a", "b"]}), tmp_path / "all.parquet")
    with pytest.raises(DataError, match=r"at most a path, which is not followed"):
        load(f"parquet:{tmp_path / 'all.parquet'}")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"no table"])
def test_a_damaged_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "all.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"all.parquet: found damage"):
        load(f"parquet:{tmp_path / 'all.parquet'}")


def test_the_real_traffic_signs(bakeoff_data: Path) -> None:
    if not (bakeoff_data / "traffic_signs").is_dir():
        pytest.skip("needs traffic_signs/ in BAKEOFF_DATA")
    found = own.listing("folder:traffic_signs")
    assert {part: len(listed) for part, listed in found.parts.items()} == {"train": 1923, "test": 475}
    assert len(found.classes) == 58
    assert len(listing.missing(found)["test"]) == 8
    train = load("folder:traffic_signs", size=8)
    assert train.shape == (3, 8, 8)


# What two looks at the same words may not mix up


def test_two_folders_of_one_name_are_two_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal names, sizes and times of content, as archives restore them."""
    monkeypatch.delenv("BAKEOFF_DATA", raising=False)
    found = []
    for place, shade in (("a", 10), ("b", 200)):
        for name in ("x", "y"):
            for number in range(5):
                path = tmp_path / place / "pics" / name / f"{number}.bmp"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (9, 9), (shade, number, 0)).save(path)
                os.utime(path, (0, 0))
        monkeypatch.chdir(tmp_path / place)
        found.append(load("folder:pics"))
    assert [int(images.images[0, 0, 0, 0]) for images in found] == [10, 200]


def test_a_file_that_was_replaced_with_its_time_kept_is_another(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path, {"": {"red": 5, "blue": 5}})
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        path.unlink()
        Image.new("RGB", (9, 9), (number, 1, 1)).save(path.with_suffix(".bmp"))
    before = load(f"folder:{root}").fingerprint
    path = root / "red" / "001.bmp"
    about = path.stat()
    Image.new("RGB", (9, 9), (99, 2, 2)).save(path)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert path.stat().st_size == about.st_size
    assert load(f"folder:{root}").fingerprint != before


def test_every_file_of_a_table_counts(tmp_path: Path) -> None:
    root = hub_folder(tmp_path / "set", {"train": {"red": 5, "blue": 5}, "test": {"red": 1}})
    second = hub_folder(tmp_path / "other", {"train": {"grey": 4}}) / "train-00000-of-00001.parquet"
    shutil.copy(second, root / "train-00001.parquet")
    before = load(f"parquet:{root}").fingerprint
    changed = hub_folder(tmp_path / "more", {"train": {"red": 4}}) / "train-00000-of-00001.parquet"
    shutil.copy(changed, root / "train-00001.parquet")
    assert load(f"parquet:{root}").fingerprint != before
    rows = own.listing(f"parquet:{root}").parts["train"].paths
    assert str(rows[-1]).endswith("train-00001.parquet:3")


def test_a_table_is_read_a_piece_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing touches no picture, and decoding holds one row group: other orders give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = [png((5 * i, 90, 160), i) for i in range(24)]
    table = pa.table({"image": content, "label": ["a", "b"] * 12})
    for number in range(2):
        pq.write_table(table.slice(number * 12, 12), tmp_path / f"train-{number}.parquet", row_group_size=5)
    groups: list[tuple[int, ...]] = []
    read = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda *a, **k: groups.append(a[1:]) or read(*a, **k))
    train = own.listing(f"parquet:{tmp_path}").parts["train"]
    assert not groups
    assert [train.read(row) for row in range(24)] == content
    assert groups == [(0,), (1,), (2,), (0,), (1,), (2,)]
    assert [train.read(row) for row in range(23, -1, -1)] == content[::-1]


def test_other_pictures_need_no_train_part_and_no_second_class(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path, {"test": {"red": 3}})
    images, part = data.load_unseen(f"folder:{root}", size=16)
    assert (len(images), images.classes, part) == (3, ("red",), "test")
    images, part = data.load_unseen(f"folder:{root / 'test'}", size=16)
    assert (len(images), images.classes, part) == (3, ("red",), "all pictures")


def test_another_decoder_is_no_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, fit and classes identify pictures, and not what a library makes of them."""
    root = pictures.folder(tmp_path / "set", {"": THREE})
    before = [load(f"folder:{root}", size=size).fingerprint for size in (16, 20)]
    assert before[0] != before[1]
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    plain = own.decode.picture

    def brighter(*given: Any, **options: Any) -> Any:
        found = plain(*given, **options)
        return dataclasses.replace(found, pixels=found.pixels | 1)

    monkeypatch.setattr(own.decode, "picture", brighter)
    assert [load(f"folder:{root}", size=size).fingerprint for size in (16, 20)] == before
    shutil.copy(root / "red" / "000.png", root / "red" / "001.png")
    assert load(f"folder:{root}").fingerprint != before[0]


def test_the_column_of_pictures_counts(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: [png(colour, i) for i in range(12)] for name, colour in pictures.COLOURS.items()}
    pq.write_table(pa.table({**columns, "label": ["a", "b", "c"] * 4}), tmp_path / "all.parquet")
    found = [load(f"parquet:{tmp_path / 'all.parquet'}", image=name) for name in columns]
    assert [set(colour_of(images)) for images in found] == [{name} for name in columns]


def test_parts_may_stand_in_folders(tmp_path: Path) -> None:
    for part, num in (("train", 6), ("test", 3)):
        made = hub_folder(tmp_path / "made" / part, {"x": {"red": num, "blue": num}})
        (tmp_path / "set" / "default" / part).mkdir(parents=True)
        shutil.copy(made / "x-00000-of-00001.parquet", tmp_path / "set" / "default" / part / "0000.parquet")
    parts = own.listing(f"parquet:{tmp_path / 'set'}").parts
    assert {part: len(listed) for part, listed in parts.items()} == {"train": 12, "test": 6}


def test_a_made_test_part_has_nothing_of_validation(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path, {"train": {"red": 30, "blue": 30}})
    for path in sorted((root / "train").rglob("*.png"))[::2]:
        copy = root / "val" / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    train, test = load(f"folder:{root}"), load(f"folder:{root}", "test")
    assert len(test) > 0
    assert train.groups is not None
    assert test.groups is not None
    assert not set(train.groups.tolist()) & set(test.groups.tolist())


def test_the_made_test_part_does_not_depend_on_size_or_fit(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path, {"": {"red": 20, "blue": 20}})
    plain = Image.new("RGB", (20, 16), (100, 100, 100))
    for number, shade in enumerate((100, 101)):  # alike in small, but not one file
        plain.putpixel((0, 0), (shade, 0, 0))
        plain.save(root / "red" / f"plain{number}.png")
    names = []
    for size in (8, 16, 20):
        test = load(f"folder:{root}", "test", size=size)
        assert test.rows is not None
        names.append(test.rows.tolist())
    assert names[0] == names[1] == names[2]


@pytest.mark.parametrize("limit", [4, 10, 30])
def test_a_limit_leaves_validation_whole(tmp_path: Path, limit: int) -> None:
    from bakeoff.launch.workshop import num_images
    from bakeoff.recipe import resolve
    from bakeoff.training import assembly

    root = pictures.folder(tmp_path, {"train": {"red": 20, "blue": 20}, "val": {"red": 50, "blue": 50}})
    settings = [f"data=folder:{root}", f"data.limit={limit}", "batch_size=4", "protocol=dev"]
    recipe = resolve("resnet_20", overrides=settings)
    share = assembly.load(recipe)
    assert share.val is not None
    assert (len(share.train), len(share.val)) == (limit, 100)
    assert set(share.train.labels.tolist()) == {0, 1}
    assert num_images(recipe)[:2] == (limit, 100)


@pytest.mark.parametrize("name", ["x # y", "a: b", "trail ", "[red]", "null", "1e3", "{}", "'q"])
def test_a_folder_may_be_called_anything_on_the_command_line(name: str, tmp_path: Path) -> None:
    from bakeoff.recipe import resolve

    pictures.folder(tmp_path / name, {"": {"red": 3, "blue": 3}})
    for key in ("data", "data.name", "dataset"):
        recipe = resolve("resnet_20", overrides=[f"{key}=folder:{tmp_path}/{name}"])
        assert recipe.data.name == f"folder:{tmp_path}/{name}"
    assert len(own.listing(recipe.data.name).parts["train"]) == 6


def test_a_class_that_no_text_can_name(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path, {"": {"red": 3, "blue": 3}})
    os.rename(os.fsencode(root / "red"), os.fsencode(root) + b"/r\xe9d")
    with pytest.raises(DataError, match=r"names in UTF-8"):
        own.listing(f"folder:{root}")


def test_letters_that_are_composed_otherwise_are_the_same(tmp_path: Path) -> None:
    for part, form in (("train", "NFC"), ("test", "NFD")):
        for name in ("café", "thé"):
            pictures.draw(tmp_path / part / unicodedata.normalize(form, name) / "a.png", (9, 9, 9), seed=len(part))
    assert own.listing(f"folder:{tmp_path}").classes == ("café", "thé")


def test_pictures_beside_the_parts_are_counted(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path, {"train": THREE, "dev": {"red": 4}})
    assert own.listing(f"folder:{root}").skipped == {"pictures in dev/": 4}


def test_a_csv_that_waits_forever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "set.csv")
    with pytest.raises(DataError, match=r"no regular file"):
        load(f"csv:{tmp_path / 'set.csv'}")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["path", "label"], ["a", "b.png", "x"]], r"line 2: found more cells"),
        ([["path", "label", "label"], ["a.png", "x", "y"]], r"several columns 'label'"),
    ],
)
def test_a_csv_of_a_sloppy_hand(tmp_path: Path, rows: list[list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write_csv(tmp_path / "set.csv", rows))


def test_a_file_in_two_parts_is_told(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path, {"": {"red": 3, "blue": 3}})
    rows = [
        [f"{name}/00{i}.png", name, part] for name in ("red", "blue") for i in range(3) for part in ("train", "test")
    ]
    name = write_csv(root / "set.csv", [["path", "label", "split"], *rows])
    (line,) = own.remarks(own.listing(name))
    assert line.startswith("6 files of test are in another part as well")


def test_here_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures.folder(tmp_path / "root" / "mine", {"": {"red": 3, "blue": 3}})
    pictures.folder(tmp_path / "here" / "mine", {"": {"green": 4, "grey": 4}})
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("BAKEOFF_DATA", str(tmp_path / "root"))
    assert own.listing("folder:./mine").classes == ("green", "grey")
