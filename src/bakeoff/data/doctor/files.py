"""Files: what cannot be read, what was passed over, and pictures that look unlike all others."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from bakeoff.data.doctor.diagnosis import Case, Finding, seen
from bakeoff.data.doctor.survey import Survey
from bakeoff.data.images import Indices

FLAT = 2.0  # standard deviation of all pixels, 0 to 255: below it there is nothing to be seen
_OUTLIER = 4.5  # robust standard deviations from the median brightness
_MAD_TO_SD = 1.4826  # of normally distributed values
_SMALL_PX = 8
_MANY = 5


def broken(survey: Survey) -> Iterator[Finding]:
    """Name every picture that cannot be read, with the reason."""
    if survey.broken:
        yield Finding(
            kind="broken",
            severity="error",
            title=f"{len(survey.broken)} of {len(survey):,} pictures cannot be read",
            meaning="They are empty, cut short, enormous, no pictures at all, or may not be read. "
            "Training refuses to start with them.",
            advice="Mend or remove them; --fix FILE.csv writes a list without them.",
            cases=tuple(Case(note=why, pictures=(seen(survey, row),)) for row, why in survey.broken.items()),
        )


def skipped(counts: Mapping[str, int]) -> Iterator[Finding]:
    """Say what was passed over, by the end of the name or the reason."""
    if counts:
        told = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        yield Finding(
            kind="skipped",
            severity="note",
            title=f"{sum(counts.values()):,} files are passed over",
            meaning="They do not count as pictures by their names, lie outside of any class, or are links that lead "
            "out of the data set, which are never followed.",
            advice="Nothing, if that is meant. A picture needs an ending such as .png, .jpg or .webp, and a class.",
            cases=tuple(Case(note=f"{count:,} {what}") for what, count in told),
        )


def looks(survey: Survey) -> Iterator[Finding]:
    """Yield what sizes, modes and brightness say."""
    rows = survey.readable
    if len(rows):
        yield from _sizes(survey, rows)
        yield from _modes(survey, rows)
        yield from _brightness(survey, rows)


def _sizes(survey: Survey, rows: Indices) -> Iterator[Finding]:
    widths, heights = survey.sizes[rows].T
    counts = Counter(zip(widths.tolist(), heights.tolist(), strict=True))
    tiny = rows[np.minimum(widths, heights) < _SMALL_PX]
    if len(counts) > 1:
        ratios = widths / heights
        common = ", ".join(f"{w}x{h} ({count:,})" for (w, h), count in counts.most_common(_MANY))
        low, middle, high = np.percentile(ratios, [5, 50, 95])
        yield Finding(
            kind="sizes",
            severity="note",
            title=f"{len(counts):,} sizes, {widths.min()}x{heights.min()} to {widths.max()}x{heights.max()} pixels",
            meaning="Every picture is brought to one square before training; a small one is enlarged, and a wide one "
            f"squashed, cut or padded. Width to height: {middle:.2f} in the middle, {low:.2f} to {high:.2f} for 90 %.",
            advice="data.size= sets the square, data.fit=squash|crop|pad how it comes about.",
            cases=(Case(note=f"most frequent: {common}"),),
        )
    if len(tiny) and len(tiny) < len(rows):
        yield Finding(
            kind="tiny_pictures",
            severity="note",
            title=f"{len(tiny):,} pictures have a side below {_SMALL_PX} pixels",
            meaning="Little can be seen on them.",
            advice="Look at them.",
            cases=tuple(Case(note="{}x{}".format(*survey.sizes[row]), pictures=(seen(survey, row),)) for row in tiny),
        )


def _modes(survey: Survey, rows: Indices) -> Iterator[Finding]:
    counts = Counter(note for row in rows.tolist() for note in survey.notes[row] or ("RGB",))
    if len(counts) > 1:
        told = counts.most_common()
        yield Finding(
            kind="modes",
            severity="note",
            title=f"{len(counts)} kinds of colour: {', '.join(f'{count:,} {what}' for what, count in told[:_MANY])}",
            meaning="All become RGB of 8 bits. If the kind differs by class, a network can learn it instead of the "
            "picture.",
            advice="Look where the kinds differ by class or part.",
            cases=tuple(_mode(survey, rows, what) for what, _ in told),
        )


def _mode(survey: Survey, rows: Indices, what: str) -> Case:
    """Say how many pictures of a kind each part has."""
    parts = Counter(survey.entries[row].part for row in rows.tolist() if what in (survey.notes[row] or ("RGB",)))
    return Case(note=f"{what}: {', '.join(f'{count:,} in {part}' for part, count in parts.items())}")


def _brightness(survey: Survey, rows: Indices) -> Iterator[Finding]:
    flat = rows[survey.contrast[rows] < FLAT]
    if len(flat):
        yield Finding(
            kind="flat",
            severity="warning",
            title=f"{len(flat):,} pictures are of one colour all over",
            meaning="There is nothing to be seen on them: often an export that failed.",
            advice="Look at them, and take them out.",
            cases=tuple(Case(pictures=(seen(survey, row),)) for row in flat),
        )
    values = survey.brightness[rows]
    middle = float(np.median(values))
    spread = max(_MAD_TO_SD * float(np.median(np.abs(values - middle))), 1.0)
    far = rows[(np.abs(values - middle) > _OUTLIER * spread) & (survey.contrast[rows] >= FLAT)]
    if len(far):
        yield Finding(
            kind="brightness",
            severity="note",
            title=f"{len(far):,} pictures are far darker or brighter than the others",
            meaning=f"The median brightness is {middle:.0f} of 255; these are more than {_OUTLIER} robust standard "
            "deviations from it.",
            advice="Look at them: night, glare, or an export that failed.",
            cases=tuple(
                Case(note=f"brightness {survey.brightness[row]:.0f}", pictures=(seen(survey, row),))
                for row in far[np.argsort(survey.brightness[far], kind="stable")]
            ),
        )
