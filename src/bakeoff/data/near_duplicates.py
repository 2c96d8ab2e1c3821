"""CIFAR's test pictures without those that are nearly in train, or twice in test: a second accuracy beside the usual.

People looked at the nearest neighbours of each test picture in the features of a trained network, and judged each pair
by eye. Their list numbers pictures in the order of the data set's authors, which is recognised here by its labels.

Source: Barz and Denzler, "Do We Train on Test Data? Purging CIFAR of Near-Duplicates", 2020; their lists of 2021.
https://github.com/cvjena/cifair
"""

import csv
import hashlib

import numpy as np

from bakeoff import library
from bakeoff.data.images import Indices

ORDERS = {  # sha256 of the 10,000 test labels, as little-endian int64, in the authors' order
    "cifar10": "cbb7365de8ed11f05cc4c3a1e7f78144127c5e851efd83762fb18202461230bb",
    "cifar100": "80031c23f8300724c6fbc588e4bccbe41c6392041782148727bb497b0132c4ad",
}


def listed(name: str) -> Indices:
    """Return the numbers of test pictures on the published list, int64 [m], sorted; none where there is no list."""
    with library.near_duplicates().open(newline="", encoding="utf-8") as file:
        found = [int(row["index"]) for row in csv.DictReader(file) if row["dataset"] == name]
    return np.array(sorted(found), dtype=np.int64)


def is_numbered(name: str, labels: Indices) -> bool:
    """Tell whether the test pictures with these labels [n] stand in the order that the list counts in."""
    return hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest() == ORDERS.get(name)


def rows(name: str, labels: Indices) -> Indices | None:
    """Return which test pictures are on no list, int64 [m], sorted; None where that cannot be told.

    Args:
        name: of a published set.
        labels: int64 [n], of its test part.
    """
    if not is_numbered(name, labels):
        return None
    return np.setdiff1d(np.arange(len(labels)), listed(name)).astype(np.int64)
