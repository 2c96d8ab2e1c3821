"""Classes that turn into another when they are mirrored: for them, a random flip teaches what is wrong.

A linear classifier of small pictures first has to know the classes, on pictures that it was not fitted to; then it is
shown their mirror images. It is rough: it finds arrows to the left and to the right, and says nothing of classes that
it cannot recognise.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bakeoff.data.doctor.diagnosis import Case, Finding, seen
from bakeoff.data.doctor.survey import Survey
from bakeoff.data.images import Indices

FEWEST = 6  # pictures of a class, below which nothing is said of it
_MOST_OF_CLASS, _MOST = 60, 6_000  # pictures that are used
_FOLDS = 5
_RIDGE = 0.01  # a weak pull of the weights to zero; pictures are unit vectors
_MOST_CLASSES = 2_000  # more than so many are not compared with each other
_KNOWN = 0.6  # share of a class that must be recognised as it is
_TAKEN = 0.5  # share of its mirror images that must look like one other class
_MUTUAL = 0.3  # which is enough if the other class looks like it in return
_SIGMAS = 3.0  # how surely each share must be above that of blind answers
_SHOWN = 3


def find(survey: Survey) -> Iterator[Finding]:
    """Yield the classes whose mirror images are mostly taken for another class."""
    rows = _sample(survey)
    labels = survey.labels[rows]
    if len(np.unique(labels)) < 2 or len(survey.classes) > _MOST_CLASSES:
        return
    plain, mirrored = (_features(pictures) for pictures in (survey.small[rows], survey.small[rows][:, :, ::-1]))
    as_it_is, flipped = _recognise(plain, mirrored, labels, len(survey.classes))
    cases = tuple(_cases(survey, rows, labels, as_it_is, flipped))
    if cases:
        yield Finding(
            kind="mirrored_classes",
            severity="warning",
            title=f"{len(cases)} {'class looks' if len(cases) == 1 else 'classes look'} like another when mirrored",
            meaning="A picture that is flipped at random then shows another class under the old label. Found by a "
            f"linear classifier of 16-pixel pictures, right on {(as_it_is == labels).mean():.0%} of those that it was "
            "not fitted to.",
            advice="Train with augment.flip=none.",
            cases=cases,
        )


def _cases(survey: Survey, rows: Indices, labels: Indices, as_it_is: Indices, flipped: Indices) -> Iterator[Case]:
    """Yield the classes whose mirror images are taken for one other class."""
    num = len(survey.classes)
    sizes = np.bincount(labels, minlength=num)
    right = np.bincount(labels[as_it_is == labels], minlength=num) / np.maximum(sizes, 1)
    taken = np.zeros((num, num))
    np.add.at(taken, (labels, flipped), 1 / sizes[labels])
    blind = np.bincount(as_it_is, minlength=num) / len(labels)
    noise = np.sqrt(blind * (1 - blind) / np.maximum(sizes, 1)[:, None])  # of the share of each class, per true class
    taken[taken < blind + _SIGMAS * noise] = 0
    away = taken - 2 * np.eye(num)
    is_known = (sizes >= FEWEST) & (right >= np.maximum(_KNOWN, blind + _SIGMAS * noise.diagonal()))
    for label in np.flatnonzero(is_known):
        other = int(away[label].argmax())
        mutual = is_known[other] and away[other].argmax() == label and taken[other, label] >= _MUTUAL
        if taken[label, other] >= (_MUTUAL if mutual else _TAKEN) and taken[label, other] > taken[label, label]:
            note = (
                f"{survey.classes[label]} looks like {survey.classes[other]} when mirrored: "
                f"{taken[label, other]:.0%} of {sizes[label]} (as they are, {right[label]:.0%} are recognised)"
            )
            shown = [*rows[labels == label][:_SHOWN], *rows[labels == other][:_SHOWN]]
            yield Case(note=note, pictures=tuple(seen(survey, row) for row in shown))


def _sample(survey: Survey) -> Indices:
    """Return rows of the first part, evenly spread, no more than so many of a class."""
    rows = survey.readable[survey.part_of[survey.readable] == 0]
    labels = survey.labels[rows]
    most = max(FEWEST, min(_MOST_OF_CLASS, _MOST // max(len(survey.classes), 1)))
    found = [np.empty(0, dtype=np.int64)]
    for label in np.unique(labels):
        mine = rows[labels == label]
        found.append(mine[np.linspace(0, len(mine) - 1, min(most, len(mine))).round().astype(np.int64)])
    return np.sort(np.concatenate(found))


def _features(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return unit vectors [n d] of pictures whose brightness and contrast do not count."""
    flat = small.reshape(len(small), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    scaled: NDArray[np.float32] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return scaled


def _recognise(
    known: NDArray[np.float32], asked: NDArray[np.float32], labels: Indices, num_classes: int
) -> tuple[Indices, Indices]:
    """Return the class [n] that each of `known` and of `asked` is taken for, by those of other folds.

    Least squares to a one for the class and zeros for the others; a class counts by the root of its size.
    """
    fold = np.empty(len(labels), dtype=np.int64)
    fold[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % _FOLDS
    weight = np.sqrt(1 / np.bincount(labels, minlength=num_classes)[labels])[:, None].astype(np.float32)
    wanted = np.eye(num_classes, dtype=np.float32)[labels]
    found = np.empty((2, len(labels)), dtype=np.int64)
    for turn in range(_FOLDS):
        others, mine = fold != turn, fold == turn
        weighted = (known[others] * weight[others]).T
        gram = weighted @ known[others] + _RIDGE * np.eye(known.shape[1], dtype=np.float32)
        solution = np.linalg.solve(gram, weighted @ wanted[others])
        for place, of in enumerate((known, asked)):
            found[place, mine] = (of[mine] @ solution).argmax(axis=1)
    return found[0], found[1]
