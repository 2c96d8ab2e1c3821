"""The answer claims what the statistics carry, and not one word more."""

import itertools
import string
from pathlib import Path

from bakeoff.reports.answer import SENTENCES, sentence
from bakeoff.reports.words import in_language
from bakeoff.results.comparison import Comparison
from tests.reports.studies import ARMS, compared, every, exactly

CLAIMS = ("beats", "better than", "is worse", "Worse than")


def english(comparison: Comparison) -> str:
    return sentence(comparison, words=in_language("en"))


def test_a_winner_has_its_interval_first(tmp_path: Path) -> None:
    said = english(exactly(tmp_path, {"none": [0.60, 0.61, 0.62], "k5": [0.63, 0.641, 0.649]}))
    assert said == "+3.00 points on test (95 % interval +2.75 to +3.25, n = 3): k5 beats none."


def test_several_winners_and_losers_are_named(tmp_path: Path) -> None:
    jitter = (0.0, 0.001, -0.001, 0.002, -0.002)
    top1 = {name: [mean + j for j in jitter] for name, mean in (("a", 0.65), ("b", 0.652), ("c", 0.5))}
    said = english(exactly(tmp_path, {"none": [0.6] * 5, **top1}))
    assert said.endswith(
        "b beats none. Also better than none: a. Which of them is best is within noise. Worse than none: c."
    )


def test_losers_alone(tmp_path: Path) -> None:
    said = english(exactly(tmp_path, {"none": [0.6] * 3, "a": [0.50, 0.501, 0.502], "b": [0.55, 0.551, 0.552]}))
    assert said.startswith(
        "−9.90 points on test (95 % interval −10.15 to −9.65, n = 3): a is worse than none, and no arm"
    )
    assert said.endswith("Also worse than none: b.")


def test_noise_is_called_noise_and_says_what_would_settle_it(tmp_path: Path) -> None:
    top1 = {"none": [0.60, 0.61, 0.60], "k3": [0.61, 0.60, 0.60], "k5": [0.60, 0.62, 0.605]}
    said = english(exactly(tmp_path, top1))
    assert "no arm differs from none beyond noise; the largest difference is k5's" in said
    assert "seeds an arm would settle" in said
    assert not any(claim in said for claim in CLAIMS)


def test_an_interval_that_leaves_out_zero_is_explained_where_correction_takes_it_back(tmp_path: Path) -> None:
    top1 = {"none": [0.6] * 3, "k5": [0.61, 0.613, 0.616], **{f"x{i}": [0.59, 0.6, 0.61 + i / 1000] for i in range(4)}}
    said = english(exactly(tmp_path, top1))
    assert "corrected for 5 comparisons it is within noise" in said
    assert not any(claim in said for claim in CLAIMS)


def test_two_arms_alone_are_spoken_of_as_two(tmp_path: Path) -> None:
    said = english(exactly(tmp_path, {"none": [0.60, 0.61, 0.60], "k3": [0.61, 0.60, 0.60]}))
    assert "k3 does not differ from none beyond noise" in said
    assert "no arm" not in said


def test_one_seed_shows_nothing(tmp_path: Path) -> None:
    said = english(exactly(tmp_path, {"none": [0.5], "k3": [0.9]}))
    assert said == ("No answer: one seed shows nothing. k3 is +40.00 points on test from none, without an interval.")


def test_two_seeds_claim_nothing_however_large_the_difference(tmp_path: Path) -> None:
    said = english(exactly(tmp_path, {"none": [0.5, 0.5], "k3": [0.9, 0.9001]}))
    assert "With 2 seeds nothing is claimed." in said
    assert not any(claim in said for claim in CLAIMS)


def test_equal_differences_have_no_interval_and_no_claim(tmp_path: Path) -> None:
    said = english(exactly(tmp_path, {"none": [0.5, 0.5, 0.5], "k3": [0.6, 0.6, 0.6]}))
    assert said.startswith("+10.00 points on test (the same in all 3 seeds, so without an interval)")
    assert not any(claim in said for claim in CLAIMS)


def test_a_network_that_is_the_controls_own_cannot_beat_it(tmp_path: Path) -> None:
    arms = {"adaptive": {"model": "ecanet20_adaptive"}}  # the made fingerprint of both is one
    study = {"base": {"model": "ecanet20_fixed_k3", "epochs": 5}, "control": "k3", "arms": arms, "seeds": 4}
    said = english(compared(tmp_path, study=study, top1={"k3": 0.4, "adaptive": 0.8}, images=500))
    assert "one and the same network" in said
    assert not any(claim in said for claim in CLAIMS)


def test_nothing_finished_yet(tmp_path: Path) -> None:
    assert english(compared(tmp_path, missing=every(ARMS, 3))) == "No answer yet: none of the 15 runs has finished."


def test_all_diverged(tmp_path: Path) -> None:
    assert english(compared(tmp_path, diverged=every(ARMS, 3))) == "No answer: no run finished, and 15 diverged."


def test_the_control_is_missing(tmp_path: Path) -> None:
    said = english(compared(tmp_path, missing=every(["none"], 3), top1={"fixed_k5": 0.8}))
    assert said.startswith("No answer yet: the control, none, has no finished run. fixed_k5 stands at ")
    assert said.endswith("Provisional: 3 of 15 runs are not finished.")


def test_only_the_control_is_there(tmp_path: Path) -> None:
    said = english(compared(tmp_path, missing=every(ARMS[1:], 3)))
    assert "and no other arm has a finished run" in said


def test_no_seed_in_common(tmp_path: Path) -> None:
    said = english(compared(tmp_path, missing=[("none", 0), ("none", 1), *((arm, 2) for arm in ARMS[1:])]))
    assert "no arm has a seed in common with none" in said


def test_validation_is_not_called_test(tmp_path: Path) -> None:
    said = english(compared(tmp_path, test=False))
    assert " on validation " in said
    assert "on test" not in said


def test_names_are_repeated_letter_by_letter(tmp_path: Path) -> None:
    name = "{0} {arm!r} % <b>"
    said = english(exactly(tmp_path, {"{n}": [0.5, 0.51, 0.5], name: [0.7, 0.712, 0.705]}))
    assert f"{name} beats {{n}}." in said


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def test_both_languages_say_the_same_things() -> None:
    en, zh = SENTENCES["en"], SENTENCES["zh"]
    assert en.keys() == zh.keys()
    assert {key: fields(text) - {"split"} for key, text in en.items()} == {
        key: fields(text) - {"split"} for key, text in zh.items()
    }
    wide = [key for key, text in zh.items() if text and not any(letter > "\u3000" for letter in text)]
    assert not wide


def test_every_half_finished_study_has_an_answer_without_a_hole(tmp_path: Path) -> None:
    study = {"arms": {"k5": {"model": "ecanet20_fixed_k5"}}, "seeds": 2}
    cases = itertools.product(("missing", "diverged", "half"), (every(["none"], 2), every(["k5"], 2), [("k5", 1)]))
    for i, (how, which) in enumerate(cases):
        comparison = compared(tmp_path / str(i), study=study, images=20, **{how: which})
        for language in ("en", "zh"):
            said = sentence(comparison, words=in_language(language))
            assert said
            assert not set("{}") & set(said)
