"""What a comparison says of whole, half-finished and odd studies, from folders that no training made."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bakeoff.record import Record, Status
from bakeoff.results import statistics
from bakeoff.results.comparison import Comparison, choose, compare, is_decided
from bakeoff.study import Study
from tests import made

BETTER = {"fixed_k5": 0.75}
FAST: dict[str, Any] = {"images": 100, "classes": 5}


def altered(record: Record, *, status: Status | None = None, **environment: Any) -> Record:
    return dataclasses.replace(
        record, status=status or record.status, environment={**record.environment, **environment}
    )


def summarised(record: Record, **summary: Any) -> Record:
    return dataclasses.replace(record, summary={**record.summary, **summary})


def of_arm(study: Study, name: str, found: Mapping[str, Record]) -> Iterator[tuple[str, Record]]:
    """Yield digest and record of an arm's runs."""
    arm = next(arm for arm in study.arms if arm.name == name)
    yield from ((recipe.digest, found[recipe.digest]) for _, _, recipe in study.runs(arm) if recipe.digest in found)


def scored(study: Study, values: Mapping[str, Mapping[int, float]], *, val: float = 0.5) -> dict[str, Record]:
    """Return finished records with these accuracies on test by arm and seed; other runs are missing."""
    found = {}
    for arm in study.arms:
        for _, seed, recipe in study.runs(arm):
            if (top1 := values.get(arm.name, {}).get(seed)) is not None:
                summary = {"val": {"top1": val}, "test": {"top1": top1}}
                found[recipe.digest] = Record(
                    folder=Path(f"{arm.name}-{seed}"), recipe=recipe, status="finished", rows=(), summary=summary,
                    environment={},
                )  # fmt: skip
    return found


def said(comparison: Comparison, *beginnings: str) -> None:
    """Check that the warnings begin with these texts, each, in this order."""
    assert len(comparison.warnings) == len(beginnings), comparison.warnings
    for warning, beginning in zip(comparison.warnings, beginnings, strict=True):
        assert warning.startswith(beginning), (warning, beginning)


# A whole study


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, dict[str, Record]]:
    study = made.study(contrasts=[["fixed_k5", "fixed_k3"], ["fixed_k3", "adaptive"]], seeds=5)
    return study, made.runs(study, tmp_path_factory.mktemp("whole"), top1=BETTER, **FAST)


def test_a_whole_study(whole: tuple[Study, dict[str, Record]]) -> None:
    study, found = whole
    comparison = compare(study, found)
    assert (comparison.split, comparison.unfinished, comparison.diverged) == ("test", 0, ())
    assert [score.name for score in comparison.arms] == ["none", "fixed_k3", "fixed_k5", "fixed_k7", "adaptive"]
    assert comparison.num_runs == 25
    control, best = comparison.control, comparison.arm("fixed_k5")
    assert (control.to_control, control.p_holm, control.better, control.separable) == (None, None, None, False)
    assert (best.rank, best.better, best.separable) == (1, 1.0, True)
    assert [score.separable for score in comparison.arms].count(True) == 1
    assert {score.rank for score in comparison.arms if score is not best} == {2}
    assert (control.params_m, control.macs_g, control.training_s) == (0.278324, 0.0408, 102.0)
    assert 700 < (control.images_per_s or 0) < 800
    with pytest.raises(KeyError):
        comparison.arm("fixed_k6")


