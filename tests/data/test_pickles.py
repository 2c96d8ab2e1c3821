"""The published pickles: read as Python 2 wrote them, refused when they are anything else."""

import hashlib
import io
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bakeoff.data import load
from bakeoff.data.sources import cifar
from bakeoff.errors import DataError
from tests.data.cifar_files import NAMES, pictures


class Python2(pickle._Pickler):
    """Write what Python 2 wrote: every string as BINSTRING, and numpy's functions under their old names."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, text: str | bytes) -> None:
        content = text.encode("latin1") if isinstance(text, str) else text
        self.write(b"T" + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


def as_python2(content: object) -> bytes:
    Python2(buffer := io.BytesIO(), protocol=2).dump(content)
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def batch(pixels: np.ndarray, labels: list[int]) -> dict[str, object]:
    return {"data": pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1).copy(), "labels": labels, "filenames": ["é"]}


def put(folder: Path, contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Write CIFAR-10's files and declare them the published ones."""
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    meta = {"batches.meta": md5.pop("batches.meta")}
    test = {"test_batch": "0" * 32}
    monkeypatch.setattr(cifar, "CIFAR10", replace(cifar.CIFAR10, md5={"train": md5, "test": test}, meta_md5=meta))


META = as_python2({"label_names": list(NAMES), "num_vis": 3072})


@pytest.mark.parametrize("root", ["data", "home/data", "work/data"])
def test_the_folder_of_torchvision_is_found_and_read(home: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "work").mkdir()
    monkeypatch.chdir(home / "work")
    pixels = pictures(6)
    contents = {
        "data_batch_1": as_python2(batch(pixels[:4], [3, 1, 4, 1])),
        "data_batch_2": as_python2(batch(pixels[4:], [5, 9])),
        "batches.meta": META,
    }
    put(home / root / "cifar-10-batches-py", contents, monkeypatch)
    found = load("cifar10", part="train")
    assert np.array_equal(found.images, pixels.transpose(0, 3, 1, 2))
    assert found.labels.tolist() == [3, 1, 4, 1, 5, 9]
    assert found.classes == NAMES


def test_the_hashes_are_those_of_torchvision() -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    for ours, theirs in ((cifar.CIFAR10, datasets.CIFAR10), (cifar.CIFAR100, datasets.CIFAR100)):
        assert ours.folder == theirs.base_folder
        assert list(ours.md5["train"].items()) == [tuple(pair) for pair in theirs.train_list]
        assert list(ours.md5["test"].items()) == [tuple(pair) for pair in theirs.test_list]
        assert ours.meta_md5 == {theirs.meta["filename"]: theirs.meta["md5"]}


def test_another_file_than_the_published_one_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / "data/cifar-10-batches-py"
    put(folder, {"data_batch_1": as_python2(batch(pictures(1), [0])), "batches.meta": META}, monkeypatch)
    content = bytearray((folder / "data_batch_1").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "data_batch_1").write_bytes(content)
    with pytest.raises(DataError, match="data_batch_1: found MD5"):
        load("cifar10", part="train")
    (folder / "data_batch_1").unlink()
    with pytest.raises(DataError, match="data_batch_1: found"):
        load("cifar10", part="train")


class Attack:
    """Run a command when unpickled, were it not refused."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize(
    "attack",
    [
        Attack(os.system, "touch attacked"),
        Attack(eval, "open('attacked', 'w')"),
        Attack(getattr, "attacked", "encode"),
        Attack(np.lib.format.open_memmap, "attacked", "w+"),
        Attack(np.dtype, "O"),
        np.array([Attack(os.mkdir, "attacked")], dtype=object),
        np.zeros(3, dtype=[("a", "u1"), ("b", "O")]),
        np.zeros(3),
    ],
    ids=["system", "eval", "getattr", "memmap", "dtype", "objects", "record", "floats"],
)
def test_a_pickle_that_would_do_more_is_refused_even_with_the_right_hash(
    home: Path, attack: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = as_python2({**batch(pictures(1), [0]), "extra": attack})
    put(home / "data/cifar-10-batches-py", {"data_batch_1": content, "batches.meta": META}, monkeypatch)
    with pytest.raises(DataError, match="asks for"):
        load("cifar10", part="train")
    assert not (home / "attacked").exists()


@pytest.mark.parametrize("content", [b"", b"noise", as_python2([1, 2]), META[:-9]])
def test_a_pickle_of_something_else_is_refused(home: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home / "data/cifar-10-batches-py", {"data_batch_1": content, "batches.meta": META}, monkeypatch)
    with pytest.raises(DataError, match="data_batch_1"):
        load("cifar10", part="train")
