"""Studies: what follows from a file, and what no file may say."""

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakeoff import library
from bakeoff.errors import BakeoffError, DataError, RecipeError
from bakeoff.recipe import Recipe, nest, overlay, resolve
from bakeoff.study import Study, load, restore
from bakeoff.study.expand import _validated, differences, expand
from bakeoff.study.judge import MOST_RUNS
from bakeoff.study.schema import StudyFile

BASE = {"model": "resnet_20", "epochs": 5, "lr": 0.1}
FILE = {"question": "Which?", "base": BASE, "arms": {"slow": {"lr": 0.01}}, "seeds": 2}


def study(*typed: str, **changes: Any) -> Study:
    content = {**FILE, **changes}
    if "axes" in changes:
        content.pop("arms")
    return expand(StudyFile.model_validate(content), name="mine", where="mine", typed=typed)


def of(content: object, *, name: str = "mine") -> Study:
    """Return the study of what a file holds, whatever that is."""
    return expand(_validated(content, where="mine"), name=name, where="mine")


# What follows from a file

LAYERS: dict[str, list[Any]] = {
    "lr": [0.1, 0.3, 1],
    "optimizer.weight_decay": [0.0, 0.1],
    "model": ["resnet_20", "resnet_32", "ecanet20_fixed_k5"],
    "optimizer": [{"name": "adam", "lr": 1e-3}, {"decay_norms_and_biases": True}, "adamw"],
    "epochs": [5, 9],
    "mixup": [0.0, 0.2],
    "augment": [{"flip": "random", "cutout": 8}, {"policy": "trivial"}],
}
layers = st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in LAYERS.items()})
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
typed_settings = st.lists(st.sampled_from(["data.limit=2000", "clip_norm=1", "seeds=4", "batch=64"]), max_size=3)


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    """Draw studies that are valid, with names in any script, arms or axes, some with repeats."""
    content = {"question": draw(names), "base": {**BASE, **draw(layers)}, "seeds": draw(st.integers(1, 3))}
    if draw(st.booleans()):
        content["control"], *arms = draw(st.lists(names, min_size=2, max_size=5, unique=True))
        content["arms"] = {name: draw(layers) for name in arms}
    else:
        chosen = draw(
            st.lists(st.sampled_from(["lr", "model", "epochs", "mixup"]), min_size=1, max_size=3, unique=True)
        )
        content["axes"] = {key: LAYERS[key] for key in chosen}
    return content


@given(files(), typed_settings)
@settings(max_examples=60)
def test_a_study_is_what_its_file_says(content: dict[str, Any], typed: list[str]) -> None:
    file = StudyFile.model_validate(copy.deepcopy(content))
    made = expand(file, name="drawn", where="drawn", typed=typed)
    assert file == StudyFile.model_validate(content)  # left as it was
    again = expand(file, name="drawn", where="drawn", typed=typed)
    assert (again, list(again.recipes())) == (made, list(made.recipes()))
    assert restore(json.loads(json.dumps(made.to_json())), where="x") == made
    _control_is_first(made, content)
    _arms_are_the_base_and_their_layer(made, content, typed)
    _seeds_are_paired(made)


def _control_is_first(made: Study, content: dict[str, Any]) -> None:
    control = made.control
    assert content.get("control", "base") in (control.name, *control.repeated)
    assert control.changed == {}
    for arm in made.arms[1:]:
        assert arm.changed == differences(control.trials[0].recipe, arm.trials[0].recipe)
        assert arm.changed


def _arms_are_the_base_and_their_layer(made: Study, content: dict[str, Any], typed: list[str]) -> None:
    base = overlay(resolve(content["base"]["model"]), {"threads": 1}, where="x")
    for arm in made.arms:
        layer = dict(arm.at) if content.get("axes") else content["arms"].get(arm.name, {})
        expected = base
        for part in (content["base"], layer):
            expected = overlay(expected, nest(part), where="x")
        for text in typed:
            if not text.startswith("seeds"):
                key, _, value = text.partition("=")
                expected = overlay(expected, nest({key: int(value)}), where="x")
        assert arm.trials[0].recipe == expected.model_copy(update={"seed": made.seeds[0]})


def _seeds_are_paired(made: Study) -> None:
    digests = [recipe.digest for arm in made.arms for _, _, recipe in made.runs(arm)]
    assert len(set(digests)) == len(digests) == len(made.arms) * len(made.seeds)
    assert set(made.recipes()) == set(digests)
    for arm in made.arms:
        runs = list(made.runs(arm))
        assert [seed for _, seed, _ in runs] == [recipe.seed for _, _, recipe in runs] == list(made.seeds)
        assert [recipe for _, _, recipe in runs] == [recipe for _, recipe in made.runs_of(arm, arm.trials[0])]
        assert len({recipe.model_copy(update={"seed": 0}).digest for _, _, recipe in runs}) == 1


