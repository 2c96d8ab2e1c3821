"""What every interactive figure says of an arm in the same way: its look, its name, its mean, its seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from bakeoff.reports import formats, measures
from bakeoff.reports.canvas import ARMS, GREY
from bakeoff.reports.interactive.style import Settings, Words, lines, safe
from bakeoff.results.comparison import ArmScore, Comparison
from bakeoff.results.statistics import Difference, Interval

_DASHES = ("solid", "dash", "dot", "dashdot")
_SYMBOLS = ("circle", "square", "triangle-up", "star")


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """How an arm is drawn in every figure."""

    colour: str
    dash: str
    symbol: str


def looks(comparison: Comparison) -> dict[str, Look]:
    """Give each arm its colour by its place in the study; the control is grey, the eighth arm changes dash and symbol.

    Source: Okabe and Ito, "Color Universal Design", 2008; without black, which a dark page swallows.
    """
    control, *others = comparison.arms
    given = {control.name: Look(colour=GREY, dash="solid", symbol="circle")}
    for i, score in enumerate(others):
        turn = i // len(ARMS) % len(_DASHES)
        given[score.name] = Look(colour=ARMS[i % len(ARMS)], dash=_DASHES[turn], symbol=_SYMBOLS[turn])
    return given


def ranked(comparison: Comparison) -> list[ArmScore]:
    """Return the arms that have an accuracy, best first."""
    known = [(score.mean.estimate, score) for score in comparison.arms if score.mean is not None]
    return [score for _, score in sorted(known, key=lambda pair: -pair[0])]


def label(score: ArmScore) -> str:
    """Return the arm's name, and in brackets those of the arms that are the same recipe."""
    return f"{score.name} ({formats.names(score.arm.repeated)})" if score.arm.repeated else score.name


def percent(score: ArmScore) -> float:
    """Return the mean of an arm that has one, in per cent."""
    assert score.mean is not None
    return 100 * score.mean.estimate


def bars(of: Sequence[Interval | Difference | None], *, clipped: bool) -> Settings:
    """Return the lengths of plotly's error bars to both sides of some estimates; one seed has none.

    Args:
        of: the estimates.
        clipped: to what an accuracy can be.
    """
    ends = [measures.bounds(one, clipped=clipped) for one in of]
    at = [0.0 if one is None else 100 * one.estimate for one in of]
    up = [high - x for (_, high), x in zip(ends, at, strict=True)]
    down = [x - low for (low, _), x in zip(ends, at, strict=True)]
    return {"array": up, "arrayminus": down, "symmetric": False}


def runs_diverged(scores: Sequence[ArmScore], words: Words) -> str:
    """Return a sentence on the arms of which runs are missing from a figure, with how many; empty without any."""
    lost = [(score, sum(run.status == "diverged" for run in score.runs.values())) for score in scores]
    named = formats.names(f"{label(score)} ({n})" for score, n in lost if n)
    return words("runs_diverged").format(runs=named) if named else ""


def reach(scores: Sequence[ArmScore]) -> list[float]:
    """Return everything that an axis of accuracy has to reach, in per cent: each seed, and the ends of intervals."""
    ends = [end for score in scores for end in measures.bounds(score.mean, clipped=True)]
    return ends + [100 * top1 for score in scores for top1 in score.top1.values()]


def interval(score: ArmScore) -> str:
    """Return an arm's mean in words, per cent."""
    mean = score.mean
    return formats.MISSING if mean is None else formats.interval(mean.estimate, mean.low, mean.high, mean.n)


def quantity(comparison: Comparison, words: Words) -> str:
    """Return what the accuracy of this comparison is called: of test, or of validation."""
    return words("test_accuracy") if comparison.split == "test" else words("val_accuracy")


def hover_of_mean(score: ArmScore, unit: str, *more: str) -> str:
    """Return what hovering over an arm's mean shows."""
    return lines(f"<b>{safe(label(score))}</b>", *more, f"{unit}, %: {interval(score)}")


def hover_of_seed(name: str, seed: int, top1: float, words: Words) -> str:
    """Return what hovering over one seed shows; the name is safe already."""
    return lines(f"<b>{name}</b>", f"{words('seed')} {seed}: {formats.percent(top1, digits=2)} %")
