import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from bakeoff.errors import RecipeError
from bakeoff.optim import schedules

NUM_STEPS = 40

fractions = st.floats(0, 1)
inside = st.floats(0.01, 0.99)
options = st.one_of(
    st.tuples(st.just("constant"), st.just({})),
    st.tuples(st.just("multistep"), st.fixed_dictionaries({"milestones": st.lists(inside), "gamma": fractions})),
    st.tuples(st.just("cosine"), st.fixed_dictionaries({"final": fractions})),
    st.tuples(
        st.just("onecycle"),
        st.fixed_dictionaries(
            {
                "peak_at": inside,
                "start": fractions,
                "final": fractions,
                "anneal": st.sampled_from(["linear", "cosine"]),
            }
        ),
    ),
    st.tuples(
        st.just("polynomial"),
        st.fixed_dictionaries({"power": st.floats(0.5, 8), "final": fractions}),
    ),
)
warmups = st.one_of(st.just(0.0), st.floats(0.01, 0.9))
progresses = st.floats(0, 1)


@settings(deadline=None)
@given(options, warmups, progresses)
def test_a_multiplier_is_a_fraction(named: tuple[str, dict[str, object]], warmup: float, progress: float) -> None:
    name, chosen = named
    multiplier = schedules.build(name, warmup=warmup, **chosen)(progress)
    assert math.isfinite(multiplier)
    assert 0 <= multiplier <= 1


@settings(deadline=None)
@given(options.filter(lambda named: named[0] != "multistep"), warmups, progresses)
def test_a_schedule_has_no_jumps(named: tuple[str, dict[str, object]], warmup: float, progress: float) -> None:
    name, chosen = named
    schedule = schedules.build(name, warmup=warmup, **chosen)
    nearby = min(1.0, progress + 1e-9)
    # A root is steep at its end: for power 1/2 a step of 1e-9 moves it by 3e-5, and by 1e-4 after a long warm-up.
    assert schedule(nearby) == pytest.approx(schedule(progress), abs=2e-4)


@settings(deadline=None)
@given(options, st.floats(0.01, 0.9), inside)
def test_warm_up_rises_linearly_from_zero(named: tuple[str, dict[str, object]], warmup: float, part: float) -> None:
    name, chosen = named
    schedule = schedules.build(name, warmup=warmup, **chosen)
    assert schedule(0.0) == 0
    assert schedule(part * warmup) == pytest.approx(part * schedule(warmup), rel=1e-6, abs=1e-12)


@settings(deadline=None)
@given(options.filter(lambda named: named[0] != "onecycle"), warmups, progresses, progresses)
def test_after_warm_up_it_only_falls(
    named: tuple[str, dict[str, object]], warmup: float, one: float, other: float
) -> None:
    name, chosen = named
    schedule = schedules.build(name, warmup=warmup, **chosen)
    earlier, later = sorted((max(one, warmup), max(other, warmup)))
    assert schedule(later) <= schedule(earlier) + 1e-12


@pytest.mark.parametrize(
    ("name", "settings", "start", "end"),
    [
        ("constant", {}, 1, 1),
        ("multistep", {"milestones": [0.5, 0.75], "gamma": 0.1}, 1, 0.01),
        ("cosine", {"final": 0.01}, 1, 0.01),
        ("onecycle", {"start": 0.2, "final": 0.07}, 0.2, 0.07),
        ("polynomial", {"final": 0.1}, 1, 0.1),
    ],
)
def test_both_ends_are_met_exactly(name: str, settings: dict[str, object], start: float, end: float) -> None:
    schedule = schedules.build(name, **settings)
    assert schedule(0.0) == start
    assert schedule(1.0) == pytest.approx(end, rel=1e-15)