def test_half_finished_studies_have_all_arms() -> None:
    made = study(arms={"a": {"lr": 0.2}, "b": {"lr": 0.3}}, seeds=[7, 3])
    assert [recipe.seed for recipe in made.recipes().values()] == [7, 7, 7, 3, 3, 3]


def test_one_thread_a_run_unless_the_study_says_otherwise() -> None:
    assert study().control.trials[0].recipe.threads == 1
    assert study(base={**BASE, "threads": 2}).control.trials[0].recipe.threads == 2
    assert study("threads=auto").control.trials[0].recipe.threads == "auto"


def test_axes_are_a_product_and_the_control_is_one_of_their_points() -> None:
    made = study(axes={"lr": [0.01, 0.1], "model": {"small": "resnet_20", "large": "resnet_32"}})
    assert [arm.name for arm in made.arms] == [
        "lr=0.1, small", "lr=0.01, small", "lr=0.01, large", "lr=0.1, large",
    ]  # fmt: skip
    assert made.control.at == {"lr": 0.1, "model": "resnet_20"}
    assert made.control.repeated == ("base",)
    assert made.warnings == ("Arms differ from the control in more than one setting: lr=0.01, large.",)


def test_a_base_beside_the_axes_is_an_arm_of_its_own() -> None:
    made = study(axes={"lr": [0.2, 0.3]})
    assert [(arm.name, dict(arm.at)) for arm in made.arms] == [
        ("base", {}),
        ("lr=0.2", {"lr": 0.2}),
        ("lr=0.3", {"lr": 0.3}),
    ]


def test_a_point_of_an_axis_may_be_a_whole_section() -> None:
    axes = {"optimizer": {"sgd": {"name": "sgd", "lr": 0.1}, "adam": {"name": "adam", "lr": 1e-3}}}
    made = study(axes=axes)
    adam = next(arm for arm in made.arms if arm.name == "adam").trials[0].recipe.optimizer
    assert (adam.name, adam.lr, adam.weight_decay) == ("adam", 1e-3, 0.0)


def test_numbers_that_are_written_alike_keep_different_names() -> None:
    values = [0.1234567, 0.1234568, 0.5, 1e-3]
    assert [arm.name for arm in study(axes={"lr": values}).arms][1:] == [
        "lr=0.1234567", "lr=0.1234568", "lr=0.5", "lr=0.001",
    ]  # fmt: skip


def test_an_arm_that_repeats_another_is_named_and_merged() -> None:
    made = study(arms={"slow": {"lr": 0.01}, "slower": {"optimizer.lr": 0.01}, "as is": {}})
    assert [(arm.name, arm.repeated) for arm in made.arms] == [("base", ("as is",)), ("slow", ("slower",))]
    assert made.warnings == (
        "slower is the same recipe as slow: run once, shown once.",
        "as is is the same recipe as base: run once, shown once.",
    )
    assert len(made.recipes()) == 4


def test_own_cards_give_each_model_its_own_recipe() -> None:
    arms = {
        "modern": {"model": "convnext_tiny"},
        "wide": {"model": {"name": "resnet_32", "width": 24}},
        "slow": {"lr": 0.01},
    }
    plain, own = (study(arms=arms, own_cards=cards, seeds=1) for cards in (False, True))
    modern = next(own.runs(own.arms[1]))[2]
    card = resolve("convnext_tiny")
    assert modern.optimizer.name == "adamw" == card.optimizer.name
    assert modern == overlay(card, {"epochs": 5, "optimizer": {"lr": 0.1}, "threads": 1}, where="x")
    assert plain.arms[1].trials[0].recipe.optimizer.name == "sgd"
    assert own.arms[2].trials[0].recipe.model.options == {"width": 24}
    assert own.arms[3] == plain.arms[3]  # it names no model


def test_own_cards_on_an_axis_of_an_option() -> None:
    made = study(axes={"model.width": [16, 24]}, own_cards=True)
    assert [arm.trials[0].recipe.model.name for arm in made.arms] == ["resnet_20"] * 3


def test_an_arm_may_name_a_card_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("clip_norm: 3.0\nepochs: 99\n")
    made = study(
        arms={"file": {"recipe": str(file)}, "card": {"recipe": "modern"}}, base={"model": "resnet_20", "epochs": 5}
    )
    assert [arm.trials[0].recipe.clip_norm for arm in made.arms][1] == 3.0
    assert {arm.trials[0].recipe.epochs for arm in made.arms} == {5}  # the base stands over the card
    assert made.arms[2].trials[0].recipe.optimizer.name == "adamw"


