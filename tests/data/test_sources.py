"""Sources: the real CIFAR-100, the digits, and the hub that is asked last."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bakeoff.data import SOURCES, load
from bakeoff.data.sources import digits
from bakeoff.errors import RecipeError, StorageError
from tests.data.cifar_files import NAMES, write_cifar10


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'cifar100'"):
        load("cifar_100", part="train")
    with pytest.raises(RecipeError, match="train or test"):
        load("digits", part="val")  # type: ignore[arg-type]
    assert list(SOURCES) == ["cifar10", "cifar100", "digits"]


def test_loading_needs_no_torch() -> None:
    program = "import sys; from bakeoff.data import load; load('digits', part='test'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("part", "each"), [("train", 500), ("test", 100)])
def test_cifar100_has_its_published_counts(bakeoff_data: Path, part: str, each: int) -> None:
    found = load("cifar100", part=part)  # type: ignore[arg-type]
    assert found.images.shape == (100 * each, 3, 32, 32)
    assert (np.bincount(found.labels) == each).all()
    assert len(found.classes) == len(set(found.classes)) == 100
    assert len(found.superclasses) == 20
    assert (np.bincount(found.superclass_of) == 5).all()
    # table 1 on the authors' page
    members = {name for name, group in zip(found.classes, found.superclass_of, strict=True) if group == 1}
    assert found.superclasses[1] == "fish"
    assert members == {"aquarium_fish", "flatfish", "ray", "shark", "trout"}


def test_cifar100_pixels_are_those_that_pillow_decodes(bakeoff_data: Path) -> None:
    found = load("cifar100", part="test")
    (file,) = (bakeoff_data / "cifar100").glob("test-*.parquet")
    rows = pq.read_table(file)
    for row in range(0, len(found), 97):
        record = rows.slice(row, 1).to_pylist()[0]
        direct = np.asarray(Image.open(io.BytesIO(record["img"]["bytes"])).convert("RGB"))
        assert np.array_equal(found.images[row], direct.transpose(2, 0, 1))
        assert found.labels[row] == record["fine_label"]
        assert found.superclass_of[found.labels[row]] == record["coarse_label"]


def test_cifar100_constants_are_those_of_all_training_pixels(bakeoff_data: Path) -> None:
    found = load("cifar100", part="train")
    counts = np.stack([np.bincount(found.images[:, channel].ravel(), minlength=256) for channel in range(3)])
    values, share = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    std = np.sqrt(share @ values**2 - mean**2)
    assert np.abs(mean - found.mean).max() < 6e-5
    assert np.abs(std - found.std).max() < 6e-5


def test_digits_are_split_by_class_and_scaled_to_bytes() -> None:
    from sklearn.datasets import load_digits

    train, test = load("digits", part="train"), load("digits", part="test")
    assert (train.images.shape, test.images.shape) == ((1438, 1, 8, 8), (359, 1, 8, 8))
    assert np.abs(np.bincount(test.labels) - 0.2 * np.bincount(load_digits().target)).max() < 1
    assert train.images.dtype == np.uint8
    assert set(np.unique(train.images)) == {round(value * 255 / 16) for value in range(17)}
    both = np.concatenate([train.images, test.images]).reshape(1797, 64)
    published = np.rint(load_digits().data * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, both)) == sorted(map(bytes, published))
    assert (train.images.mean() / 255, train.images.std() / 255) == pytest.approx(
        (digits.MEAN[0], digits.STD[0]), abs=6e-5
    )
    assert train.fingerprint != test.fingerprint
    assert train.fingerprint.startswith("508c1b8b4d5470aa")  # the same split for ever


def test_offline_there_is_one_message_with_the_three_ways(tmp_path: Path) -> None:
    program = "from bakeoff.data import load\nload('cifar100', part='train')"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "BAKEOFF"))}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    environment |= {name: str(tmp_path / name) for name in ("HOME", "HF_HOME", "BAKEOFF_CACHE", "BAKEOFF_DATA")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("bakeoff.errors.DataError: cifar100 (train): found nothing in BAKEOFF_DATA=")
    for way in ("train-*.parquet in $BAKEOFF_DATA/cifar100/", "cifar-100-python/", "uoft-cs/cifar100", "HF_ENDPOINT"):
        assert way in message
    assert not (tmp_path / "BAKEOFF_CACHE").exists()


def test_the_hub_is_asked_last_and_its_files_are_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    from bakeoff.data import places

    pixels = write_cifar10(home / "elsewhere")
    pieces = sorted(str(path) for path in (home / "elsewhere").glob("train-*"))
    prepared = datasets.Dataset.from_parquet(pieces, cache_dir=str(home / "hf"))
    asked = []

    def load_dataset(repository: str, *, split: str, keep_in_memory: bool) -> datasets.Dataset:
        asked.append((repository, split))
        return prepared

    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("BAKEOFF_CACHE", str(home / "cache"))
    monkeypatch.delenv("BAKEOFF_DATA", raising=False)
    monkeypatch.chdir(home)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = load("cifar10", part="train")
    assert asked == [("uoft-cs/cifar10", "train")]
    assert np.array_equal(found.images, pixels.transpose(0, 3, 1, 2))
    assert found.classes == NAMES
    assert all(file.suffix == ".arrow" for file in places.hub("uoft-cs/cifar10", "train"))


def test_a_full_disk_behind_the_hub_is_a_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    from bakeoff.data import places

    def load_dataset(*_: object, **__: object) -> None:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise RuntimeError("an error while generating the data set") from error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(StorageError, match="HF_HOME"):
        places.hub("uoft-cs/cifar10", "train")