def test_its_numbers_are_those_of_the_statistics(whole: tuple[Study, dict[str, Record]]) -> None:
    study, found = whole
    comparison = compare(study, found)
    by_name = {
        arm.name: {record.recipe.seed: record.summary["test"]["top1"] for _, record in of_arm(study, arm.name, found)}
        for arm in study.arms
    }
    ps = []
    for score in comparison.arms:
        assert score.top1 == by_name[score.name]
        assert score.mean == statistics.mean_interval(list(score.top1.values()))
        if score is not comparison.control:
            expected = statistics.common_difference(by_name[score.name], by_name["none"])
            assert score.to_control == expected
            assert expected is not None
            ps.append(expected.p)
            assert expected.sd is not None
            assert score.seeds_needed == statistics.seeds_needed(expected.estimate, expected.sd, among=4)
    assert [score.p_holm for score in comparison.arms[1:]] == statistics.holm(ps)
    assert comparison.floor == statistics.pooled_spread([list(values.values()) for values in by_name.values()])
    assert [(c.a, c.b) for c in comparison.contrasts] == [("fixed_k5", "fixed_k3"), ("fixed_k3", "adaptive")]
    assert comparison.contrasts[0].difference == statistics.common_difference(by_name["fixed_k5"], by_name["fixed_k3"])
    assert [c.p_holm for c in comparison.contrasts] == statistics.holm([c.difference.p for c in comparison.contrasts])


def test_equal_fingerprints_are_repeats_and_the_only_thing_said(whole: tuple[Study, dict[str, Record]]) -> None:
    comparison = compare(*whole)
    assert comparison.repeats == (("fixed_k3", "adaptive"),)
    said(comparison, "fixed_k3 and adaptive are one and the same network, trained alike")


def test_equal_networks_that_are_trained_in_another_way_are_no_repeats(tmp_path: Path) -> None:
    study = made.study(arms={"slow": {"lr": 0.01}, "same": {"model": "resnet_20"}}, changes=[])
    comparison = compare(study, made.runs(study, tmp_path, **FAST))
    assert [arm.name for arm in study.arms] == ["none", "slow"]
    assert comparison.repeats == ()
    assert comparison.arm("same") is comparison.arm("none")


def test_repeats_are_of_what_was_chosen(tmp_path: Path) -> None:
    """Two names of one network that ended with different learning rates differ in more than noise."""
    tries = {"try": {"lr": [0.1, 0.2]}}
    arms = {"k3": {"model": "ecanet20_fixed_k3", **tries}, "adaptive": {"model": "ecanet20_adaptive", **tries}}
    study = made.study(arms=arms)
    found = made.runs(study, tmp_path, **FAST)
    for score, best in ((study.arms[1], 0.1), (study.arms[2], 0.2)):
        for digest, record in of_arm(study, score.name, found):
            wins = record.recipe.optimizer.lr == best
            found[digest] = summarised(record, val={"top1": 0.9 if wins else 0.1})
    assert compare(study, found).repeats == ()


# What is missing, half done or gone wrong


def test_nothing_has_run_yet() -> None:
    comparison = compare(made.study(), {})
    assert (comparison.split, comparison.unfinished, comparison.floor, comparison.contrasts) == ("val", 15, None, ())
    for score in comparison.arms:
        assert (score.mean, score.bootstrap, score.to_control, score.rank, score.fingerprint) == (None,) * 5
    said(
        comparison, "The control, none, has no finished run", "15 of 15 runs are not", "Fewer than 3 seeds, so no rank"
    )


def test_missing_half_and_running_are_unfinished(tmp_path: Path) -> None:
    study = made.study()
    missing, half = [("fixed_k3", 0), ("fixed_k3", 1)], [("fixed_k5", 2)]
    found = made.runs(study, tmp_path, missing=missing, half=half, **FAST)
    digest, record = next(of_arm(study, "fixed_k7", found))
    found[digest] = altered(record, status="running")
    comparison = compare(study, found)
    assert comparison.unfinished == 4
    assert [len(score.top1) for score in comparison.arms] == [3, 1, 2, 2, 3]
    assert [len(score.runs) for score in comparison.arms] == [3, 1, 3, 3, 3]
    assert [score.rank is None for score in comparison.arms] == [False, True, True, True, False]
    alone = comparison.arm("fixed_k3")
    assert alone.to_control is not None
    assert (alone.to_control.n, alone.to_control.p, alone.p_holm, alone.seeds_needed) == (1, None, None, None)
    assert not alone.separable
    said(
        comparison, "4 of 15 runs are not finished", "Fewer than 3 seeds, so no rank: fixed_k3, fixed_k5, fixed_k7.",
        "fixed_k3 and adaptive are one",
    )  # fmt: skip