# What is tried


def test_an_arm_tries_what_it_says_else_what_the_base_tries() -> None:
    base = {**BASE, "try": {"lr": [0.1, 0.3]}}
    arms = {"deep": {"model": "resnet_32"}, "adam": {"optimizer": "adam", "try": {"lr": [1e-3, 1e-2]}}}
    made = study(base=base, arms={**arms, "once": {"lr": 0.5, "try": {}}})
    tried = {arm.name: [(trial.name, trial.recipe.optimizer.lr) for trial in arm.trials] for arm in made.arms}
    assert tried == {
        "base": [("lr=0.1", 0.1), ("lr=0.3", 0.3)],
        "deep": [("lr=0.1", 0.1), ("lr=0.3", 0.3)],
        "adam": [("lr=0.001", 1e-3), ("lr=0.01", 1e-2)],
        "once": [("", 0.5)],
    }
    assert "Not comparable: arms have different numbers of trials (base 2, deep 2, adam 2, once 1)." in made.warnings
    assert {trial.recipe.model.name for trial in made.arms[1].trials} == {"resnet_32"}


def test_what_is_tried_is_a_product_on_axes_too() -> None:
    base = {**BASE, "try": {"lr": [0.1, 0.3], "momentum": [0.5, 0.9]}}
    made = study(base=base, axes={"model": ["resnet_20", "resnet_32"]})
    assert [len(arm.trials) for arm in made.arms] == [4, 4]
    assert made.arms[0].trials[1].name == "lr=0.1, momentum=0.9"
    assert made.warnings == ()
    assert len(made.recipes()) == 16


@pytest.mark.parametrize(
    "tries", [{"lr": 0.1}, {"lr": []}, [0.1], "lr", None, {"lr": [0.1, 0.1]}, {"lr": {"a": 0.1}}, {3: 4}]
)
def test_a_try_is_settings_with_lists(tries: object) -> None:
    for place, changes in (("slow", {"arms": {"slow": {"try": tries}}}), ("base", {"base": {**BASE, "try": tries}})):
        with pytest.raises(RecipeError, match=f"mine: {place}: try: found .*each with a list of different values"):
            study(**changes)


@pytest.mark.parametrize("layer", [{"lr": 0.3}, {"optimizer": "adam"}, {"optimizer": {"name": "adam"}}])
def test_an_arm_that_sets_what_the_base_tries_needs_a_try_of_its_own(layer: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"mine: other: found optimizer.*expected a `try` of the arm's own"):
        study(base={**BASE, "try": {"lr": [0.1, 0.3]}}, arms={"other": layer})


def test_nothing_is_tried_where_nothing_is_held_out() -> None:
    with pytest.raises(RecipeError, match=r"mine: slow: try: found protocol=paper; expected protocol=dev"):
        study(arms={"slow": {"try": {"lr": [0.1, 0.2]}}}, base={**BASE, "protocol": "paper"})


# What is typed


def test_typed_settings_reach_all_arms() -> None:
    made = study("epochs=8", "data.limit=100", "optimizer.weight_decay=0.5", "seeds=[5,3]")
    for arm in made.arms:
        recipe = arm.trials[0].recipe
        assert (recipe.epochs, recipe.data.limit, recipe.optimizer.weight_decay, recipe.seed) == (8, 100, 0.5, 5)
    assert made.seeds == (5, 3)
    assert made.scaled == {
        "epochs": (5, 8), "data.limit": (None, 100), "optimizer.weight_decay": (0.0005, 0.5), "seeds": ([0, 1], [5, 3]),
    }  # fmt: skip


def test_typed_settings_make_another_folder_whatever_their_order() -> None:
    one, other = study("epochs=8", "batch=64"), study("batch=64", "epochs=8")
    assert one.folder_name == other.folder_name != study().folder_name == "mine"
    assert one.folder_name != study("epochs=9", "batch=64").folder_name
    assert study("epochs=9", "epochs=8").folder_name == study("epochs=8").folder_name
    assert study("epochs=9", "epochs=8").control.trials[0].recipe.epochs == 8


