import json
import math
from typing import Any

import pytest

from benchmarks.peers import contests, plots, tables
from benchmarks.rounds import Round, Segment, alike, own, pairs, rotated, spread, summary


def turn(seconds: float, *, before: float = 1.0, after: float = 1.0) -> Segment:
    return Segment(before=before, seconds=seconds, after=after)


def played(ours: Segment, theirs: Segment, *, before: float = 1.0, after: float = 1.0) -> Round:
    return Round(before=before, turns={"bakeoff": ours, "other": theirs}, after=after)


def test_a_machine_may_drift_by_a_tenth() -> None:
    assert alike(1.0, 1.1)
    assert alike(1.1, 1.0)
    assert not alike(1.0, 1.101)


def test_a_round_whose_ends_differ_counts_for_nobody() -> None:
    restless = played(turn(1.2), turn(2.0), after=1.2)
    assert own([restless], "other") == own([restless], "bakeoff") == []
    assert pairs([restless], "other", against="bakeoff") == []


def test_a_turn_whose_raws_differ_counts_for_no_comparison() -> None:
    restless = played(turn(1.2, after=1.2), turn(2.0))
    assert own([restless], "bakeoff") == []
    assert len(own([restless], "other")) == 1
    assert pairs([restless], "other", against="bakeoff") == []


def test_ratios_are_formed_inside_rounds() -> None:
    # By the medians of each, 3 / 2; the machine was twice as slow in the second and third round.
    rounds = [played(turn(1.0), turn(3.0)), played(turn(2.0), turn(6.0)), played(turn(2.0), turn(2.0))]
    found = summary(rounds, "other", against="bakeoff", images=6)
    assert found["times_as_fast"] == {"n": 3, "median": 3.0, "min": 1.0, "max": 3.0}
    assert found["images_per_s"]["median"] == 2.0
    assert found["efficiency"]["median"] == pytest.approx(1 / 3)


def test_nothing_kept_has_no_median() -> None:
    assert spread([]) == {"n": 0}
    found = summary([played(turn(1.0), turn(2.0), after=2.0)], "other", against="bakeoff", images=1)
    assert found["rounds"] == 1
    assert found["times_as_fast"] == {"n": 0}


def test_each_has_each_place_in_turn() -> None:
    orders = [rotated("abc", by=number) for number in range(3)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]


def test_two_batches_tell_cost_an_image_from_cost_a_step() -> None:
    cost = contests.line(0.001 + 32 * 2e-6, 0.001 + 512 * 2e-6)
    assert cost == pytest.approx({"us_per_image": 2.0, "ms_per_step": 1.0})


def test_losses_differ_by_the_largest_of_all_steps() -> None:
    assert contests.largest_difference([1.0, 2.2, 4.0], [1.0, 2.0, 4.1]) == pytest.approx(0.1)


def test_losses_that_are_no_numbers_do_not_agree() -> None:
    assert not contests.largest_difference([math.nan], [1.0]) <= 0.01


@pytest.fixture
def content() -> dict[str, Any]:
    rounds = [played(turn(1.25), turn(5.0)), played(turn(1.25), turn(2.5)), played(turn(1.25), turn(2.0), after=2.0)]
    reached = {peer: summary(rounds, peer, against="bakeoff", images=100) for peer in ("bakeoff", "other")}
    contest = {"peers": reached, "failures": {"third": "its process died"}}
    agreed = {"precision": "float32", "tolerance": 1e-3, "steps": 20, "largest_relative_difference": {"other": 2e-5}}
    some, none = {"n": 2, "median": 3.0, "min": 2.0, "max": 4.0}, {"n": 0}
    fixed = {"peers": {"other": {"us_per_image": 160.0, "ms_per_step": 1.5, "small_ms": some, "large_ms": none}}}
    sizes = {
        str(size): {"peers": {"other": {"images_per_s": some, "until_first_step_s": some, "peak_gb": size / 1e4}}}
        for size in (5000, 50000)
    }
    seconds = {"bakeoff": {"side by side": [9.0, 8.0]}, "other": {"one after another": [20.0]}}
    content = {
        "about": {
            "versions": {"torch": "2"}, "command": ["python", "-m", "benchmarks.peers"], "started": "today",
            "commit": "0123456789ab", "hardware": "a processor", "threads": 2, "python": "3",
        },
        "measured": {
            "training": {"resnet_20": {"best": contest | {"agreement": agreed, "workers": {"other": 2}}}},
            "evaluation": {"resnet_20": {"best": contest}},
            "fixed": {"best": fixed},
            "start": {"resnet_20": {"best": {"peers": {"other": {"first_step_s": some, "peak_gb": some}}}}},
            "data": {"resnet_20": {"best": sizes}},
            "runs": {"best": {"1": {"seconds": seconds}, "4": {"seconds": seconds}}},
        },
    }  # fmt: skip
    found: dict[str, Any] = json.loads(json.dumps(content))
    return found


def test_the_tables_say_what_the_numbers_say(content: dict[str, Any]) -> None:
    page = tables.page(content).splitlines()
    assert "| bakeoff | 80 (80 to 80, n=2) | 80.0% (80.0% to 80.0%, n=2) |  | 0 |" in page
    other = "| other | 30 (20 to 40, n=2) | 30.0% (20.0% to 40.0%, n=2) | 3.00 (2.00 to 4.00, n=2) | 2 |"
    assert page.count(other) == 1  # evaluation is without workers
    assert "- third: its process died" in page
    assert "| other | 160 | 1.5 | 3 (2 to 4, n=2) | - |" in page
    assert "| other | 50,000 | 3 (2 to 4, n=2) | 3 (2 to 4, n=2) | 5 |" in page
    assert "| bakeoff, side by side | 8 (n=2) | 8 (n=2) |" in page
    assert any("(at most 1e-03): other 2.0e-05." in line for line in page)


def test_a_part_that_was_not_measured_has_no_table(content: dict[str, Any]) -> None:
    content["measured"] = {}
    assert "##" not in tables.page(content)


def test_every_part_that_has_one_draws_its_picture(content: dict[str, Any]) -> None:
    names = [name for name, _ in plots.drawn(content["measured"])]
    assert names == ["training-resnet_20", "evaluation-resnet_20", "fixed", "data-resnet_20-best", "runs"]
