"""The benchmark of one GPU runs without one, in small, and says of its goals what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bakeoff import catalogue
from benchmarks import gpu
from benchmarks.rounds import spread

ROOT = Path(__file__).parents[2]


def test_goals_are_reckoned_from_the_best_way_of_each_and_from_the_whole_zoo() -> None:
    told = gpu.goals(
        {
            "resnet18, batch 128, launched": {"images_per_s": spread([20_000.0, 30_000.0, 10_000.0])},
            "resnet18, batch 512, graph": {"images_per_s": spread([50_000.0])},
            "resnet_20, batch 128, graph": {"images_per_s": spread([])},
            "runs in processes": {"images_per_s": 400_000.0},
            "runs on streams": {"failed": "no"},
            "zoo: resnet_20": {"images_per_s": 100_000.0, "epoch_s": 0.5},
            "zoo: resnet_32": {"images_per_s": 50_000.0, "epoch_s": 1.0},
            "zoo: resnet_44": {"left_out": "no time"},
        }
    )
    assert told == {
        "resnet18, images/s": 50_000.0,
        "resnet18, 200 epochs, s": 200.0,
        "runs in processes, images/s": 400_000.0,
        "zoo, networks": 2,
        "zoo, an epoch of each, s": 1.5,
    }


def test_the_zoo_is_measured_from_small_to_large_and_last() -> None:
    size = gpu.whole()
    names = list(gpu.pieces(gpu.Bench(size=size, folder=Path(), deadline=0.0)))
    zoo = [name.removeprefix("zoo: ") for name in names if name.startswith("zoo: ")]
    assert sorted(zoo) == sorted(catalogue.MODELS)
    assert names[-len(zoo) :] == [f"zoo: {name}" for name in zoo]
    assert [catalogue.costs()[name].macs for name in zoo] == sorted(costs.macs for costs in catalogue.costs().values())


def test_what_there_is_no_time_for_is_named(tmp_path: Path) -> None:
    bench = gpu.Bench(size=gpu.rehearsal(), folder=tmp_path, deadline=0.0)
    measured = gpu.run(bench, report=tmp_path / "report.json", about={})
    assert set(measured) == set(gpu.pieces(bench))
    assert all(found == {"left_out": "no time"} for found in measured.values())
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["measured"]["resnet_20, batch 8, graph"]


@pytest.mark.slow
def test_a_rehearsal_measures_everything(tmp_path: Path) -> None:
    report = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--report", str(report)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    told = json.loads(report.read_text(encoding="utf-8"))
    measured = told["measured"]
    names = {"goals", *gpu.pieces(gpu.Bench(size=gpu.rehearsal(), folder=tmp_path, deadline=0.0))}
    assert set(measured) == names
    assert not [name for name, found in measured.items() if {"failed", "left_out"} & found.keys()]
    assert measured["losses"]["largest_relative_loss_difference_20_steps"] < 1e-3
    assert told["about"]["device"] == "cpu"