@pytest.mark.parametrize("typed", [
    "lr=0.5", "optimizer.lr=0.5", "optimizer=adam", "optimizer.name=adam", "optimizer={lr: 0.1, name: adam}",
])  # fmt: skip
def test_what_the_arms_differ_in_cannot_be_typed(typed: str) -> None:
    for changes in ({}, {"axes": {"lr": [0.1, 0.2]}}, {"arms": {"a": {"try": {"lr": [0.1, 0.2]}}}}):
        with pytest.raises(RecipeError, match=r"command line: found optimizer.* which is what the arms differ in"):
            study(typed, **changes)


def test_options_of_models_that_differ_can_be_typed_but_not_their_names() -> None:
    arms = {"deep": {"model": "resnet_32"}}
    assert [arm.trials[0].recipe.model.options for arm in study("model.width=8", arms=arms).arms] == [{"width": 8}] * 2
    for typed in ("model=resnet_44", "model.name=resnet_44"):
        with pytest.raises(RecipeError, match="what the arms differ in"):
            study(typed, arms=arms)


@pytest.mark.parametrize("seeds", ["0", "abc", "[1,1]", "-1", "101", "1.5", "true", "[]", "[1.5]", "[-1]", "[true]"])
def test_seeds_are_a_number_or_a_list(seeds: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^seeds: found .*; expected a number of seeds from 1 to 100, or a list"):
        study(f"seeds={seeds}")
    path = tmp_path / "mine.yaml"
    path.write_text(f"question: q\nbase: {{model: resnet_20}}\narms: {{a: {{lr: 0.3}}}}\nseeds: {seeds}\n")
    with pytest.raises(RecipeError, match=r"mine.yaml: seeds"):
        load(str(path))


def test_typos_on_the_command_line_name_the_key() -> None:
    with pytest.raises(RecipeError, match=r"^epoch: found an unknown key 'epoch'.*Did you mean 'epochs'\?"):
        study("epoch=8")
    with pytest.raises(RecipeError, match=r"expected key=value"):
        study("epochs")
    with pytest.raises(RecipeError, match=r"command line: found seed; expected the seeds of the whole study"):
        study("seed=3")


# What no file may say

MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a key of the file": ({"arm": {}}, r"mine: arm: found an unknown key 'arm'; .* Did you mean 'arms'\?"),
    "an axis": ({"axes": {"optimizer.lrr": [1]}}, r"mine: lrr=1: optimizer.lrr: .* Did you mean 'lr'\?"),
    "an axis at the top": ({"axes": {"epoch": [1]}}, r"mine: epoch=1: epoch: .* Did you mean 'epochs'\?"),
    "an arm": ({"arms": {"a": {"ln": 1}}}, r"mine: a: ln: found an unknown key 'ln'.* Did you mean 'lr'\?"),
    "a value": ({"arms": {"a": {"epochs": "five"}}}, r"mine: a: epochs: found 'five'; expected a valid integer"),
    "a model": ({"arms": {"a": {"model": "resnet_21"}}}, r"found 'resnet_21'.* Did you mean 'resnet_20'\?"),
    "what is tried": ({"arms": {"a": {"try": {"lrr": [1, 2]}}}}, r"mine: a: lrr: .*unknown key.* Did you mean 'lr'\?"),
    "the base": ({"base": {"model": "resnet_20", "epoch": 3}}, r"mine: base: epoch: .* Did you mean 'epochs'\?"),
    "changes": ({"changes": ["optimizer.lrr"]}, r"mine: changes: found 'optimizer.lrr'.* mean 'optimizer.lr'\?"),
    "changes at the top": ({"changes": ["modl"]}, r"mine: changes: found 'modl'.* Did you mean 'model'\?"),
    "changes below a number": ({"changes": ["epochs.x"]}, r"mine: changes: found 'epochs.x'"),
    "equal": ({"equal": ["epoch"]}, r"mine: equal: found 'epoch'.* Did you mean 'epochs'\?"),
    "contrasts": ({"contrasts": [["slow", "bse"]]}, r"mine: contrasts: found 'bse'.* Did you mean 'base'\?"),
    "references": (
        {"references": [{"arm": "slw", "top1": 0.5, "source": "s"}]},
        r"mine: references: found 'slw'.* Did you mean 'slow'\?",
    ),
    "a reference's key": (
        {"references": [{"arm": "slow", "top": 0.5, "source": "s"}]}, r"mine: references.0.top1: found nothing",
    ),
    "a card": ({"arms": {"a": {"recipe": "modrn"}}}, r"found 'modrn'.* Did you mean 'modern'\?"),
}  # fmt: skip


