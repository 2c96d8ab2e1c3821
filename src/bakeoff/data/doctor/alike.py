"""Which pictures are copies of each other: candidates by a hash of what they look like, then confirmed on pixels.

The hash is 64 signs of a cosine transform of the grey 16x16 picture: brighter, darker, sharper and resized copies
keep most of them. Two pictures that differ in at most eleven signs agree, but for two, in a quarter of them, so that
looking up each quarter and its neighbours finds all such pairs without comparing all with all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bakeoff.data.doctor.survey import SMALL_PX, Survey

Pairs = NDArray[np.int64]

RADIUS = 11  # signs of 64 that may differ
SAME = 0.95  # correlation of small pictures from which they count as one; judged by eye on CIFAR-100
FLAT = 4.0  # standard deviation below which a small picture shows nothing that could be compared
_BITS, _QUARTER = 64, 16
_MOST_OF_A_BUCKET = 64  # that are compared with one picture: thousands of one look are linked as a chain
_AT_ONCE = 1 << 20  # pairs that are held in memory


def hashes(small: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return a hash each, uint64 [n], of small pictures uint8 [n 16 16 3]."""
    along = sorted(
        ((u, v) for u in range(SMALL_PX) for v in range(SMALL_PX)), key=lambda place: (sum(place), max(place), place)
    )
    rows, columns = np.array(along[1 : _BITS + 1]).T  # the first is the mean: brightness is no likeness
    found = np.empty(len(small), dtype=np.uint64)
    for start in range(0, len(small), 4096):
        grey = small[start : start + 4096].mean(axis=3, dtype=np.float32)
        signs = dctn(grey, axes=(1, 2))[:, rows, columns] > 0
        packed = np.ascontiguousarray(np.packbits(signs, axis=1))
        found[start : start + 4096] = packed.view(np.uint64)[:, 0]
    return found


def candidates(some: NDArray[np.uint64], others: NDArray[np.uint64]) -> Pairs:
    """Return the pairs [m 2], the first index below the second, with some[first] near others[second]."""
    changes = [0, *(1 << bit for bit in range(_QUARTER))]
    changes += [1 << one | 1 << other for one, other in combinations(range(_QUARTER), 2)]
    known = np.empty(0, dtype=np.int64)  # pairs as one number each: many times as fast to sort
    for quarter in range(0, _BITS, _QUARTER):
        here, there = (((of >> np.uint64(quarter)) & np.uint64(0xFFFF)).astype(np.int64) for of in (some, others))
        order = np.argsort(there, kind="stable")
        starts = np.searchsorted(there[order], np.arange((1 << _QUARTER) + 1))
        found = [known]
        for change in changes:
            for first, second in _same(here ^ change, there, order, starts):
                near = (first < second) & (np.bitwise_count(some[first] ^ others[second]) <= RADIUS)
                found.append(first[near] * len(others) + second[near])
        known = np.unique(np.concatenate(found))
    return np.stack(np.divmod(known, max(len(others), 1)), axis=1)


def _same(here: Pairs, there: Pairs, order: Pairs, starts: Pairs) -> Iterator[tuple[Pairs, Pairs]]:
    """Yield index arrays of pairs with equal keys, some at a time; `order` sorts `there`, `starts` finds a key."""
    low, high = starts[here], starts[here + 1]
    # Of a crowded key, those that follow: a chain of neighbours links the crowd without comparing all with all.
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    low = np.where((high - low > _MOST_OF_A_BUCKET) & (here == there), place + 1, low)
    counts = np.minimum(high - low, _MOST_OF_A_BUCKET)
    ends = np.cumsum(counts)
    start = 0
    while start < len(here):
        base = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, base + _AT_ONCE, side="right")))
        first = np.repeat(np.arange(start, stop), counts[start:stop])
        within = np.arange(len(first)) - np.repeat(ends[start:stop] - counts[start:stop] - base, counts[start:stop])
        yield first, order[low[first] + within]
        start = stop


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Alike:
    """Pictures that are copies of each other.

    Args:
        equal: rows of equal pixels, in groups of two and more.
        near: pairs [m 2] of rows that show the same in other pixels; of equal ones, their first row stands for all.
        mirrored: likewise, where one shows the other's mirror image, and is not near it as it is.
        groups: int64 [n], a number for all that hangs together by any of these, -1 for a picture that stands alone.
    """

    equal: tuple[Pairs, ...]
    near: Pairs
    mirrored: Pairs
    groups: Pairs


def find(survey: Survey) -> Alike:
    """Find all copies among the readable pictures."""
    rows_of: dict[bytes, list[int]] = {}
    for row in survey.readable:
        rows_of.setdefault(survey.digests[row], []).append(int(row))
    equal = tuple(np.array(rows, dtype=np.int64) for rows in rows_of.values() if len(rows) > 1)
    first = np.array([rows[0] for rows in rows_of.values()], dtype=np.int64)
    first = first[survey.small[first].std(axis=(1, 2, 3)) >= FLAT] if len(first) else first
    small = survey.small[first]
    here = hashes(small)
    near = confirmed(small, candidates(here, here))
    mirrored = confirmed(small, candidates(hashes(small[:, :, ::-1]), here), is_mirrored=True)
    known = {tuple(pair) for pair in near.tolist()}  # a symmetric picture is near its copy both ways
    mirrored = np.array([pair for pair in mirrored.tolist() if tuple(pair) not in known], dtype=np.int64).reshape(-1, 2)
    near, mirrored = first[near], first[mirrored]
    chains = [np.stack([rows[:-1], rows[1:]], axis=1) for rows in equal]
    return Alike(equal=equal, near=near, mirrored=mirrored, groups=groups(len(survey), [near, mirrored, *chains]))


def confirmed(small: NDArray[np.uint8], pairs: Pairs, *, is_mirrored: bool = False) -> Pairs:
    """Keep the pairs [m 2] whose small pictures agree, whatever their brightness and contrast."""
    kept = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(pairs), 4096):
        some = pairs[start : start + 4096]
        kept.append(some[likeness(small, some, is_mirrored=is_mirrored) >= SAME])
    return np.concatenate(kept)


def likeness(small: NDArray[np.uint8], pairs: Pairs, *, is_mirrored: bool = False) -> NDArray[np.float32]:
    """Return the correlation of the pixels of each pair, float32 [m]: 1 where one is the other, brighter or darker."""
    one, other = (small[pairs[:, side]].astype(np.float32) for side in (0, 1))
    one = one[:, :, ::-1] if is_mirrored else one
    one, other = (of - of.mean(axis=(1, 2, 3), keepdims=True) for of in (one, other))
    scale = np.sqrt((one**2).sum(axis=(1, 2, 3)) * (other**2).sum(axis=(1, 2, 3)))
    found: NDArray[np.float32] = (one * other).sum(axis=(1, 2, 3)) / np.maximum(scale, 1e-6)
    return found


def groups(num: int, links: Sequence[Pairs]) -> Pairs:
    """Number what hangs together, int64 [num]: from 0 in the order of the first rows, -1 for what has no link."""
    pairs = np.concatenate([np.empty((0, 2), dtype=np.int64), *links])
    graph = coo_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(num, num))
    _, component = connected_components(graph, directed=False)
    linked = np.unique(pairs)
    found = np.full(num, -1, dtype=np.int64)
    _, first, inverse = np.unique(component[linked], return_index=True, return_inverse=True)
    found[linked] = np.argsort(np.argsort(first))[inverse]
    return found