def test_a_diverged_run_counts_nowhere_and_is_no_longer_to_be_run(tmp_path: Path) -> None:
    study = made.study()
    comparison = compare(study, made.runs(study, tmp_path, diverged=[("fixed_k7", 1)], **FAST))
    assert (comparison.diverged, comparison.unfinished) == ((("fixed_k7", 1),), 0)
    assert sorted(comparison.arm("fixed_k7").top1) == [0, 2]
    said(comparison, "fixed_k7 diverged with seed 1", "Fewer than 3 seeds", "fixed_k3 and adaptive")


def test_a_control_that_diverged_leaves_nothing_to_compare_with(tmp_path: Path) -> None:
    study = made.study(contrasts=[["fixed_k5", "fixed_k3"], ["fixed_k5", "none"]])
    gone = [("none", seed) for seed in range(3)]
    comparison = compare(study, made.runs(study, tmp_path, top1=BETTER, diverged=gone, **FAST))
    assert all(score.to_control is None and score.p_holm is None for score in comparison.arms)
    assert [score.better for score in comparison.arms] == [None] * 5
    assert [(c.a, c.b) for c in comparison.contrasts] == [("fixed_k5", "fixed_k3")]
    assert comparison.arm("fixed_k5").rank == 1
    said(
        comparison, "The control, none, has no finished run", *[f"none diverged with seed {i}" for i in range(3)],
        "Fewer than 3 seeds, so no rank: none.", "fixed_k3 and adaptive",
    )  # fmt: skip


def test_a_difference_is_of_the_seeds_that_both_have() -> None:
    study = made.study(seeds=[0, 1, 2, 3], contrasts=[["fixed_k3", "fixed_k5"]])
    values = {
        "none": {0: 0.50, 1: 0.60, 2: 0.70},
        "fixed_k3": {1: 0.61, 2: 0.73, 3: 0.99},
        "fixed_k5": {0: 0.2},
    }
    comparison = compare(study, scored(study, values))
    between = comparison.arm("fixed_k3").to_control
    assert between is not None
    assert (between.n, between.estimate) == (2, pytest.approx(0.02))
    assert comparison.arm("fixed_k3").better == pytest.approx(8 / 9)  # of all pairs, seeds alike or not
    assert comparison.contrasts == ()


def test_differences_without_any_spread_are_not_called_differences() -> None:
    study = made.study(seeds=2)
    comparison = compare(study, scored(study, {"none": {0: 0.5, 1: 0.6}, "fixed_k3": {0: 0.55, 1: 0.65}}))
    score = comparison.arm("fixed_k3")
    assert score.to_control is not None
    assert (score.to_control.p, score.p_holm, score.separable, score.seeds_needed) == (None, None, False, None)


