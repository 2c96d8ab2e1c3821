"""What the terms of a report mean, with this study's own noise floor."""

from collections.abc import Iterator

from bakeoff.reports import formats
from bakeoff.reports.words import Words
from bakeoff.results.comparison import FEWEST_FOR_A_RANK, Comparison


def terms(comparison: Comparison, *, words: Words) -> Iterator[tuple[str, str]]:
    """Yield each term with what it means."""
    yield words("term_interval"), words("text_interval")
    yield words("term_difference"), words("text_difference")
    yield words("term_holm"), words("text_holm")
    yield words("term_rank"), words("text_rank", fewest=FEWEST_FOR_A_RANK)
    yield words("term_better"), words("text_better")
    if floor := comparison.floor:
        sd, low, high = (formats.percent(value, digits=2) for value in (floor.sd, floor.low, floor.high))
        yield words("term_floor"), words("text_floor", sd=sd, low=low, high=high)
    yield words("term_seeds"), words("text_seeds")
    yield words("term_macs"), words("text_macs")
    yield words("term_time"), words("text_time")
