"""The check: mistakes are found in whichever arm, equal networks are named, runs, time and disk are counted."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bakeoff import catalogue, data
from bakeoff.errors import RecipeError
from bakeoff.launch import check as checks
from bakeoff.launch.check import Check, check
from bakeoff.launch.executors import Placement
from bakeoff.models import cost
from bakeoff.results import store
from bakeoff.results.store import Run
from bakeoff.study import Study
from bakeoff.training import assembly, pace, provenance
from bakeoff.training import run as training
from tests import made

SMALL = {"model": "resnet_20", "model.depth": 8}
DIGITS = {**SMALL, "data": "digits", "data.limit": 200, "epochs": 2, "batch_size": 64}
KERNELS = {
    f"k{size}" if isinstance(size, int) else size: {"model.attention": {"name": "eca", "kernel_size": size}}
    for size in (3, 5, "adaptive")
}
RATE = {"slow": {"lr": 0.01}}  # arms of one network


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try one network out and no more."""
    monkeypatch.setattr(pace, "TRIALS_S", 0.0)


def study(**changes: Any) -> Study:
    return made.study(**{"base": DIGITS, "arms": KERNELS, "changes": [], "seeds": 2, **changes})


def listed(folder: Path) -> Iterator[tuple[Path, int]]:
    return ((path, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*")))


def test_it_says_what_there_is_to_do(tmp_path: Path) -> None:
    found = check(study(), root=tmp_path / "logs")
    assert [row.arm for row in found.rows] == ["none", "k3", "k5", "adaptive"]
    assert (found.total, found.distinct, found.to_do) == (8, 8, 8)
    assert (found.finished, found.diverged, found.interrupted, found.running) == (0, 0, 0, 0)
    assert [row.to_do for row in found.rows] == [2] * 4
    assert found.rows[0].changed == {}
    assert found.rows[2].changed == {"model.attention": (None, {"name": "eca", "kernel_size": 5})}
    assert found.warnings == ()


def test_nothing_is_written_and_nothing_left_behind(tmp_path: Path) -> None:
    made.runs(study(arms=RATE), tmp_path, missing=[("none", 0)])
    before, threads = list(listed(tmp_path)), torch.get_num_threads()
    check(study(arms=RATE), root=tmp_path)
    check(study(arms=RATE), root=tmp_path / "none" / "such")
    assert list(listed(tmp_path)) == before
    assert torch.get_num_threads() == threads


def test_costs_are_those_of_the_networks(tmp_path: Path) -> None:
    found = check(study(), root=tmp_path)
    for row, arm in zip(found.rows, found.study.arms, strict=True):
        network = assembly.outline(arm.trials[0].recipe, plugin=None)
        counted = cost.cost(network, (1, 8, 8))
        assert (row.params, row.macs) == (counted.params, counted.macs)


def test_costs_that_were_counted_before_are_looked_up(tmp_path: Path) -> None:
    """Dropping costs nothing; any other option is counted anew."""
    arms = {"dropping": {"model.drop_path": 0.1}, "narrow": {"model.widths": [16, 32, 64, 128]}}
    found = check(study(base={"model": "convnext_atto"}, arms=arms), root=tmp_path)
    for row, arm in zip(found.rows, found.study.arms, strict=True):
        network = assembly.outline(arm.trials[0].recipe, plugin=None)
        assert row.macs == cost.cost(network, (3, 32, 32)).macs
    plain, dropping, narrow = (row.macs for row in found.rows)
    assert plain == dropping == catalogue.costs()["convnext_atto"].macs != narrow


def test_equal_networks_are_named(tmp_path: Path) -> None:
    assert check(study(), root=tmp_path).repeats == (("k3", "adaptive"),)


def test_equal_networks_that_train_otherwise_are_no_repeats(tmp_path: Path) -> None:
    arms = {"k3": KERNELS["k3"], "adaptive": {**KERNELS["adaptive"], "lr": 0.05}}
    assert check(study(arms=arms), root=tmp_path).repeats == ()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"model": {"name": "resnet_20", "atention": "eca"}}, r"model\.atention|'atention'"),
        ({"model": {"name": "resnet_20", "attention": {"name": "eca", "kernel_size": 4}}}, "kernel_size"),
        ({"model": "coatnet_cifar_opt"}, "8"),  # its least are 16 pixels
        ({"augment": {"crop_padding": 9}}, "crop_padding"),
        ({"batch_size": 1000}, r"batch_size: found 1000; expected 1 to 180"),
        (
            {"data.val_fraction": 0.001},
            r"data\.val_fraction: found 0\.001, which leaves none of 200 images",
        ),
        ({"data.limit": 10, "batch_size": 4}, r"data\.val_fraction: found 0\.1, which leaves none of 10 images"),
        ({"data.limit": 5000}, r"data\.limit: found 5000; expected 1 to the 1438"),
    ],
)
def test_a_mistake_in_the_seventh_arm_is_found_before_the_first_run(
    layer: dict[str, Any], message: str, tmp_path: Path
) -> None:
    arms: dict[str, Any] = {f"arm {i}": {"lr": i / 100} for i in range(1, 6)}
    planned = study(arms={**arms, "the seventh": layer})
    with pytest.raises(RecipeError, match=message) as raised:
        check(planned, root=tmp_path)
    assert raised.value.where.startswith("made: the seventh: ")
    assert raised.value.exit_code == 2