@pytest.mark.parametrize("typo", MISTAKES)
def test_a_typo_is_named_with_its_place_and_what_was_meant(typo: str) -> None:
    changes, message = MISTAKES[typo]
    content = {**FILE, **changes}
    if "axes" in changes:
        content.pop("arms")
    with pytest.raises(RecipeError, match=message):
        of(content)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no arms": ({"arms": {}}, "either arms or axes"),
    "both": ({"axes": {"lr": [1]}, "arms": {"a": {}}}, "either arms or axes"),
    "an axis without a point": ({"axes": {"lr": []}, "arms": {}}, r"mine: axes.lr: found \[\]; expected a list"),
    "an axis that is a number": ({"axes": {"lr": 0.1}, "arms": {}}, r"mine: axes.lr: found 0.1; expected a list"),
    "no axes": ({"axes": {}, "arms": {}}, "either arms or axes"),
    "a base without a model": ({"base": {"epochs": 3}}, r"mine: base: .*names its model \(model: resnet_20\)"),
    "a base whose model is a number": ({"base": {"model": 3}}, "names its model"),
    "no base": ({"base": None}, "mine: base: found None; expected a mapping"),
    "an arm that is a word": ({"arms": {"a": "resnet_20"}}, "mine: arms.a: found 'resnet_20'; expected a mapping of"),
    "a nameless arm": ({"arms": {"": {}}}, "mine: arms: .*expected names of 1 to 60 letters"),
    "an arm with a long name": ({"arms": {"a" * 61: {}}}, "expected names of 1 to 60 letters"),
    "an arm called off": ({"arms": {False: {}}}, "expected names in quotes: YAML reads one of them as False"),
    "a point called 3": ({"axes": {"lr": {3: 0.1}}, "arms": {}}, "names in quotes: YAML reads one of them as 3"),
    "an arm called as the control": ({"arms": {"base": {"lr": 0.3}}}, "two called 'base'.*the control among them"),
    "points called alike": ({"axes": {"lr": [0.5, "0.5"]}, "arms": {}}, "found '0.5'|two called 'lr=0.5'"),
    "more than it may change": (
        {"arms": {"a": {"lr": 0.3, "epochs": 9}}, "changes": ["lr"]},
        r"mine: a: found epochs = 9 where the base has 5; expected a change of lr alone",
    ),
    "more than is tried": (
        {"arms": {"a": {"try": {"lr": [1, 2]}, "momentum": 0.5}}, "changes": ["model"]},
        "mine: a: found optimizer.momentum = 0.5",
    ),
    "another optimizer where its rate may change": (
        {"arms": {"a": {"optimizer": {"name": "adam", "lr": 0.3}}}, "changes": ["lr"]}, "a: found optimizer = adam",
    ),
    "one setting on two axes": (
        {"axes": {"lr": [0.1], "optimizer.lr": [0.2]}, "arms": {}},
        r"mine: axes: found lr and optimizer\.lr, which are one setting; expected one of them",
    ),
    "a model on two axes": ({"axes": {"model": ["resnet_20"], "model.name": ["resnet_32"]}, "arms": {}}, "one setting"),
    "one setting twice in an arm": ({"arms": {"a": {"batch": 64, "batch_size": 32}}}, "mine: a: found batch and"),
    "one setting twice in the base": ({"base": {**BASE, "optimizer.lr": 0.2}}, "mine: base: found lr and optimizer.lr"),
    "one setting tried twice": ({"arms": {"a": {"try": {"lr": [1], "optimizer.lr": [2]}}}}, "a: try: found lr and"),
    "an option of attention where another may change": (
        {
            "base": {**BASE, "model.attention": "eca"},
            "arms": {"a": {"model.attention.kernel_size": 3}},
            "changes": ["model.attention.position"],
        },
        r"mine: a: found model\.attention\.kernel_size = 3 where the base has None",
    ),
    "a plug-in": ({"arms": {"a": {"model": "os:system"}}}, "found 'os:system'.*from the command line only"),
    "a plug-in on an axis": ({"axes": {"model.name": ["os:system"]}, "arms": {}}, "found 'os:system'"),
    "a plug-in in the base": ({"base": {"model": "os:system"}}, "found 'os:system'"),
    "a plug-in that is tried": ({"arms": {"a": {"try": {"model": ["os:system"]}}}}, "found 'os:system'"),
    "a seed of its own": ({"arms": {"a": {"seed": 3}}}, "mine: a: found seed; expected the seeds of the whole study"),
    "seeds to choose from": ({"arms": {"a": {"try": {"seed": [1, 2]}}}}, "mine: a: try: found seed"),
    "an axis of seeds": ({"axes": {"seed": [1, 2]}, "arms": {}}, "mine: axes: found seed"),
    "a base with a seed": ({"base": {**BASE, "seed": 3}}, "mine: base: found seed"),
    "an axis of tries": ({"axes": {"try": {"a": {"lr": [1]}}}, "arms": {}}, "mine: axes: found 'try'"),
    "a contrast with itself": ({"contrasts": [["slow", "slow"]]}, "mine: contrasts: found 'slow' beside itself"),
    "a contrast of three": ({"contrasts": [["slow", "base", "slow"]]}, "mine: contrasts.0: .*at most 2 items"),
    "per cent": ({"references": [{"arm": "slow", "top1": 66.5, "source": "s"}]}, "less than or equal to 1"),
    "no question": ({"question": ""}, "mine: question: found ''; expected string should have at least 1 character"),
    "a section that is a list": ({"arms": {"a": {"optimizer": [1, 2]}}}, "mine: a: optimizer"),
    "numbers for keys": ({"arms": {"a": {"optimizer": {1: 2}}}}, "mine: a: optimizer.1: found an unknown key '1'"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_means_nothing_is_refused(mistake: str) -> None:
    changes, message = REFUSED[mistake]
    with pytest.raises(RecipeError, match=message):
        of({**FILE, **changes})


def test_an_arm_may_be_called_as_a_key_of_the_file() -> None:
    for name in ("base", "axes", "seeds"):
        with pytest.raises(RecipeError, match="mine: base: found seed"):
            study(base={**BASE, "seed": 3}, arms={name: {"lr": 0.3}}, control="control")
        assert study(arms={name: {"lr": 0.3}}, control="control").arms[1].name == name


def test_changes_may_be_written_short_or_as_a_section() -> None:
    for changes, arm in (
        (["lr"], {"optimizer.lr": 0.5}),
        (["optimizer"], {"lr": 0.5}),
        (["optimizer.name"], {"optimizer": "adam"}),
    ):
        assert len(study(changes=changes, arms={"a": arm}).arms) == 2
    assert study(changes=["model"], arms={"a": {"model": "resnet_32", "model.width": 8}}).arms[1].changed
    assert study(changes=["model"], arms={"a": {"model": "resnet_32", "try": {"lr": [1, 2]}}}).arms[1].changed


@pytest.mark.parametrize("change", [{"epochs": 9}, {"batch": 64}, {"data.limit": 500}, {"protocol": "paper"}])
def test_what_makes_arms_not_comparable_is_said(change: dict[str, Any]) -> None:
    (warning,) = study(arms={"a": change}).warnings
    assert warning.startswith("Not comparable: ")


def test_a_section_may_be_laid_under_its_settings() -> None:
    arm = study(arms={"a": {"optimizer": {"name": "adam", "lr": 0.1}, "lr": 0.2}}).arms[1]
    assert arm.trials[0].recipe.optimizer.lr == 0.2


def test_every_trial_of_an_arm_is_judged() -> None:
    made = study(arms={"a": {"try": {"epochs": [5, 9]}}})
    assert "Not comparable: epochs differs between arms (base 5, a 5 or 9)." in made.warnings
    again = study(base={**BASE, "try": {"optimizer.name": ["sgd", "adam"]}}, arms={"deep": {"model": "resnet_32"}})
    assert not [warning for warning in again.warnings if "Not comparable" in warning]
    declared = study(
        base={**BASE, "try": {"optimizer.name": ["sgd", "adam"]}}, arms={"a": {"model": "resnet_32"}}, changes=["model"]
    )
    assert [trial.recipe.optimizer.name for trial in declared.arms[1].trials] == ["sgd", "adam"]


def test_an_option_of_an_option_may_be_what_changes() -> None:
    base = {**BASE, "model.attention": "eca"}
    made = study(base=base, axes={"model.attention.kernel_size": [3, 5]}, changes=["model.attention.kernel_size"])
    assert [arm.trials[0].recipe.model.options for arm in made.arms[1:]] == [
        {"attention": {"name": "eca", "kernel_size": 3}}, {"attention": {"name": "eca", "kernel_size": 5}},
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["..", "a b", "a/b", "../up", "", ".hidden", "字" * 70, "a\nb", "-x"])
def test_a_study_is_never_named_like_a_path(name: str) -> None:
    with pytest.raises(RecipeError, match="beginning with a letter"):
        of(FILE, name=name)
    assert of(FILE, name="注意力-2.b").folder_name == "注意力-2.b"


@pytest.mark.parametrize(
    "content", [{}, {"name": "a", "typed": 3, "file": {}}, {"name": "a", "typed": [], "file": 3}, []]
)
def test_a_damaged_study_is_refused(content: Any) -> None:
    with pytest.raises(RecipeError, match=r"study\.json"):
        restore(content, where="study.json")


def test_files_and_names(tmp_path: Path) -> None:
    for shipped in library.studies():
        assert load(shipped).name == shipped
    with pytest.raises(RecipeError, match=r"found 'eca-kernl'.*Did you mean 'eca-kernel'\?"):
        load("eca-kernl")
    with pytest.raises(DataError, match="no such file"):
        load(str(tmp_path / "none.yaml"))
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(RecipeError, match="found a list"):
        load(str(tmp_path / "list.yaml"))
    path = tmp_path / "mine.yml"
    path.write_text("question: q\nbase: {model: resnet20}\naxes: {lr: [1e-3, 1e-2]}\nseeds: 1\n")
    assert [arm.name for arm in load(str(path), typed=["seeds=2"]).arms] == ["base", "lr=0.001", "lr=0.01"]
    assert load(str(path)).control.trials[0].recipe.model.name == "resnet_20"  # as the catalogue spells it


# Size


def timed(work: Any) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@pytest.mark.parametrize(
    "changes",
    [
        {"axes": {"lr": [i / 1000 for i in range(1, 401)], "momentum": [i / 1000 for i in range(250)]}},
        {"arms": {"a": {"try": {"lr": list(range(1, 401)), "momentum": [i / 1000 for i in range(250)]}}}},
        {"base": {**BASE, "try": {"lr": list(range(1, 401)), "momentum": [i / 1000 for i in range(250)]}}},
        {"arms": {str(i): {"lr": i} for i in range(1, 1001)}, "seeds": 100},
    ],
)
def test_a_hundred_thousand_runs_are_refused_before_any_is_written_out(changes: dict[str, Any]) -> None:
    def refuse() -> None:
        with pytest.raises(RecipeError, match=rf"found \d\d\d,\d\d\d runs; expected at most {MOST_RUNS:,}"):
            study(**changes)

    assert timed(refuse) < 0.5


def test_a_hundred_arms_take_no_time() -> None:
    arms = {f"arm {i}": {"lr": 0.001 * i, "mix": {"mixup": 0.1}} for i in range(1, 101)}
    assert timed(lambda: study(arms=arms, seeds=5)) < 2


# Anything at all: a study, or a message

scalars = st.one_of(st.none(), st.booleans(), st.integers(-3, 10**6), st.floats(), st.text(max_size=6))
keys = st.one_of(
    st.sampled_from(["model", "lr", "try", "optimizer", "name", "recipe", "seed", "a.b", "", "mix"]), scalars
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)


@given(st.sampled_from([*StudyFile.model_fields, "other"]), anything)
@settings(max_examples=150)
def test_any_value_of_a_key_is_a_study_or_a_message(key: str, value: object) -> None:
    content = {**FILE, key: value}
    if key == "axes":
        content.pop("arms")
    try:
        made = of(content)
    except BakeoffError as error:
        assert error.where
    else:
        assert all(isinstance(recipe, Recipe) for recipe in made.recipes().values())


@given(st.sampled_from(["base", "slow"]), st.dictionaries(keys, anything, max_size=3))
@settings(max_examples=150)
def test_any_layer_is_a_study_or_a_message(place: str, layer: dict[Any, Any]) -> None:
    content = (
        {**FILE, "base": {**layer, "model": "resnet_20"}} if place == "base" else {**FILE, "arms": {"slow": layer}}
    )
    try:
        of(content)
    except BakeoffError as error:
        assert error.where


# Studies of distillation

TAUGHT: dict[str, Any] = {
    "teachers": {"big": {"model": "resnet_56", "epochs": 30}},
    "arms": {"kd": {"objective": "kd", "teacher": "big"}, "dkd": {"objective": "dkd", "teacher": "big"}},
    "changes": ["objective", "teacher"],
}


def test_a_teacher_is_one_run_that_all_arms_and_seeds_share() -> None:
    made = study(**TAUGHT)
    (teacher,) = made.teachers.values()
    assert (teacher.model.name, teacher.epochs, teacher.seed, teacher.threads) == ("resnet_56", 30, 0, 1)
    for arm in made.arms[1:3]:
        for _, _, recipe in made.runs(arm):
            assert recipe.teacher is not None
            assert (recipe.teacher.name, recipe.teacher.digest) == (teacher.place, teacher.digest)
    assert next(iter(made.recipes().values())) == teacher
    assert len(made.recipes()) == 1 + 4 * 2
    assert restore(json.loads(json.dumps(made.to_json())), where="x") == made


def test_controls_are_added_unless_they_are_there_or_unwanted() -> None:
    def names(**changes: Any) -> list[str]:
        return [arm.name for arm in study(**{**TAUGHT, **changes}).arms]

    assert names() == ["base", "kd", "dkd", "label smoothing"]
    assert names(add_controls=False) == ["base", "kd", "dkd"]
    own = {"smooth": {"objective.label_smoothing": 0.2}, **TAUGHT["arms"]}
    assert names(arms=own) == ["base", "smooth", "kd", "dkd"]
    taught = {**BASE, "objective": "kd", "teacher": "big"}
    assert names(base=taught, arms={"hot": {"objective.temperature": 8}}) == [
        "base",
        "hot",
        "student alone",
        "label smoothing",
    ]
    assert [arm.name for arm in study().arms] == ["base", "slow"]  # nobody is taught here


def test_the_student_alone_has_no_teacher() -> None:
    taught = {**BASE, "objective": "kd", "teacher": "big"}
    made = study(**{**TAUGHT, "base": taught, "arms": {"x": {"batch_size": 64}}, "changes": []})
    alone = next(arm for arm in made.arms if arm.name == "student alone").trials[0].recipe
    assert alone.teacher is None
    assert alone == resolve("resnet_20", overrides=["epochs=5", "lr=0.1", "threads=1"])


def test_what_is_typed_reaches_teachers_where_it_is_meant_for_them() -> None:
    made = study("epochs=3", "teachers.epochs=12", "data.limit=2000", "teachers.lr=0.05", **TAUGHT)
    (teacher,) = made.teachers.values()
    assert (teacher.epochs, teacher.data.limit, teacher.optimizer.lr) == (12, 2000, 0.05)
    assert {trial.recipe.epochs for arm in made.arms for trial in arm.trials} == {3}
    assert made.scaled == {
        "epochs": (5, 3),
        "data.limit": (None, 2000),
        "teachers.epochs": (30, 12),
        "teachers.optimizer.lr": (0.2, 0.05),
    }
    assert study("epochs=3", **TAUGHT).teachers["big"].epochs == 30


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teachers": {"big": {"epochs": 3}}}, "each of which names its model"),
        ({"teachers": {**TAUGHT["teachers"], "idle": {"model": "resnet_110"}}}, "an arm that learns from it"),
        ({"teachers": {"big": {"model": "resnet_56", "seed": 3}}}, "the seeds of the whole study"),
        ({"teachers": {"big": {"model": "resnet_56", "objective": "kd"}}}, "and none"),
        ({"arms": {"kd": {"objective": "kd"}}}, "a teacher as well"),
        ({"teachers": {"big": {"model": "resnet_56", "try": {"lr": [0.1, 0.2]}}}}, "a teacher, which is one run"),
        ({"teachers": {"big": {"model": "resnet_56", "objective": "kd", "teacher": "x"}}}, "a teacher's teacher"),
        ({"arms": {"kd": {"teacher": "big"}}}, "an objective that does"),
    ],
)
def test_teachers_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        of({**FILE, **TAUGHT, **changes})
    assert said in str(caught.value)


