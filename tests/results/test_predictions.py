import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakeoff.errors import DataError, StorageError, VerificationFailed
from bakeoff.results.predictions import Predictions, read, verify, write


def make(n: int = 40, *, num_classes: int = 7, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(
        index=np.arange(n),
        label=rng.integers(num_classes, size=n),
        logits=rng.normal(size=(n, num_classes)).astype(np.float32),
        classes=tuple(f"class {c} 限速 \udcff" for c in range(num_classes)),
        superclass_of=tuple(c % 3 for c in range(num_classes)),
        superclasses=("a", "b", "c"),
        split="val",
        recipe_digest="0123abcd",
    )


def permuted(predictions: Predictions, order: np.ndarray) -> Predictions:
    return replace(
        predictions,
        index=predictions.index[order],
        label=predictions.label[order],
        logits=predictions.logits[order],
    )


def assert_equal(one: Predictions, other: Predictions) -> None:
    for name in ("index", "label", "logits"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours.view(f"i{ours.itemsize}"), theirs.view(f"i{theirs.itemsize}"))
    for name in ("classes", "superclass_of", "superclasses", "split", "recipe_digest"):
        assert getattr(one, name) == getattr(other, name)


@given(n=st.integers(0, 20), num_classes=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, n: int, num_classes: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("predictions") / "val.parquet"
    predictions = make(n, num_classes=num_classes, seed=seed)
    write(predictions, path)
    assert_equal(read(path), predictions)


def test_numbers_that_are_none_are_kept_too(tmp_path: Path) -> None:
    predictions = make(4)
    predictions.logits[0, :3] = [np.nan, -np.inf, -0.0]
    write(predictions, tmp_path / "val.parquet")
    assert_equal(read(tmp_path / "val.parquet"), predictions)


def test_the_same_content_in_any_order_gives_the_same_bytes(tmp_path: Path) -> None:
    predictions = make()
    write(predictions, tmp_path / "one")
    write(permuted(predictions, np.random.default_rng(1).permutation(40)), tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    write(replace(predictions, recipe_digest="another"), tmp_path / "other")
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


def test_anybody_can_read_the_columns(tmp_path: Path) -> None:
    predictions = make()
    write(predictions, tmp_path / "val.parquet")
    table = pq.read_table(tmp_path / "val.parquet")
    assert table.schema.field("index").type == pa.int64()
    assert table.schema.field("label").type == pa.int64()
    assert table.schema.field("logits").type == pa.list_(pa.float32(), 7)
    np.testing.assert_array_equal(np.array(table["logits"].to_pylist(), dtype="f4"), predictions.logits)


def test_every_flipped_bit_is_noticed_or_harmless(tmp_path: Path) -> None:
    predictions, path = make(12), tmp_path / "val.parquet"
    write(predictions, path)
    whole, rng, noticed = path.read_bytes(), np.random.default_rng(0), 0
    for position in rng.choice(len(whole), size=400, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            assert_equal(read(path), predictions)
        except DataError as error:
            assert str(path) in str(error)
            noticed += 1
    assert noticed > 200


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_torn_file_is_named(tmp_path: Path, share: float) -> None:
    path = tmp_path / "val.parquet"
    write(make(), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match=r"val\.parquet.*damaged"):
        read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test\.parquet: found no such file"):
        read(tmp_path / "test.parquet")


def test_a_table_of_somebody_else_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"index": [1], "label": [2], "logits": [[0.5]]}), tmp_path / "foreign.parquet")
    with pytest.raises(DataError, match="not ours"):
        read(tmp_path / "foreign.parquet")


def test_a_full_disk_is_named_with_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match=r"val\.parquet: found 'No space left on device' when writing [\d,]+ b"):
        write(make(), tmp_path / "val.parquet")


@pytest.mark.parametrize(
    "wrong",
    [
        {"label": np.full(40, 7)},
        {"label": np.full(40, -1)},
        {"label": np.zeros(39, dtype=int)},
        {"index": np.zeros((40, 1), dtype=int)},
        {"logits": np.zeros((40, 6), dtype="f4")},
        {"superclass_of": (0,)},
        {"superclass_of": ()},
        {"superclasses": ("a", "b")},
        {"superclasses": ()},
    ],
)
def test_parts_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        replace(make(), **wrong)  # type: ignore[arg-type]


def test_a_complete_evaluation_in_any_order_passes() -> None:
    verify(permuted(make(), np.random.default_rng(0).permutation(40)), 40)


@pytest.mark.parametrize(
    ("index", "num_images", "message"),
    [
        ([0, 1, 2], 5, "2 images missing, 0 doubled, 0 rows"),
        ([0, 1, 2, 2, 0, 0], 3, "0 images missing, 2 doubled, 0 rows"),
        ([0, 1, 1], 3, "1 images missing, 1 doubled, 0 rows"),
        ([0, 1, 3, -1], 2, "0 images missing, 0 doubled, 2 rows"),
        ([], 1, "1 images missing"),
    ],
)
def test_an_incomplete_evaluation_says_how_many(index: list[int], num_images: int, message: str) -> None:
    predictions = replace(make(len(index)), index=np.array(index, dtype=np.int64))
    with pytest.raises(VerificationFailed, match=message) as caught:
        verify(predictions, num_images)
    assert caught.value.exit_code == 8