def test_a_mistake_in_one_of_the_settings_tried_names_it(tmp_path: Path) -> None:
    planned = study(arms={"kernel": {"try": {"model.attention": ["eca", "ecca"]}}})
    with pytest.raises(RecipeError, match="made: kernel, attention=ecca: "):
        check(planned, root=tmp_path)


def test_a_device_that_is_not_there_is_found(tmp_path: Path) -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has what should be missing")
    with pytest.raises(RecipeError, match="made: none: device: found 'mps'"):
        check(study(base={**DIGITS, "device": "mps"}), root=tmp_path)


def test_runs_are_counted_by_their_status(tmp_path: Path) -> None:
    planned = study()
    made.runs(planned, tmp_path, missing=[("none", 0)], half=[("k3", 1)], diverged=[("adaptive", 0)])
    found = check(planned, root=tmp_path)
    assert (found.finished, found.interrupted, found.diverged, found.to_do) == (5, 1, 1, 2)
    assert {row.arm: row.to_do for row in found.rows if row.to_do} == {"none": 1, "k3": 1}
    assert found.rows[3].basis is None


def test_a_finished_study_costs_nothing_more(tmp_path: Path) -> None:
    made.runs(study(arms=RATE), tmp_path)
    found = check(study(arms=RATE), root=tmp_path)
    assert (found.finished, found.to_do, found.seconds, found.disk_bytes) == (4, 0, 0.0, 0)


def test_a_run_that_two_arms_share_is_counted_once(tmp_path: Path) -> None:
    arms = {"slow": {"lr": 0.01}, "tried": {"try": {"lr": [0.01, 0.02]}}}
    found = check(study(arms=arms), root=tmp_path)
    assert (found.total, found.distinct) == (8, 6)
    assert [row.to_do for row in found.rows] == [2, 2, 2]
    assert [row.trials for row in found.rows] == [1, 1, 2]
    assert sum(row.to_do for row in found.rows) == found.to_do


def test_an_unreadable_run_is_a_warning(tmp_path: Path) -> None:
    planned = study(arms=RATE)
    made.runs(planned, tmp_path)
    broken = Run(store.folder_of(next(iter(planned.recipes().values())), root=tmp_path))
    broken.summary_path.write_text("{", encoding="utf-8")
    found = check(planned, root=tmp_path)
    assert str(broken.summary_path) in found.warnings[-1]
    assert found.to_do == 1