def test_a_teacher_has_the_data_of_the_bases_card() -> None:
    made = study(**{**TAUGHT, "base": {"model": "resnet_20", "recipe": "digits"}, "equal": []})
    assert made.teachers["big"].data.name == "digits"


def test_settings_for_teachers_need_teachers() -> None:
    with pytest.raises(RecipeError, match="a study that has teachers"):
        study("teachers.epochs=3")
    with pytest.raises(RecipeError, match="the seeds of the whole study"):
        study("teachers.seed=3", **TAUGHT)


def test_controls_do_not_hide_behind_an_arm_or_what_is_tried() -> None:
    named = {**TAUGHT, "arms": {"label smoothing": {"objective": "kd", "teacher": "big"}}}
    assert [arm.name for arm in study(**named).arms][-1] == "label smoothing (control)"
    tried = {**BASE, "try": {"label_smoothing": [0.0, 0.05]}}
    arms = {"kd": {"objective": "kd", "teacher": "big", "try": {"temperature": [2.0, 4.0]}}}
    assert "label smoothing" in [arm.name for arm in study(**{**TAUGHT, "base": tried, "arms": arms}).arms]


def test_a_digest_is_no_name_for_what_its_name_describes() -> None:
    with pytest.raises(RecipeError, match="says what it is"):
        resolve("resnet_20", overrides=["objective=kd", "teacher=random:resnet_32", "teacher.digest=abc"])
    spelt = resolve("resnet_20", overrides=["objective=kd", "teacher=random:resnet32"])
    assert spelt == resolve("resnet_20", overrides=["objective=kd", "teacher=random:resnet_32"])
