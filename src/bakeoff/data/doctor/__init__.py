"""An examination of pictures before anything is trained on them: broken files, copies, leaks, labels, classes."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from bakeoff import data
from bakeoff.catalogue import is_own
from bakeoff.data import decode, own
from bakeoff.data.doctor import alike, classes, clean, copies, files, mirrors, sources, survey
from bakeoff.data.doctor.diagnosis import SEVERITIES, Case, Diagnosis, Finding, Kept, Seen
from bakeoff.data.doctor.survey import Entry, Survey, Tell
from bakeoff.data.images import ImageSet, Part
from bakeoff.data.listing import Listed, Listing

__all__ = ["Case", "Diagnosis", "Finding", "Kept", "Seen", "examine"]

PUBLISHED: tuple[Part, ...] = ("train", "test")  # the parts of a set of the catalogue


def examine(name: str, *, image: str | None = None, label: str | None = None, tell: Tell | None = None) -> Diagnosis:
    """Look at every picture of a data set, once, and say what is wrong with it.

    A broken picture is a finding, no error. Nothing is written, and no picture is changed.

    Args:
        name: a published set, or where a person's own pictures are.
        image: the column of pictures, of a table; None finds it.
        label: the column of classes, of a table; None finds it.
        tell: receives progress while pictures are opened.

    Raises:
        RecipeError: no such data set.
        DataError: it is not there, or is no data set at all.
    """
    listing = own.listing(name, image=image, label=label) if is_own(name) else None
    seen = _published(name, tell=tell) if listing is None else _own(listing, tell=tell)
    found = alike.find(seen)
    kept, left_out = clean.choose(seen, found)
    counted = classes.counts(seen)
    findings = [
        *files.broken(seen),
        *copies.find(seen, found),
        *copies.published(name, seen),
        *sources.find(seen),
        *mirrors.find(seen),
        *classes.find(seen.classes, counted),
        *files.looks(seen),
        *files.skipped({} if listing is None else listing.skipped),
    ]
    return Diagnosis(
        name=name,
        place=None if listing is None else listing.place,
        classes=seen.classes,
        counts=counted,
        findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
        kept=kept,
        left_out=left_out,
        survey=seen,
    )


def _published(name: str, *, tell: Tell | None) -> Survey:
    """Look at both parts of a set of the catalogue."""
    parts = {part: data.load(name, part=part) for part in PUBLISHED}
    entries = [entry for part, images in parts.items() for entry in _rows(part, images)]
    return survey.look(entries, classes=parts["train"].classes, tell=tell)


def _rows(part: str, images: ImageSet) -> Iterator[Entry]:
    """Yield the pictures of a part by their numbers."""
    for row, label in enumerate(images.labels.tolist()):
        yield Entry(name=f"{part} {row}", part=part, label=label, open=partial(_decoded, images, row))


def _decoded(images: ImageSet, row: int) -> decode.Picture:
    """Return a picture of a set in memory, grey as three equal channels."""
    (pixels,) = images.pixels(np.array([row]))
    height, width, channels = pixels.shape
    colour = pixels if channels == 3 else np.repeat(pixels[..., :1], 3, axis=2)
    return decode.Picture(pixels=colour, width=width, height=height, notes=())


def _own(listing: Listing, *, tell: Tell | None) -> Survey:
    """Look at a person's own pictures at full size."""
    entries = [entry for part, listed in listing.parts.items() for entry in _files(part, listed, listing.place)]
    return survey.look(entries, classes=listing.classes, tell=tell)


def _files(part: str, listed: Listed, place: Path) -> Iterator[Entry]:
    """Yield the pictures of a part by the names of their files."""
    home = place if place.is_dir() else place.parent
    for row, path in enumerate(listed.paths):
        yield Entry(
            name=str(path.relative_to(home)) if path.is_relative_to(home) else str(path),
            part=part,
            label=int(listed.labels[row]),
            group=-1 if listed.groups is None else int(listed.groups[row]),
            path=path if listed.encoded is None else None,
            open=partial(_opened, listed, row),
        )


def _opened(listed: Listed, row: int) -> decode.Picture:
    """Decode a file at its full size; which links are followed was decided when it was listed."""
    return decode.picture(listed.read(row), size=None, where=str(listed.paths[row]))
