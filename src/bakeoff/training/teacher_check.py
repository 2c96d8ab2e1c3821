"""What a teacher must not be: of other classes, of other pictures, or without knowledge."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bakeoff import catalogue
from bakeoff.data.images import ImageSet
from bakeoff.errors import BakeoffError, DataError
from bakeoff.recipe import Teacher
from bakeoff.results import teachers
from bakeoff.results.store import Run

STANDARD_ERRORS = 10  # above chance that a teacher has to be


def compare(card: Mapping[str, Any], images: ImageSet, *, name: str, resize: bool) -> int | None:
    """Refuse a teacher of other data; return the size to which its pictures are resized, if they are.

    Raises:
        DataError: naming what differs.
    """
    where, own, theirs = f"teacher {name}", card["classes"], list(images.classes)
    data = f" of {card['data']}" if card.get("data") else ""
    if isinstance(own, int):  # their number is all that is known
        if own != len(theirs):
            raise DataError(where, found=f"{own} classes", expected=f"the student's {len(theirs)}")
    elif own != theirs:
        if sorted(own) == sorted(theirs):
            i = next(i for i, (a, b) in enumerate(zip(own, theirs, strict=True)) if a != b)
            found = f"the student's classes in another order (class {i} is '{own[i]}' instead of '{theirs[i]}')"
        else:
            strange = next((label for label in own if label not in theirs), None)
            found = f"{len(own)} classes{data}" + (f", such as '{strange}'" if strange is not None else "")
        raise DataError(where, found=found, expected=f"the student's {len(theirs)} classes in their order")
    (channels, size, width), shape = card["image_shape"], images.shape
    if channels != shape[0]:
        found = f"pictures of {channels} channels"
        raise DataError(where, found=found, expected=f"the student's {shape[0]}")
    if (size, width) == shape[1:]:
        return None
    if not resize:
        raise DataError(
            where,
            found=f"pictures of {size}x{width} pixels",
            expected=f"the student's {shape[1]}x{shape[2]}",
            hint="teacher.resize=true shows them to it in its own size.",
        )
    return int(size)


def check_card(card: Mapping[str, Any], *, where: str) -> None:
    """Refuse a card that does not say what a teacher is for: classes, pictures, normalisation.

    Raises:
        DataError: naming what it has instead.
    """
    classes, shape = card.get("classes"), card.get("image_shape")
    sound = isinstance(classes, list) and all(isinstance(name, str) for name in classes) and len(classes) > 1
    sound &= isinstance(shape, list) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)
    for key, least in (("mean", -math.inf), ("std", 0.0)):
        values = card.get(key)
        sound = sound and isinstance(values, list) and len(values) == shape[0]  # type: ignore[index]
        sound = sound and all(isinstance(v, int | float) and least < v < math.inf for v in values)  # type: ignore[union-attr]
    if not sound:
        keys = {key: card.get(key) for key in ("image_shape", "mean", "std", "classes")}
        expected = "a card with the classes' names, an image shape and a mean and deviation a channel"
        raise DataError(where, found=f"{keys}"[:200], expected=expected)


def measure(
    logits: np.ndarray, labels: np.ndarray, *, temperature: float, name: str, standardise: bool = False
) -> dict[str, Any]:
    """Return accuracy and entropy of a teacher's answers [n classes].

    Args:
        logits: of the teacher.
        labels: true classes [n].
        temperature: at which they are softened.
        name: of the teacher.
        standardise: whether the objective standardises them before that.

    Raises:
        DataError: they are not finite, or no better than chance.
    """
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits).all(1)).sum())
        found = f"logits that are not finite, for {bad} of {len(logits)} images"
        raise DataError(f"teacher {name}", found=found, expected="numbers")
    num, num_classes = logits.shape
    scaled = logits.astype(np.float64)
    if standardise:
        scaled = (scaled - scaled.mean(1, keepdims=True)) / np.maximum(scaled.std(1, ddof=1, keepdims=True), 1e-2)
    scaled = scaled / temperature
    log_p = scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)
    chance = 1 / num_classes
    figures = {
        "top1": float((logits.argmax(1) == labels).mean()),
        "n": num,
        "chance": chance,
        "standard_error": math.sqrt(chance * (1 - chance) / num),
        "temperature": temperature,
        "entropy": float(-(np.exp(log_p) * log_p).sum(1).mean()),
        "largest_entropy": math.log(num_classes),
    }
    _refuse_guessing(figures, name=name)
    return figures


def _refuse_guessing(figures: Mapping[str, Any], *, name: str) -> None:
    """Refuse a teacher within ten standard errors of chance, unless its name declares it a control."""
    least = figures["chance"] + STANDARD_ERRORS * figures["standard_error"]
    if least >= 1 and not name.startswith(catalogue.RANDOM):
        found = f"{figures['n']} images to measure it on"
        expected = f"enough to tell it from chance by {STANDARD_ERRORS} standard errors"
        hint = "Hold out more (data.val_fraction), or use more images."
        raise DataError(f"teacher {name}", found=found, expected=expected, hint=hint)
    if figures["top1"] <= least and not name.startswith(catalogue.RANDOM):
        raise DataError(
            f"teacher {name}",
            found=f"an accuracy of {figures['top1']:.2%} on {figures['n']:,} images "
            f"(entropy {figures['entropy']:.2f} of at most {figures['largest_entropy']:.2f} nats)",
            expected=f"more than {least:.2%}: chance ({figures['chance']:.2%}) and {STANDARD_ERRORS} standard errors",
            hint=f"A teacher that knows nothing teaches nothing. As a control: teacher={catalogue.RANDOM}MODEL.",
        )


def share_seen(teacher: Teacher, index: np.ndarray, *, root: Path) -> float | None:
    """Return the share of the images it is measured on that a teacher was trained on; None where nobody knows."""
    if teachers.is_built(teacher.name) or not len(index):
        return None
    run = Run(teachers.weights(teacher, root=root).parent)
    try:
        if not run.recipe().data.is_published:
            return None  # rows of own pictures are those of then: files may have come or gone since
        trained = run.read_json(run.split_path).get("train")
    except BakeoffError:
        return None
    return float(np.isin(index, trained).mean()) if trained else None
