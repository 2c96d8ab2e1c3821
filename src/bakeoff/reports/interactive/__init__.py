"""The interactive figures of a study, in the order in which a page shows them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from plotly.offline import get_plotlyjs

from bakeoff.reports import formats
from bakeoff.reports.interactive.accuracy import accuracy, difference
from bakeoff.reports.interactive.arms import looks, ranked
from bakeoff.reports.interactive.calibration import reliability
from bakeoff.reports.interactive.confusion import confusion
from bakeoff.reports.interactive.costs import costs
from bakeoff.reports.interactive.counts import Told, told
from bakeoff.reports.interactive.curves import curves
from bakeoff.reports.interactive.recall import recall
from bakeoff.reports.interactive.settings import setting, trials
from bakeoff.reports.interactive.style import Picture, Words
from bakeoff.results.comparison import Comparison

__all__ = ["Picture", "Told", "figures", "script", "told"]

MOST_LISTED = 5  # names of runs in a note


def figures(comparison: Comparison, *, words: Words, images: Told | None = None) -> tuple[Picture, ...]:
    """Draw everything that the runs there are have data for.

    Args:
        comparison: of a study, finished or not.
        words: from a key to the text in the reader's language.
        images: what the runs told by image; read here where it is not given.
    """
    drawn = (accuracy, difference, curves, costs, setting, trials)
    pictures = [picture for draw in drawn if (picture := draw(comparison, words=words)) is not None]
    return (*pictures, *_of_images(comparison, images or told(comparison), words=words))


def script() -> str:
    """Return the source of plotly.js, of the version that reads these figures."""
    return str(get_plotlyjs())


def _of_images(comparison: Comparison, images: Told, *, words: Words) -> Iterator[Picture]:
    """Yield the pictures that need predictions, each with a note on the runs that have none."""
    counted, chosen, order = images.counted, looks(comparison), [score.name for score in ranked(comparison)]
    best_first = sorted(counted[:2], key=lambda counts: order.index(counts.score.name))
    drawn = [confusion(best_first, words=words), reliability(counted, chosen, words=words)]
    if len(counted) > 1 and counted[0].score is comparison.control:
        control, best = counted[:2]
        drawn.append(recall(control, best, [chosen[control.score.name], chosen[best.score.name]], words=words))
    missing = words("predictions_left_out").format(runs=_listed(images.left_out)) if images.left_out else ""
    for picture in drawn:
        if picture is not None:
            yield replace(picture, note=f"{picture.note} {missing}".strip())


def _listed(names: Sequence[str]) -> str:
    return formats.names([*names[:MOST_LISTED], *(["..."] if len(names) > MOST_LISTED else [])])