def timed(planned: Study, root: Path, **options: Any) -> Check:
    """Check with a made pace, a millisecond an image."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pace, "seconds_per_image", lambda _: 0.001)
        return check(planned, root=root, **options)


def test_time_follows_from_images_epochs_and_jobs(tmp_path: Path) -> None:
    arms = RATE
    found = timed(study(arms=arms, base={**DIGITS, "epochs": 10}), tmp_path, placement=Placement(jobs=2))
    # 10 epochs of 180 images, and a forward pass over 20 after each, over 20 at the end and over 359 of the test.
    a_run = (10 * 180 + (10 * 20 + 20 + 359) / 3) / 1000
    assert [row.seconds for row in found.rows] == pytest.approx([2 * a_run] * 2)
    assert found.seconds == pytest.approx(4 * a_run / 2)
    assert found.jobs == 2
    assert found.rows[0].basis == "trial"
    alone = timed(study(arms=arms, base={**DIGITS, "epochs": 10}), tmp_path, placement=Placement(jobs=100))
    assert alone.seconds == pytest.approx(a_run)  # no sooner than the longest run


def test_a_run_that_was_interrupted_takes_what_is_left_of_it(tmp_path: Path) -> None:
    planned = study(arms=RATE, base={**DIGITS, "epochs": 8}, seeds=[0])
    whole = timed(planned, tmp_path)
    made.runs(planned, tmp_path, missing=[("slow", 0)], half=[("none", 0)])  # after two epochs
    rest = timed(planned, tmp_path)
    assert 0.6 < rest.rows[0].seconds / whole.rows[0].seconds < 0.85
    assert rest.rows[1].seconds == whole.rows[1].seconds


def test_a_larger_network_is_scaled_from_a_smaller_one(tmp_path: Path) -> None:
    found = timed(study(arms={"deep": {"model.depth": 14}}), tmp_path)
    small, deep = found.rows
    assert (small.basis, deep.basis) == ("trial", "other network")
    price = [cost.cost(assembly.outline(arm.trials[0].recipe, plugin=None), (1, 8, 8)) for arm in found.study.arms]
    assert deep.seconds / small.seconds == pytest.approx(price[1].activations / price[0].activations)


def test_a_finished_run_on_this_machine_tells_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = study(arms=RATE)
    made.runs(planned, tmp_path, missing=[("none", 1)])
    assert timed(planned, tmp_path).rows[0].basis == "trial"  # they were made elsewhere
    device = assembly.place(planned.control.trials[0].recipe)
    here = provenance.collect(device, command=())["hardware"]
    for run in store.list_runs(tmp_path):
        run.write_json(run.environment_path, made.ENVIRONMENT | {"hardware": here})
    found = check(planned, root=tmp_path)
    assert found.rows[0].basis == "finished run"
    speed = [run.record().rows[-1]["images_per_s"] for run in store.list_runs(tmp_path)]
    images = 2 * 180 + (2 * 20 + 20 + 359) / 3
    assert images / max(speed) <= found.rows[0].seconds <= images / min(speed)
    # So does a run of the same network that belongs to another study.
    other = check(study(arms={"slow": {"lr": 0.03}}, base={**DIGITS, "epochs": 7}), root=tmp_path)
    assert other.rows[0].basis == "finished run"


def test_a_run_that_tells_no_speed_is_not_asked_for_it(tmp_path: Path) -> None:
    planned = study(arms=RATE)
    here = provenance.collect(assembly.place(planned.control.trials[0].recipe), command=())["hardware"]
    made.runs(planned, tmp_path, missing=[("none", 1)], half=[("slow", 0)])
    for run, speed in zip(store.list_runs(tmp_path), (None, 0.0, None), strict=True):
        run.write_json(run.environment_path, made.ENVIRONMENT | {"hardware": here})
        run.metrics.path.write_text(json.dumps({"step": 1, "images_per_s": speed}) + "\n")
    assert timed(planned, tmp_path).rows[0].basis == "trial"


def test_the_disk_that_is_estimated_is_about_what_a_run_takes(tmp_path: Path) -> None:
    for settings in ({}, {"optimizer": "adamw", "ema_decay": 0.9}, {"optimizer": "muon"}):
        planned = study(base={**DIGITS, "epochs": 1, **settings}, arms=RATE, seeds=[0])
        estimate = check(planned, root=tmp_path).disk_bytes / 2
        recipe = planned.control.trials[0].recipe
        folder = store.folder_of(recipe, root=tmp_path)
        training.start(recipe, folder)
        training.read_test(Run(folder))
        taken = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert 0.6 < estimate / taken < 1.4, settings


def test_a_full_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = checks.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: usage)
    found = check(study(arms=RATE), root=tmp_path)
    assert found.free_bytes == 1000
    assert "the disk has 0.0 GB" in found.warnings[-1]


def test_the_images_that_are_counted_are_there() -> None:
    names = ["digits", *(["cifar100"] if os.environ.get("BAKEOFF_DATA") else [])]
    for name in names:
        train, test = (len(data.load(name, part=part)) for part in ("train", "test"))
        assert (catalogue.DATASETS[name].num_train, catalogue.DATASETS[name].num_test) == (train, test)


def test_trying_out_takes_about_as_long_as_training(tmp_path: Path) -> None:
    """Loosely: other processes may be at work beside this one."""
    recipe = study(base={**DIGITS, "threads": 1, "data.limit": 1000}).control.trials[0].recipe
    tried = pace.seconds_per_image(recipe)
    rows = training.start(recipe, tmp_path / "run").rows
    assert 0.1 < tried * rows[-1]["images_per_s"] < 10