HALF = st.sampled_from(["missing", "half", "diverged", "running", "finished", "no test", "bare", "empty"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(HALF, min_size=18, max_size=18), st.booleans())
def test_no_study_is_too_unfinished_to_be_compared(states: list[str], tries: bool) -> None:
    arms = {"a": {"lr": 0.2}, "b": {"lr": 0.3}, "twin": {"lr": 0.3}}
    if tries:
        arms = {"a": {"try": {"lr": [0.2, 0.3]}}, "b": {"model": "resnet_32", "try": {"lr": [0.3, 0.4, 0.5]}}}  # type: ignore[dict-item]
    study = made.study(arms=arms, changes=[], contrasts=[["a", "b"], ["b", "none"]])
    found = {}
    for recipe, state in zip(study.recipes().values(), itertools.cycle(states)):
        status: dict[str, Status] = {"half": "interrupted", "diverged": "diverged", "running": "running"}
        summary = {"val": {"top1": 0.5 + recipe.optimizer.lr / 10 + recipe.seed / 100}, "test": {"top1": 0.5}}
        if state in status or state == "empty":
            summary = {}
        if state == "no test":
            summary.pop("test")
        environment = {} if state == "bare" else {"versions": {"torch": "2"}, "commit": state}
        if state != "missing":
            found[recipe.digest] = Record(
                folder=Path(recipe.digest[:8]), recipe=recipe, status=status.get(state, "finished"), rows=(),
                summary=summary, environment=environment,
            )  # fmt: skip
    comparison = compare(study, found)
    assert len(comparison.arms) == len(study.arms)
    assert comparison.unfinished == len(study.recipes()) - sum(
        record.status in ("finished", "diverged") for record in found.values()
    )
    assert len(set(comparison.warnings)) == len(comparison.warnings)
    for score in comparison.arms:
        assert (score.mean is None) == (not score.top1)
        assert score.rank is None or len(score.top1) >= 3


# Which split


def test_without_test_everywhere_it_is_validation(tmp_path: Path) -> None:
    study = made.study()
    comparison = compare(study, made.runs(study, tmp_path, test=False, **FAST))
    assert comparison.split == "val"
    assert comparison.warnings[-1].startswith("Accuracy is of validation, which also chose each run's best epoch: test")


def test_one_finished_run_without_test_brings_all_to_validation() -> None:
    study = made.study()
    found = scored(study, {arm.name: {0: 0.6, 1: 0.6, 2: 0.6} for arm in study.arms}, val=0.5)
    assert compare(study, found).split == "test"
    digest, record = next(of_arm(study, "adaptive", found))
    found[digest] = dataclasses.replace(record, summary={"val": {"top1": 0.5}})
    comparison = compare(study, found)
    assert comparison.split == "val"
    assert {value for score in comparison.arms for value in score.top1.values()} == {0.5}


def test_runs_that_held_nothing_out_are_compared_on_test_as_far_as_it_is_read() -> None:
    study = made.study(base={"model": "resnet_20", "epochs": 5, "protocol": "paper"})
    found = scored(study, {arm.name: {0: 0.6, 1: 0.7, 2: 0.6} for arm in study.arms})
    found = {digest: dataclasses.replace(r, summary={"test": r.summary["test"]}) for digest, r in found.items()}
    unread = [digest for digest, _ in of_arm(study, "fixed_k3", found)]
    found |= {digest: dataclasses.replace(found[digest], summary={}) for digest in unread}
    comparison = compare(study, found)
    assert comparison.split == "test"
    assert [len(score.top1) for score in comparison.arms] == [3, 0, 3, 3, 3]
    said(comparison, "Fewer than 3 seeds, so no rank: fixed_k3.")


def test_a_second_look_at_test_is_named(whole: tuple[Study, dict[str, Record]]) -> None:
    study, found = whole
    digest, record = list(of_arm(study, "fixed_k5", found))[3]
    looks = [*record.summary["test_reads"], {"at": "later"}]
    comparison = compare(study, found | {digest: summarised(record, test_reads=looks)})
    assert comparison.warnings[-1] == "Test was read more than once by fixed_k5 with seed 3."


def test_mixtures_of_machines_and_code_are_named(whole: tuple[Study, dict[str, Record]]) -> None:
    study, found = whole
    (one, a), (two, b), (three, c) = itertools.islice(of_arm(study, "none", found), 3)
    odd = {
        one: altered(a, hardware="Another processor", commit="fedcba", threads=2),
        two: altered(b, precision="float32", versions={"torch": "2.16.0"}),
        three: dataclasses.replace(c, environment={}),  # a damaged folder is no version of its own
    }
    comparison = compare(study, found | odd)
    said(
        comparison, "fixed_k3 and adaptive", "Runs differ in hardware: A processor, 2 cores, Another processor.",
        "Runs differ in precision: bf16, float32.", "Runs differ in threads: 1, 2.", "Runs differ in commit: ",
        "Runs were made by different versions of torch: 2.15.0, 2.16.0.",
    )  # fmt: skip


def test_the_gravest_is_said_first(tmp_path: Path) -> None:
    study = made.study(arms={"a": {"epochs": 9}, "b": {"epochs": 9}}, changes=[])
    gone = [("none", 0), ("none", 1), ("none", 2)]
    found = made.runs(study, tmp_path, test=False, diverged=gone, half=[("a", 0)], **FAST)
    digest, record = list(of_arm(study, "a", found))[1]
    found[digest] = altered(summarised(record, test_reads=[{}, {}]), hardware="Another")
    said(
        compare(study, found), "The control, none, has no finished run", *["none diverged"] * 3, "1 of 6 runs are not",
        "Fewer than 3 seeds", "b is the same recipe as a", "Not comparable: epochs differs",
        "Accuracy is of validation", "Test was read more than once by a with seed 1", "Runs differ in hardware",
    )  # fmt: skip


# Arms that choose


def trying() -> Study:
    arms = {"k3": {"model": "ecanet20_fixed_k3", "try": {"lr": [0.1, 0.2, 0.4]}}}
    return made.study(arms=arms, base={"model": "resnet_20", "epochs": 5, "try": {"lr": [0.1, 0.3, 0.9]}})


def tried(study: Study, val: Mapping[float, Mapping[int, float | str | None]], *, arm: int = 1) -> dict[str, Record]:
    """Return records of one arm: by learning rate and seed an accuracy on validation, or a status.

    On test it is the other way round: who chose by test would choose the worst.
    """
    found = {}
    for _, seed, recipe in study.runs(study.arms[arm]):
        top1 = val.get(recipe.optimizer.lr, {}).get(seed)
        if top1 is None:
            continue
        status: Any = top1 if isinstance(top1, str) else "finished"
        summary = {} if isinstance(top1, str) else {"val": {"top1": top1}, "test": {"top1": 1 - top1}}
        found[recipe.digest] = Record(
            folder=Path("x"), recipe=recipe, status=status, rows=(), summary=summary, environment={}
        )
    return found


FLAT = dict.fromkeys(range(3), 0.5)


def test_validation_chooses_and_never_test() -> None:
    study = trying()
    found = tried(study, {0.1: FLAT, 0.2: {0: 0.5, 1: 0.6, 2: 0.6}, 0.4: {0: 0.9, 1: 0.1, 2: 0.1}})
    assert choose(study, study.arms[1], found) == 1
    assert is_decided(study, study.arms[1], found)
    score = compare(study, found).arm("k3")
    assert [(trial.name, trial.chosen) for trial in score.trials] == [
        ("lr=0.1", False), ("lr=0.2", True), ("lr=0.4", False),
    ]  # fmt: skip
    assert score.trials[2].val_top1 == {0: 0.9, 1: 0.1, 2: 0.1}
    assert score.top1 == {0: 0.5, 1: 0.4, 2: 0.4}
    assert {record.recipe.optimizer.lr for record in score.runs.values()} == {0.2}


def test_a_trial_that_diverged_is_the_worst() -> None:
    study = trying()
    high: dict[int, float | str | None] = {0: 0.9, 1: 0.9, 2: "diverged"}
    found = tried(study, {0.1: {0: 0.61, 1: 0.61, 2: 0.61}, 0.2: high, 0.4: dict.fromkeys(range(3), "diverged")})
    assert choose(study, study.arms[1], found) == 0  # 0.61 against (0.9 + 0.9 + 0) / 3
    assert is_decided(study, study.arms[1], found)
    assert compare(study, found).arm("k3").trials[1].val_top1 == {0: 0.9, 1: 0.9, 2: 0.0}
    assert compare(study, found).diverged == ()  # of the chosen trial, none


def test_trials_are_compared_on_the_seeds_that_all_have() -> None:
    study = trying()
    lucky = {0: 0.5, 1: 0.9, 2: 0.9}  # alone with seeds 1 and 2
    found = tried(study, {0.1: lucky, 0.2: {0: 0.6}, 0.4: {0: 0.4}})
    assert choose(study, study.arms[1], found) == 1
    assert not is_decided(study, study.arms[1], found)
    comparison = compare(study, found)
    assert "Validation has not chosen yet among what was tried by none, k3." in comparison.warnings


def test_the_first_is_chosen_of_equals_and_while_nothing_is_known() -> None:
    study = trying()
    assert choose(study, study.arms[1], {}) == 0
    assert choose(study, study.arms[1], tried(study, {0.2: FLAT, 0.4: FLAT})) == 0
    assert choose(study, study.arms[1], tried(study, {0.1: FLAT, 0.2: FLAT, 0.4: FLAT})) == 0


@pytest.mark.parametrize("ended", ["interrupted", "running", None])
def test_nothing_is_decided_before_every_trial_has_ended(ended: str | None) -> None:
    study = trying()
    found = tried(study, {0.1: FLAT, 0.2: FLAT, 0.4: {0: 0.5, 1: 0.5, 2: ended}})
    assert not is_decided(study, study.arms[1], found)
    assert is_decided(made.study(), made.study().arms[0], {})  # nothing to decide


def test_validation_that_also_chose_the_trial_says_so() -> None:
    study = trying()
    found = tried(study, {0.1: FLAT, 0.2: FLAT, 0.4: FLAT}) | tried(study, {0.1: FLAT, 0.3: FLAT, 0.9: FLAT}, arm=0)
    found = {d: dataclasses.replace(r, summary={"val": r.summary["val"]}) for d, r in found.items()}
    assert (
        compare(study, found)
        .warnings[-1]
        .startswith("Accuracy is of validation, which also chose each run's best epoch and each arm's trial")
    )


# Names


def test_a_contrast_may_use_any_name_of_an_arm() -> None:
    base = {"model": "resnet_20", "lr": 0.1}
    axes = made.study(base=base, arms={}, axes={"lr": [0.1, 0.2]}, changes=["lr"], contrasts=[["lr=0.2", "none"]])
    assert [arm.name for arm in axes.arms] == ["lr=0.1", "lr=0.2"]
    values = {"lr=0.1": {0: 0.5, 1: 0.6}, "lr=0.2": {0: 0.6, 1: 0.8}}
    comparison = compare(axes, scored(axes, values))
    assert [(c.a, c.b, round(c.difference.estimate, 3)) for c in comparison.contrasts] == [("lr=0.2", "lr=0.1", 0.15)]
    assert comparison.arm("none") is comparison.control


def test_a_contrast_of_an_arm_with_itself_under_two_names_says_nothing() -> None:
    study = made.study(arms={"a": {"lr": 0.7}, "b": {"lr": 0.7}}, changes=[], contrasts=[["a", "b"]])
    assert compare(study, scored(study, {"a": {0: 0.5, 1: 0.6}})).contrasts == ()


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "=1+1", "分类 | $x_1$", "two\nlines"])
def test_names_are_data(name: str) -> None:
    study = made.study(arms={name: {"lr": 0.7}, "b": {"lr": 0.3}}, changes=[], contrasts=[[name, "b"]], control="控")
    comparison = compare(study, scored(study, {arm.name: {0: 0.5, 1: 0.6} for arm in study.arms}))
    assert comparison.arm(name).name == name
    assert comparison.contrasts[0].a == name
    assert any(name in warning for warning in comparison.warnings)


def test_pictures_that_changed_between_runs_are_told(whole: tuple[Study, dict[str, Record]]) -> None:
    """Own pictures are named by where they lie: what lies there may change, and no recipe says so."""
    study, found = whole
    same = {digest: summarised(record, data_fingerprint="a") for digest, record in found.items()}
    last = next(reversed(same))
    other = same | {last: summarised(found[last], data_fingerprint="b")}
    told = "Runs saw other pictures: cifar100 has changed."
    assert [told in compare(study, records).warnings for records in (found, same, other)] == [False, False, True]
