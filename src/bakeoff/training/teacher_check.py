"""What a teacher must not be: of other classes, of other pictures, or without knowledge."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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


def measure(logits: np.ndarray, labels: np.ndarray, *, temperature: float, name: str) -> dict[str, Any]:
    """Return accuracy and entropy of a teacher's answers [n classes].

    Raises:
        DataError: they are not finite, or no better than chance.
    """
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits).all(1)).sum())
        found = f"logits that are not finite, for {bad} of {len(logits)} images"
        raise DataError(f"teacher {name}", found=found, expected="numbers")
    num, num_classes = logits.shape
    scaled = logits.astype(np.float64) / temperature
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
    if figures["top1"] <= least and not name.startswith(teachers.RANDOM):
        raise DataError(
            f"teacher {name}",
            found=f"an accuracy of {figures['top1']:.2%} on {figures['n']:,} images "
            f"(entropy {figures['entropy']:.2f} of at most {figures['largest_entropy']:.2f} nats)",
            expected=f"more than {least:.2%}: chance ({figures['chance']:.2%}) and {STANDARD_ERRORS} standard errors",
            hint=f"A teacher that knows nothing teaches nothing. As a control: teacher={teachers.RANDOM}MODEL.",
        )


def share_seen(teacher: Teacher, val_index: np.ndarray, *, root: Path) -> float | None:
    """Return the share of the student's validation images that its teacher was trained on; None where nobody knows."""
    if teachers.is_built(teacher.name) or not len(val_index):
        return None
    run = Run(teachers.weights(teacher, root=root).parent)
    try:
        trained = run.read_json(run.split_path).get("train")
    except BakeoffError:
        return None
    return float(np.isin(val_index, trained).mean()) if trained else None
