import inspect
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bakeoff import catalogue, library, models, objectives
from bakeoff.errors import BakeoffError, DataError, RecipeError
from bakeoff.recipe import Recipe, load, overlay, read_yaml, resolve
from bakeoff.recipe.schema import SECTIONS


def test_every_default_is_written_out_and_read_back(tmp_path: Path) -> None:
    recipe = resolve("resnet_20", overrides=["epochs=15", "lr=1e-3"])
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    assert load(path) == recipe
    assert load(path).digest == recipe.digest
    assert "decay_norms_and_biases" in recipe.to_yaml()
    assert recipe.optimizer.lr == 0.001


def test_order_of_the_layers(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 7\nbatch_size: 64\noptimizer: {lr: 0.5}\n")
    recipe = resolve("resnet18", recipe=str(file), overrides=["batch_size=32"])
    assert recipe.objective.label_smoothing == 0.1  # the family's card
    assert (recipe.epochs, recipe.optimizer.lr) == (7, 0.5)  # over it, the file
    assert recipe.batch_size == 32  # over that, the command line


def test_the_typed_model_stands_over_the_files_and_is_spelt_as_in_the_catalogue(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(resolve("resnet_20", overrides=["epochs=9"]).to_yaml())
    recipe = resolve("resnet56", recipe=str(file))
    assert (recipe.model.name, recipe.epochs) == ("resnet_56", 9)
    assert resolve("resnet_56", overrides=["model=resnet20"]).model.name == "resnet_20"


def test_a_later_setting_wins() -> None:
    assert resolve("resnet_20", overrides=["epochs=1", "epochs=2"]).epochs == 2


@pytest.mark.parametrize("name", sorted(library.recipe_cards()))
def test_every_card_is_a_valid_recipe_with_a_header(name: str) -> None:
    card = library.recipe_cards()[name]
    resolve("resnet_20", recipe=name)
    header = [line for line in card.read_text().splitlines() if line.startswith("#")]
    keys = [line[2:].partition(":")[0] for line in header]
    assert keys[0] == "Purpose"
    assert {"Source", "Expected", "Command"} <= set(keys)


def test_every_model_has_a_family_card() -> None:
    assert {model.family for model in catalogue.MODELS.values()} <= set(library.recipe_cards())


@pytest.mark.parametrize("name", catalogue.MODELS)
def test_every_model_has_a_card_whose_options_its_builder_knows(name: str) -> None:
    header = [line for line in library.model_card(name).read_text().splitlines() if line.startswith("#")]
    keys = [line[2:].partition(":")[0] for line in header if line[2] != " "]
    assert keys == ["Purpose", "Source", "Public", "Expected", "Command"]
    assert header[-1].split()[-3:] == ["bakeoff", "train", name]
    recipe = resolve(name)
    assert recipe.model.name == name
    with torch.device("meta"):
        models.build(name, num_classes=10, **recipe.model.options)


def test_no_card_is_without_its_model() -> None:
    assert {path.stem for path in library.model_card("x").parent.glob("*.yaml")} == set(catalogue.MODELS)


def test_a_models_card_stands_over_its_familys_and_under_what_is_typed() -> None:
    family, own = resolve("gmlp_tiny"), resolve("cct_7_3x1")
    assert (family.optimizer.weight_decay, own.optimizer.weight_decay) == (0.05, 0.06)
    assert own.model.options == {"attention_dropout": 0.1, "drop_path": 0.1}
    assert own.mix == family.mix
    typed = resolve("cct_7_3x1", overrides=["model.drop_path=0", "weight_decay=0.1"])
    assert typed.model.options == {"attention_dropout": 0.1, "drop_path": 0}
    assert typed.optimizer.weight_decay == 0.1


def test_another_optimizer_starts_from_its_own_defaults() -> None:
    recipe = resolve("resnet_20", overrides=["optimizer=adamw"])
    assert recipe.optimizer.name == "adamw"
    assert recipe.optimizer.lr == 0.001
    assert not hasattr(recipe.optimizer, "nesterov")
    assert resolve("resnet_20", overrides=["optimizer=sgd"]) == resolve("resnet_20")


@pytest.mark.parametrize(
    ("base", "layer", "attention"),
    [
        ("eca", {"kernel_size": 3}, {"name": "eca", "kernel_size": 3}),
        ({"name": "eca", "kernel_size": 5}, {"kernel_size": 9}, {"name": "eca", "kernel_size": 9}),
        ({"name": "eca", "kernel_size": 5}, {"name": "eca", "x": 1}, {"name": "eca", "kernel_size": 5, "x": 1}),
        ({"name": "eca", "kernel_size": 5}, {"name": "se"}, {"name": "se"}),
        ({"name": "eca", "kernel_size": 5}, "eca", "eca"),
        ("eca", {"name": "se", "ratio": 4}, {"name": "se", "ratio": 4}),
    ],
)
def test_options_of_a_model_s_options_are_laid_over_each_other(base: object, layer: object, attention: object) -> None:
    below = overlay(Recipe(), {"model": {"attention": base, "width": 8}}, where="x")
    assert overlay(below, {"model": {"attention": layer}}, where="x").model.options == {
        "attention": attention,
        "width": 8,
    }


def test_equal_recipes_have_equal_digests_however_they_are_said() -> None:
    said = [["lr=0.05"], ["optimizer.lr=5e-2"], ["optimizer.lr=0.7", "lr=0.05"], ["optimizer={lr: 0.05}"]]
    assert len({resolve(name, overrides=o).digest for o in said for name in ("resnet_20", "resnet20")}) == 1
    assert resolve("resnet_20", overrides=["lr=0.051"]).digest != resolve("resnet_20", overrides=said[0]).digest


@pytest.mark.parametrize(
    ("overrides", "where", "hint"),
    [
        (["epochs=0"], "epochs", ""),
        (["epochs=1.5"], "epochs", ""),
        (["epochs=true"], "epochs", ""),
        (["lr=abc"], "optimizer.lr", ""),
        (["lr=-1"], "optimizer.lr", ""),
        (["lr=nan"], "optimizer.lr", ""),
        (["lr=.inf"], "optimizer.lr", ""),
        (["epoch=3"], "epoch", "epochs"),
        (["optimizer.momentun=0.9"], "optimizer.momentun", "momentum"),
        (["optimizer=adan"], "optimizer.name", "adam"),
        (["schedule=cosin"], "schedule.name", "cosine"),
        (["data=cifar1000"], "data.name", "cifar100"),
        (["augment.flip=randon"], "augment.flip", "random"),
        (["augment.crop=4"], "augment.crop", ""),
        (["protocol=papr"], "protocol", "paper"),
        (["seed=-1"], "seed", ""),
        (["accumulate=3"], "accumulate", "128"),
        (["momentum=0"], "optimizer.nesterov", "momentum"),
        (["model=resnet_21"], "model.name", "resnet_20"),
        (["no equals sign"], "command line", ""),
        (["=3"], "command line", ""),
        (["a..b=3"], "command line", ""),
        (["lr=[1,"], "lr", ""),
        (["optimizer=3"], "optimizer", ""),
        (["threads=0"], "threads", "from 1 on"),
        (["threads=many"], "threads", "auto"),
        (["compile=maybe"], "compile", "true or false"),
        (["lr=" + "[" * 2000], "lr", ""),
        (["schedule.milestones=[0.5]"], "schedule.milestones", ""),
    ],
)
def test_a_mistake_is_named(overrides: list[str], where: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve("resnet_20", overrides=overrides)
    assert caught.value.where == where
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistake_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: many\n")
    with pytest.raises(RecipeError, match=r"mine\.yaml: epochs"):
        resolve("resnet_20", recipe=str(file))
    with pytest.raises(DataError, match=r"none\.yaml"):
        resolve("resnet_20", recipe=str(tmp_path / "none.yaml"))
    with pytest.raises(RecipeError, match="Did you mean 'digits'"):
        resolve("resnet_20", recipe="digit")


@pytest.mark.parametrize(
    "text",
    ["- 1\n- 2\n", "a: [1,\n", "just words", "!!python/object/apply:os.system ['true']", "\x00\x01", "a: 1\na: 2\n"],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=r"mine\.yaml"):
        resolve("resnet_20", recipe=str(file))


def test_an_empty_key_is_named_by_its_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text('"": 3\n')
    with pytest.raises(RecipeError) as caught:
        resolve("resnet_20", recipe=str(file))
    assert caught.value.where == str(file)


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".yaml", "a\0b", "a\0b.yaml"])
def test_names_that_no_file_can_have_are_refused(name: str) -> None:
    with pytest.raises(RecipeError):
        resolve("resnet_20", recipe=name)


def test_a_file_is_called_what_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a study in YAML"):
        read_yaml(tmp_path / "none.yaml", what="study")
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(RecipeError, match="expected a mapping of study keys"):
        read_yaml(tmp_path / "list.yaml", what="study")


def test_a_plugin_comes_only_from_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: os:system\n")
    assert resolve("resnet_20", recipe=str(file), plugins=True).model.name == "resnet_20"
    with pytest.raises(RecipeError, match="command line only"):
        resolve("resnet_20", overrides=["model=os:system"], plugins=True)
    with pytest.raises(RecipeError, match="command line only"):
        resolve("os:system")
    assert resolve("package.module:function", plugins=True).model.name == "package.module:function"


def test_sections_are_known_for_hints() -> None:
    assert {"sgd", "adam", "adamw", "adagrad", "rmsprop", "muon"} <= set(SECTIONS)
    assert {"constant", "multistep", "cosine", "onecycle", "polynomial"} <= set(SECTIONS)


keys = st.sampled_from(["epochs", "lr", "optimizer", "data.limit", "augment.flip", "schedule.warmup", "x", "model.a.b"])
values = st.one_of(
    st.text(max_size=20),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        ["null", "[1,2]", "{a: 1}", "${oc.env:HOME}", "${lr}", "&a [*a]", "*x", "? :", "!!int x", "~", "'"]
    ),
)


