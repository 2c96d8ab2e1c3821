import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bakeoff.errors import DataError, RecipeError
from bakeoff.recipe import resolve
from bakeoff.record import Record
from bakeoff.results import predictions, store
from bakeoff.results.comparison import compare
from bakeoff.results.gather import gather, same_images
from bakeoff.results.store import Run
from tests import made


def record(model: str = "resnet_20", *settings: str, top1: float = 0.6, **changes: Any) -> Record:
    recipe = resolve(model, overrides=["lr=0.1", *settings])
    summary = {"val": {"top1": top1}, "test": {"top1": top1}, "fingerprint": recipe.model.name}
    given: dict[str, Any] = {"status": "finished", "rows": (), "summary": summary, "environment": {}, **changes}
    return Record(folder=Path(recipe.digest[:8]), recipe=recipe, **given)


def test_runs_of_any_kind_become_arms_by_what_they_differ_in() -> None:
    runs = [
        record("resnet_20", "seed=1"),
        record("resnet_32", "seed=0"),
        record("resnet_20", "lr=0.5", "seed=0"),
        record("resnet_20", "seed=0"),
        record("resnet_32", "seed=1"),
    ]
    study, found = gather(runs, name="mine")
    assert (study.name, study.seeds, len(found)) == ("mine", (0, 1), 5)
    assert [(arm.name, arm.seeds) for arm in study.arms] == [
        ("resnet_20", (0, 1)),
        ("resnet_32", (0, 1)),
        ("resnet_20 (lr=0.5)", (0,)),
    ]
    assert study.arms[2].changed == {"optimizer.lr": (0.1, 0.5)}
    comparison = compare(study, found)
    assert comparison.unfinished == 0
    assert [len(score.runs) for score in comparison.arms] == [2, 2, 1]
    assert "Not all arms have the same seeds: a difference is of those that both have." in comparison.warnings


def test_the_recipes_of_a_gathered_study_are_those_of_its_runs() -> None:
    runs = [record("resnet_20", f"seed={seed}", f"epochs={epochs}") for seed in (4, 7) for epochs in (5, 9)]
    study, found = gather(runs)
    assert set(study.recipes()) == set(found) == {run.recipe.digest for run in runs}
    assert study.warnings == ("Not comparable: epochs differs between arms (resnet_20 5, resnet_20 (epochs=9) 9).",)


def test_of_a_run_and_its_double_the_finished_one_counts_else_the_later() -> None:
    first, second = record(top1=0.5), record(top1=0.7)
    broken = record(status="interrupted", summary={})
    for runs, top1 in (([first, second], 0.7), ([second, first], 0.5), ([first, broken], 0.5), ([broken, first], 0.5)):
        study, found = gather(runs)
        assert [r.summary["test"]["top1"] for r in found.values()] == [top1]
        assert study.warnings == ("1 of 2 runs repeat the recipe and seed of another and are left out.",)


def test_no_two_arms_have_one_name() -> None:
    """Names are cut where they are long: what tells two apart may be behind the cut."""
    many = [f"augment.policy={policy}" for policy in ("none", "trivial", "rand")]
    long = ["batch_size=64", "data.limit=5000", "epochs=7", "label_smoothing=0.1", "ema_decay=0.99"]
    runs = [record(), *(record("improved_resnet20_convnext_no_droppath", *long, setting) for setting in many)]
    names = [arm.name for arm in gather(runs)[0].arms]
    assert len(set(names)) == 4
    assert names[2:] == [f"{names[1]} (2)", f"{names[1]} (3)"]
    assert max(map(len, names)) <= 60


def test_equal_networks_are_repeats_whatever_seed_came_first() -> None:
    runs = [record("ecanet20_adaptive", "seed=1"), record("ecanet20_fixed_k3", "seed=0")]
    runs = [dataclasses.replace(run, summary={**run.summary, "fingerprint": "one"}) for run in runs]
    comparison = compare(*gather(runs))
    assert comparison.repeats == (("ecanet20_adaptive", "ecanet20_fixed_k3"),)
    assert comparison.arms[1].to_control is None  # no seed in common


def test_one_run_is_a_study_too_and_none_is_not() -> None:
    comparison = compare(*gather([record()]))
    assert [score.name for score in comparison.arms] == ["resnet_20"]
    with pytest.raises(RecipeError, match="no runs"):
        gather([])


def test_a_plug_in_that_ran_is_gathered_by_its_name() -> None:
    recipe = resolve("tests.training.tiny:network", plugins=True)
    run = dataclasses.replace(record(), recipe=recipe)
    assert gather([run])[0].arms[0].name == "tests.training.tiny:network"


@pytest.fixture
def pair(tmp_path: Path) -> list[Record]:
    study = made.study(seeds=1, arms={"other": {"model": "resnet_32"}})
    return list(made.runs(study, tmp_path, images=300).values())


def test_two_runs_on_the_same_images(pair: list[Record]) -> None:
    part, test = same_images(*pair)
    right = []
    for run in pair:
        said = predictions.read(Run(run.folder).predictions("test"))
        right.append(said.logits.argmax(1) == said.label)
    assert (part, test.n) == ("test", 300)
    assert test.only_a == np.sum(right[0] & ~right[1])
    assert test.only_b == np.sum(right[1] & ~right[0])


def test_validation_where_only_one_has_read_test(pair: list[Record]) -> None:
    a, b = pair
    unread = dataclasses.replace(b, summary={key: value for key, value in b.summary.items() if key != "test"})
    assert same_images(a, unread)[0] == "val"


@pytest.mark.parametrize("change", ["label", "classes", "index"])
def test_other_images_are_refused(pair: list[Record], change: str) -> None:
    a, b = pair
    for part in ("val", "test"):
        path = Run(b.folder).predictions(part)
        said = predictions.read(path)
        other = {
            "label": {"label": said.label[::-1].copy()},
            "classes": {"classes": tuple(f"another {name}" for name in said.classes)},
            "index": {"index": said.index + 1},
        }[change]
        path.unlink()
        predictions.write(dataclasses.replace(said, **other), path)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no split of the same images"):
        same_images(a, b)


def test_unfinished_runs_have_no_images(tmp_path: Path) -> None:
    study = made.study(seeds=1, arms={"other": {"model": "resnet_32"}})
    made.runs(study, tmp_path, images=50, half=[("other", 0)])
    a, b = (Run(store.folder_of(recipe, root=tmp_path)).record() for recipe in study.recipes().values())
    with pytest.raises(DataError, match="two finished runs"):
        same_images(a, b)
