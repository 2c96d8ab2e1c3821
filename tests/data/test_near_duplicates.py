"""The list of near duplicates in CIFAR's test parts, and when it may be used."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from bakeoff import data
from bakeoff.data import near_duplicates


@pytest.mark.parametrize(("name", "num"), [("cifar10", 308), ("cifar100", 927), ("digits", 0)])
def test_the_list_is_that_of_the_paper(name: str, num: int) -> None:
    """891 and 286 test pictures are nearly in train; of 104 and 39 pairs in test, one picture of each is listed."""
    listed = near_duplicates.listed(name)
    assert len(listed) == num
    assert np.array_equal(listed, np.unique(listed))
    assert ((listed >= 0) & (listed < 10_000)).all()


def test_rows_in_the_authors_order_are_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(10_000, dtype=np.int64) % 100
    assert near_duplicates.rows("cifar100", labels) is None
    digest = hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()
    monkeypatch.setitem(near_duplicates.ORDERS, "cifar100", digest)
    rows = near_duplicates.rows("cifar100", labels)
    assert rows is not None
    assert len(rows) == 10_000 - 927
    assert not np.isin(rows, near_duplicates.listed("cifar100")).any()
    assert near_duplicates.rows("cifar100", labels[::-1].copy()) is None
    assert near_duplicates.rows("digits", labels) is None


def test_an_order_of_its_own_is_recognised(bakeoff_data: Path) -> None:
    """The first labels tell the authors' order, in which the list counts; other files have other orders."""
    labels = data.load("cifar100", part="test").labels
    is_authors = labels[:10].tolist() == [49, 33, 72, 51, 71, 92, 15, 14, 23, 0]
    assert near_duplicates.is_numbered("cifar100", labels) == is_authors