@given(st.lists(st.tuples(keys, values), max_size=4))
def test_any_settings_give_a_recipe_or_one_message(settings: list[tuple[str, str]]) -> None:
    try:
        recipe = resolve("resnet_20", overrides=[f"{key}={value}" for key, value in settings])
    except BakeoffError as error:
        assert error.exit_code == 2
    else:
        assert overlay(Recipe(), json.loads(recipe.model_dump_json()), where="test") == recipe


@given(st.text(max_size=30))
def test_any_words_give_a_recipe_or_one_message(text: str) -> None:
    for attempt in (lambda: resolve(text), lambda: resolve("resnet_20", overrides=[text])):
        try:
            attempt()
        except BakeoffError as error:
            assert error.exit_code in (2, 3)


@given(st.binary(max_size=60))
def test_any_file_gives_a_recipe_or_one_message(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("recipe") / "mine.yaml"
    file.write_bytes(content)
    try:
        resolve("resnet_20", recipe=str(file))
    except BakeoffError as error:
        assert error.exit_code == 2


def test_a_recipe_without_a_teacher_is_what_it_was_before_there_were_any() -> None:
    assert resolve("resnet_20").digest.startswith("ba30d5dfef53")
    assert "teacher" not in resolve("resnet_20").to_yaml()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["objective=kd"], "objective: found kd, which learns from a teacher, and none"),
        (["teacher=logs/a"], "teacher: found logs/a, and an objective that learns from none"),
        (["objective=kdd", "teacher=a"], "Did you mean 'kd'?"),
        (["objective=kd", "teacher=a", "temperature=0"], "objective.temperature: found 0; expected greater than 0"),
        (["objective=dkd", "teacher=a", "objective.alpha=1"], "an unknown key 'alpha'"),
        (["objective=kd", "teacher=a", "objective.label_weight=0", "objective.teacher_weight=0"], "above 0 where"),
        (["objective=kd", "teacher=a", "teacher.nam=a"], "an unknown key 'nam'"),
    ],
)
def test_distillations_that_cannot_be(settings: list[str], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve("resnet_20", overrides=settings)
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


def test_objectives_have_the_same_options_and_defaults_in_a_recipe_as_in_code() -> None:
    from bakeoff.recipe.objective import Distillation

    kinds = {kind.model_fields["name"].default: kind for kind in Distillation.__subclasses__()}
    assert set(kinds) == set(objectives.TAUGHT)
    for name, kind in kinds.items():
        signature = inspect.signature(objectives.OBJECTIVES[name])
        defaults = {key: p.default for key, p in signature.parameters.items() if key not in ("teacher", "shapes")}
        assert {key: field.default for key, field in kind.model_fields.items() if key != "name"} == defaults
