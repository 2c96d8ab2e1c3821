"""What each executor of studies costs a run, and what a second worker brings.

    python -m benchmarks.executors [--runs 8] [--rounds 3] [--limit 2000] [--report FILE]

Executors:
    forks    workers of this machine that share one process, as on the CPU
    process  a process a run, as where there are GPUs
    ray      a Ray cluster of this machine alone
    slurm    submitit, behind a stand-in for Slurm's programs that starts jobs at once: what the queue takes is Slurm's

Overhead: runs of a tiny network that hardly train, one at a time; what each takes beyond the same run in a process that
is warm, test reading included. Speed-up: runs of resnet_20 on CIFAR-100 (one thread each), two at a time against one
at a time. Rounds go through the executors in turn; medians. The cluster is started once, before the first round.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakeoff.launch import cluster, grid, local
from bakeoff.launch.executors import Placement
from bakeoff.launch.jobs import Executor
from bakeoff.recipe import Recipe
from bakeoff.results import store
from bakeoff.results.store import Run
from bakeoff.study import Study
from bakeoff.study.expand import expand
from bakeoff.study.schema import StudyFile
from bakeoff.training import assembly, provenance
from bakeoff.training import run as training
from tests.launch import grids, slurm_stand_in


@dataclass(frozen=True, kw_only=True, slots=True)
class AProcessARun(Placement):
    """Workers of this machine as where there are GPUs, without any."""

    def open(self, recipes: Sequence[Recipe], *, root: Path, log: Path) -> Executor:
        """Return so many places of one run each."""
        return local.Local([local.Place(environment=local.ONE_THREAD) for _ in range(self.jobs or 1)], log=log)


def placement(name: str, *, jobs: int) -> Placement:
    """Return one of the executors."""
    if name == "forks":
        return Placement(jobs=jobs)
    return AProcessARun(jobs=jobs) if name == "process" else Placement(executor=name, jobs=jobs)


EXECUTORS = ("forks", "process", "ray", "slurm")


def seconds_of(study: Study, where: Placement) -> float:
    """Return how long a study takes."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        outcome = grid.run(study, root=Path(folder), placement=where, plugin=grids.TINY)
        took = time.perf_counter() - began
    assert all(end.state == "finished" for end in outcome.runs), outcome
    return took


def warm_seconds(study: Study) -> float:
    """Return how long its runs take one after another in this process."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        for recipe in study.recipes().values():
            run = Run(store.folder_of(recipe, root=Path(folder)))
            training.start(recipe, run.folder)
            training.read_test(run, plugin=grids.TINY)
        return time.perf_counter() - began


def real(*, runs: int, limit: int) -> Study:
    """Return a study of so many runs of resnet_20."""
    base = {"model": "resnet_20", "data.name": "cifar100", "data.limit": limit, "epochs": 1, "device": "cpu"}
    base |= {"compile": False, "threads": 1}
    content = {"question": "?", "base": base, "arms": {"b": {"optimizer.momentum": 0.8}}, "seeds": runs // 2}
    return expand(StudyFile.model_validate(content), name="speed", where="speed")


def measure(*, runs: int, rounds: int, limit: int) -> dict[str, Any]:
    """Measure all executors."""
    began = time.perf_counter()
    cluster.connect(None)
    result: dict[str, Any] = {"runs": runs, "rounds": rounds, "ray_starts_in_s": time.perf_counter() - began}
    tiny, heavy = grids.many(runs, "epochs=1"), real(runs=4, limit=limit)
    warm_seconds(tiny)  # libraries are loaded, pictures are in memory
    overhead: dict[str, list[float]] = {name: [] for name in EXECUTORS}
    speed_up: dict[str, list[float]] = {name: [] for name in EXECUTORS}
    for number in range(rounds):
        warm = warm_seconds(tiny) / runs
        for name in EXECUTORS:
            overhead[name].append(seconds_of(tiny, placement(name, jobs=1)) / runs - warm)
            alone, both = (seconds_of(heavy, placement(name, jobs=jobs)) for jobs in (1, 2))
            speed_up[name].append(alone / both)
            told = {"overhead_s": overhead[name][-1], "alone_s": alone, "both_s": both}
            print(f"round {number + 1} {name}: {json.dumps(told)}", flush=True)
    result["overhead_s_per_run"] = {name: statistics.median(found) for name, found in overhead.items()}
    result["speed_up_of_two"] = {name: statistics.median(found) for name, found in speed_up.items()}
    return result | {"overhead_of_rounds": overhead, "speed_up_of_rounds": speed_up}


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the report if there is to be one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=2000, help="images of CIFAR-100")
    parser.add_argument("--report", type=Path)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(grids.environment() | slurm_stand_in.install(Path(folder)))
        measured = measure(runs=chosen.runs, rounds=chosen.rounds, limit=chosen.limit)
    print(json.dumps(measured, indent=2))
    if chosen.report:
        device = assembly.place(grids.recipe())
        about = provenance.collect(device, command=["python", "-m", "benchmarks.executors", *arguments])
        text = json.dumps({"about": about, "measured": measured}, indent=2) + "\n"
        chosen.report.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