def torchs(make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(NUM_STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def ours(name: str, **settings: object) -> list[float]:
    schedule = schedules.build(name, **settings)  # type: ignore[arg-type]
    return [schedule(step / NUM_STEPS) for step in range(NUM_STEPS)]


def warmed(tail: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]) -> list[float]:
    """Run torch's linear warm-up over 10 of the 40 steps, then the tail; from 1e-12, since it refuses zero."""
    return torchs(
        lambda o: lr_scheduler.SequentialLR(
            o,
            [lr_scheduler.LinearLR(o, start_factor=1e-12, total_iters=10), tail(o)],
            milestones=[10],
        )
    )


REFERENCES = {
    "multistep": (
        lambda: ours("multistep", milestones=[0.25, 0.6], gamma=0.2),
        lambda: torchs(lambda o: lr_scheduler.MultiStepLR(o, [10, 24], gamma=0.2)),
    ),
    "cosine": (
        lambda: ours("cosine", final=0.01),
        lambda: torchs(lambda o: lr_scheduler.CosineAnnealingLR(o, NUM_STEPS, eta_min=0.01)),
    ),
    "linear": (
        lambda: ours("polynomial"),
        lambda: torchs(lambda o: lr_scheduler.PolynomialLR(o, NUM_STEPS, power=1.0)),
    ),
    "polynomial": (
        lambda: ours("polynomial", power=2.5),
        lambda: torchs(lambda o: lr_scheduler.PolynomialLR(o, NUM_STEPS, power=2.5)),
    ),
    # torch's last step is total_steps - 1, ours would be at progress 1: hence one more.
    "onecycle": (
        lambda: ours("onecycle", peak_at=0.25, start=0.04, final=0.01),
        lambda: torchs(
            lambda o: lr_scheduler.OneCycleLR(
                o,
                max_lr=1.0,
                total_steps=NUM_STEPS + 1,
                pct_start=11 / (NUM_STEPS + 1),
                anneal_strategy="linear",
                div_factor=25,
                final_div_factor=4,
                cycle_momentum=False,
            )
        ),
    ),
    "warm-up and cosine": (
        lambda: ours("cosine", warmup=0.25),
        lambda: warmed(lambda o: lr_scheduler.CosineAnnealingLR(o, NUM_STEPS - 10)),
    ),
    "warm-up and constant": (
        lambda: ours("constant", warmup=0.25),
        lambda: warmed(lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
    ),
    "warm-up and linear": (
        lambda: ours("polynomial", warmup=0.25),
        lambda: warmed(lambda o: lr_scheduler.PolynomialLR(o, NUM_STEPS - 10, power=1.0)),
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")
@pytest.mark.parametrize("case", REFERENCES)
def test_torchs_schedulers_agree(case: str) -> None:
    mine, reference = REFERENCES[case]
    assert mine() == pytest.approx(reference(), rel=1e-9, abs=1e-9)


def test_milestones_are_fractions_of_the_whole_run_warm_up_or_not() -> None:
    with_warmup = schedules.build("multistep", warmup=0.2, milestones=[0.6], gamma=0.1)
    assert with_warmup(0.59) == 1
    assert with_warmup(0.6) == 0.1


def test_the_fall_of_a_cycle_can_be_a_cosine() -> None:
    schedule = schedules.build("onecycle", peak_at=0.5, start=0.0, final=0.0, anneal="cosine")
    assert schedule(0.25) == 0.5  # the rise is linear
    assert schedule(0.625) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("cosin", {}, r"schedule: found 'cosin'; .*Did you mean 'cosine'\?"),
        ("cosine", {"finel": 0}, r"found 'finel'; expected one of final.*'final'"),
        ("constant", {"final": 0}, "expected nothing here"),
        ("cosine", {"warmup": 1.0}, r"schedule\.warmup: found 1.0"),
        ("cosine", {"warmup": -0.1}, r"schedule\.warmup"),
        ("cosine", {"final": 1.5}, r"schedule\.final: found 1.5"),
        ("cosine", {"final": float("nan")}, r"schedule\.final: found nan"),
        ("multistep", {"milestones": [0.5, 60]}, r"schedule\.milestones: found \[0\.5, 60\]"),
        ("multistep", {"gamma": 2.0}, r"schedule\.gamma"),
        ("onecycle", {"peak_at": 0.0}, r"schedule\.peak_at"),
        ("onecycle", {"start": -1.0}, r"schedule\.start"),
        ("onecycle", {"anneal": "cos"}, r"schedule\.anneal: found 'cos'.*'cosine'"),
        ("polynomial", {"power": 0.0}, r"schedule\.power"),
        ("polynomial", {"power": math.inf}, r"schedule\.power"),
    ],
)
def test_mistakes_are_named(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        schedules.build(name, **settings)  # type: ignore[arg-type]
