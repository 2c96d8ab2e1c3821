"""The shipped studies: each asks what it says, expands, scales down, and has the arms that its question needs."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from bakeoff import catalogue, library, study
from bakeoff.errors import RecipeError
from bakeoff.launch.check import check
from bakeoff.study import Study
from bakeoff.training import pace

STUDIES = library.studies()
# The table of the first course project, and its hornet_tiny, which the table leaves out.
FIRST_PROJECT = """
    resnet_20 resnet_32 resnet_56 resnet20_no_eca eca_resnet_20 eca_resnet_32
    ecanet20_fixed_k3 ecanet20_fixed_k5 ecanet20_fixed_k7 ecanet20_fixed_k9 ecanet20_adaptive
    ghost_resnet_20 ghost_resnet_32 ghostnet_100 improved_resnet20_convnext cspresnet50 resnest50d convnext_tiny
    hornet_tiny segnext_mscan_tiny mlp_mixer_tiny mlp_mixer_b16
    coatnet_0 coatnet_0_custom_enhanced coatnet_cifar_opt coatnet_cifar_opt_large_stem
"""
ONE_MODEL_AN_ARM = {
    "architectures": FIRST_PROJECT,
    "attention-modules": "resnet_20 eca_resnet_20 se_resnet_20 cbam_resnet_20 simam_resnet_20 coordinate_resnet_20",
    "attention-position": "resnet_20 eca_resnet20_pos1 eca_resnet_20 eca_resnet20_pos3",
    "depth": "resnet10 resnet18 resnet50",
    "eca-kernel": """
        resnet_20 ecanet20_fixed_k3 ecanet20_fixed_k5 ecanet20_fixed_k7 ecanet20_fixed_k9 ecanet20_adaptive
    """,
    "ghost-ratio": "resnet_20 ghost_resnet_20 ghost_resnet20_ratio3 ghost_resnet20_ratio4 ghostCopy_resnet_20",
    "improved-resnet": """
        improved_resnet20_convnext improved_resnet20_convnext_no_droppath
        improved_resnet20_convnext_std_conv improved_resnet20_convnext_no_inverted
    """,
}
PAGE = Path(__file__).parents[2] / "docs" / "how-to-write-a-study.md"
DISTILLATIONS = {"distill-losses", "distill-small"}
OF_OWN_PICTURES = {"traffic-signs"}
BY_SETTINGS = {"augmentation", "learning-rate", "optimizers", "optimizers-tuned", "schedule", "speed-ingredients"}


@pytest.fixture(scope="module")
def loaded() -> dict[str, Study]:
    return {name: study.load(name) for name in STUDIES}


def header(name: str) -> dict[str, str]:
    lines = (line for line in STUDIES[name].read_text(encoding="utf-8").splitlines() if line.startswith("# "))
    return {key: value.strip() for key, colon, value in (line[2:].partition(":") for line in lines) if colon}


def test_every_study_is_known_here() -> None:
    assert set(STUDIES) == {*ONE_MODEL_AN_ARM, *BY_SETTINGS, *DISTILLATIONS, *OF_OWN_PICTURES}


@pytest.mark.parametrize("name", STUDIES)
def test_the_header_says_what_for_and_where_from(name: str) -> None:
    assert (
        STUDIES[name].read_text(encoding="utf-8").startswith(f"# Purpose: {library.purpose(STUDIES[name])}\n# Source:")
    )
    assert len(library.purpose(STUDIES[name])) > 20
    assert header(name)["Source"]
    assert max(map(len, STUDIES[name].read_text(encoding="utf-8").splitlines())) <= 120


@pytest.mark.parametrize("name", STUDIES)
def test_it_asks_a_question_and_runs_at_least_three_seeds(name: str, loaded: dict[str, Study]) -> None:
    assert loaded[name].question.endswith("?")
    assert len(loaded[name].seeds) >= 3
    assert len(loaded[name].arms) >= 2
    assert not loaded[name].scaled


@pytest.mark.parametrize("name", STUDIES)
def test_it_is_an_ablation_or_says_that_it_is_none(name: str, loaded: dict[str, Study]) -> None:
    """Only the study of whole networks by their own cards may differ in more than it names."""
    assert bool(loaded[name].file.changes) != loaded[name].file.own_cards
    assert not [w for w in loaded[name].warnings if "comparable" in w or "same recipe" in w]


@pytest.mark.parametrize("name", STUDIES)
def test_it_can_be_scaled_down(name: str, loaded: dict[str, Study]) -> None:
    small = study.load(name, typed=("epochs=8", "data.limit=10000", "seeds=2"))
    assert [arm.name for arm in small.arms] == [arm.name for arm in loaded[name].arms]
    recipes = [recipe for arm in small.arms for _, _, recipe in small.runs(arm)]
    assert {(r.epochs, r.data.limit, r.seed) for r in recipes} == {(8, 10_000, 0), (8, 10_000, 1)}
    assert set(small.scaled) == {"epochs", "data.limit", "seeds"}
    assert small.folder_name != loaded[name].folder_name


@pytest.mark.parametrize("name", STUDIES)
def test_references_have_plausible_numbers_and_sources(name: str, loaded: dict[str, Study]) -> None:
    for reference in loaded[name].references:
        assert 0.3 < reference.top1 < (0.99 if name in OF_OWN_PICTURES else 0.9)
        assert len(reference.source) > 5
        assert reference.arm in [arm.name for arm in loaded[name].arms]


def test_one_number_has_one_source_in_all_studies(loaded: dict[str, Study]) -> None:
    """But for the network's name, where the number is of a twin of the arm's."""
    said: dict[tuple[float, str], set[str]] = {}
    for reference in (reference for made in loaded.values() for reference in made.references):
        source = re.sub(r"'s log of \w+:", "'s log:", reference.source)
        said.setdefault((reference.top1, re.split("[:']", source)[0]), set()).add(source)
    assert {number: sources for number, sources in said.items() if len(sources) > 1} == {}


@pytest.mark.parametrize("name", ONE_MODEL_AN_ARM)
def test_the_arms_are_these_networks(name: str, loaded: dict[str, Study]) -> None:
    names = ONE_MODEL_AN_ARM[name].split()
    assert [arm.trials[0].recipe.model.name for arm in loaded[name].arms] == names
    assert all(name in catalogue.MODELS for name in names)


def test_every_network_of_the_table_has_its_own_recipe_and_the_same_length(loaded: dict[str, Study]) -> None:
    arms = {arm.name: arm.trials[0].recipe for arm in loaded["architectures"].arms}
    assert {recipe.epochs for recipe in arms.values()} == {300}
    assert arms["resnet_20"].optimizer.name == "sgd"
    assert arms["convnext_tiny"].optimizer.name == "adamw"
    assert all(name == recipe.model.name for name, recipe in arms.items())


def test_the_second_projects_optimizers(loaded: dict[str, Study]) -> None:
    arms = {arm.name: arm.trials[0].recipe for arm in loaded["optimizers"].arms}
    found = {name: (recipe.optimizer.name, recipe.optimizer.lr) for name, recipe in arms.items()}
    assert found == {
        "SGD 0.03": ("sgd", 0.03),
        "SGD 0.001": ("sgd", 0.001),
        "Adam 0.001": ("adam", 0.001),
        "Adagrad 0.001": ("adagrad", 0.001),
    }
    for recipe in arms.values():
        assert (recipe.model.name, recipe.epochs, recipe.batch_size) == ("resnet10", 50, 256)
        assert (recipe.schedule.name, recipe.optimizer.weight_decay) == ("constant", 1e-4)
        assert (recipe.mix.mixup, recipe.mix.cutmix, recipe.objective.label_smoothing) == (0, 0, 0)
    sgd = arms["SGD 0.03"].optimizer
    assert (getattr(sgd, "momentum", None), getattr(sgd, "nesterov", None)) == (0.9, False)


def test_tuned_optimizers_search_alike(loaded: dict[str, Study]) -> None:
    arms = loaded["optimizers-tuned"].arms
    assert [arm.trials[0].recipe.optimizer.name for arm in arms] == ["sgd", "adam", "adamw", "adagrad"]
    rates = [[trial.recipe.optimizer.lr for trial in arm.trials] for arm in arms]
    assert {len(set(tried)) for tried in rates} == {5}
    assert all(trial.recipe.optimizer.decay_norms_and_biases for arm in arms for trial in arm.trials)
    assert 0.03 in rates[0]
    assert all(0.001 in tried for tried in rates[1:])


def test_ten_learning_rates_from_low_to_high(loaded: dict[str, Study]) -> None:
    rates = {arm.trials[0].recipe.optimizer.lr for arm in loaded["learning-rate"].arms}
    assert len(rates) == 10
    assert {0.001, 0.03, 0.1} <= rates
    assert (min(rates), max(rates)) == (1e-4, 1.0)
    assert loaded["learning-rate"].control.name == "lr=0.1"


def test_the_schedules(loaded: dict[str, Study]) -> None:
    constant, step = (arm.trials[0].recipe for arm in loaded["schedule"].arms)
    assert constant.schedule.name == "constant"
    assert step.schedule.model_dump() == {"name": "multistep", "warmup": 0.0, "milestones": [0.6, 0.8], "gamma": 0.1}
    assert constant.optimizer == step.optimizer
    assert constant.optimizer.lr == 0.1


def test_each_ingredient_of_augmentation_on_a_small_and_on_a_large_network(loaded: dict[str, Study]) -> None:
    arms = {arm.name: arm.trials[0].recipe for arm in loaded["augmentation"].arms}
    both = {
        size: {n.removeprefix(size): r for n, r in arms.items() if n.startswith(size)} for size in ("small", "large")
    }
    assert both["small"].keys() == both["large"].keys()
    assert len(both["small"]) == 12  # ten ingredients, all of them, and what they are laid over
    for size, model in (("small", "resnet_20"), ("large", "resnet18")):
        assert {recipe.model.name for recipe in both[size].values()} == {model}
    base = arms["small: crop and flip"].model_dump(exclude={"model"})
    used = {
        (section, key)
        for recipe in both["small"].values()
        for section in ("augment", "mix", "objective")
        for key, value in getattr(recipe, section).model_dump().items()
        if value != base[section][key]
    }
    assert {("augment", key) for key in ("crop_padding", "flip", "cutout", "policy", "erase")} <= used
    assert {("mix", "mixup"), ("mix", "cutmix"), ("objective", "label_smoothing")} <= used
    assert {recipe.augment.policy for recipe in both["large"].values()} == {"none", "trivial", "rand"}
    against = dict(loaded["augmentation"].contrasts)
    assert set(against) == {f"large{n}" for n in both["large"]} - {"large: crop and flip"}
    assert set(against.values()) == {"large: crop and flip"}


def test_distillation_has_its_controls_and_the_teacher_its_own_length(loaded: dict[str, Study]) -> None:
    small = study.load("distill-small", typed=("epochs=8", "teachers.epochs=15", "data.limit=10000"))
    arms = {arm.name: arm.trials[0].recipe for arm in small.arms}
    assert list(arms) == [
        *("student alone", "KD", "DKD", "DIST", "KD, standardised", "KD, random teacher", "label smoothing"),
    ]
    assert arms["student alone"].teacher is None
    assert arms["label smoothing"].objective.label_smoothing == 0.1
    named = {name: recipe.teacher.name for name, recipe in arms.items() if recipe.teacher is not None}
    assert named.pop("KD, random teacher") == "random:resnet_56"
    assert set(named.values()) == {small.teachers["resnet_56"].place}
    assert (small.teachers["resnet_56"].epochs, small.teachers["resnet_56"].data.limit) == (15, 10_000)
    losses = {arm.name: arm.trials[0].recipe for arm in loaded["distill-losses"].arms}
    assert list(losses) == ["student alone", "soft targets, T = 3", "logits", "label smoothing"]
    assert loaded["distill-losses"].teachers["resnet50"].epochs == losses["logits"].epochs == 50
    assert loaded["distill-losses"].teachers["resnet50"].schedule == losses["logits"].schedule


def test_what_makes_the_arms_differ_cannot_be_typed(loaded: dict[str, Study]) -> None:
    for typed in ("model=resnet_56", "lr=0.2"):
        with pytest.raises(RecipeError, match="what the arms differ in"):
            study.load("eca-kernel" if "model" in typed else "learning-rate", typed=(typed,))


@pytest.mark.parametrize(
    ("name", "repeats"),
    [
        ("eca-kernel", {("k3", "adaptive")}),
        ("attention-position", set()),  # equal in parameters and multiply-adds, but not in what they compute
    ],
)
def test_networks_that_are_equal_are_named_before_the_first_run(
    name: str,
    repeats: set[tuple[str, ...]],
    tmp_path: Path,
    loaded: dict[str, Study],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "TRIALS_S", 0.0)
    assert set(check(loaded[name], root=tmp_path).repeats) == repeats


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_everything_that_is_shipped_passes_the_check(name: str, tmp_path: Path, loaded: dict[str, Study]) -> None:
    found = check(loaded[name], root=tmp_path)
    assert found.to_do == found.distinct == len(loaded[name].recipes())
    if name == "architectures":
        twins = ("resnet_20", "resnet20_no_eca")
        assert set(found.repeats) == {twins, ("eca_resnet_20", "ecanet20_fixed_k3", "ecanet20_adaptive")}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", blocks("yaml"), ids=lambda text: text.split("\n")[0].removeprefix("question: "))
def test_every_study_of_the_page_expands_and_scales_down(text: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    whole = study.load(str(file))
    assert not [warning for warning in whole.warnings if "comparable" in warning]
    assert len(study.load(str(file), typed=("epochs=8", "data.limit=10000", "seeds=2")).seeds) == 2


def test_the_page_says_what_its_studies_do(tmp_path: Path) -> None:
    smallest, ablation, axes, search, taught, own = (_expanded(text, tmp_path) for text in blocks("yaml"))
    assert len(smallest.arms) == 2
    assert len(ablation.arms) == 4
    assert len(axes.arms) == 12 + 1  # the card's schedule is no point on the axes
    assert {len(arm.trials) for arm in search.arms} == {3}
    assert [arm.name for arm in taught.arms] == ["alone", "T = 2", "T = 8", "label smoothing"]
    assert {arm.trials[0].recipe.optimizer.name for arm in own.arms} == {"sgd", "adamw"}
    with_default = blocks("yaml")[0].replace("equal: [data, epochs, protocol]\n", "")
    assert [w for w in _expanded(with_default, tmp_path).warnings if "Not comparable: batch_size" in w]
    with pytest.raises(RecipeError, match="a change of model alone"):
        _expanded(blocks("yaml")[1].replace("model.attention: eca}", "model.attention: eca, lr: 0.05}"), tmp_path)


def _expanded(text: str, folder: Path) -> Study:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return study.load(str(file))


def test_the_commands_of_the_page_load(tmp_path: Path) -> None:
    lines = [shlex.split(line, comments=True) for block in blocks("bash") for line in block.splitlines()]
    assert {tuple(line[:2]) for line in lines} == {("bakeoff", "study")}
    assert {line[2] for line in lines} == {"run", "check"}
    for _, _, _, file, *typed in lines:
        (tmp_path / file).write_text(blocks("yaml")[0], encoding="utf-8")
        assert study.load(str(tmp_path / file), typed=typed).arms


def test_run_all_models_is_the_study_of_architectures(tmp_path: Path) -> None:
    """With a `bakeoff` that prints what it is told, in an environment that needs no setting up."""
    home, tools = tmp_path / "home", tmp_path / "tools"
    home.mkdir()
    tools.mkdir()
    (home / "run_all_models.sh").write_bytes((PAGE.parents[1] / "run_all_models.sh").read_bytes())
    (home / "setup.sh").write_text("", encoding="utf-8")
    (tools / "bakeoff").write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    (tools / "bakeoff").chmod(0o755)

    def told(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(home / "run_all_models.sh"), *arguments]
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=False)

    assert told().stdout == "study run architectures\n"
    assert told("8").stdout == "study run architectures epochs=8\n"
    assert told("8", "64", "0.05").stdout == "study run architectures epochs=8 batch_size=64 lr=0.05\n"
    assert (told("1", "2", "3", "4").returncode, told("--help").returncode) == (2, 2)
    assert study.load("architectures", typed=("epochs=8", "batch_size=64", "lr=0.05")).arms
