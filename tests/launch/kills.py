"""Kill a grid's driver and its workers at random moments, and compare what it leaves with undisturbed runs.

    python -m tests.launch.kills [--runs 30] [--driver 5] [--workers 10] [--seed 1] [--report FILE]

Real processes, SIGKILL, moments from a printed seed. A worker is the fork that trains a run; one kill of a worker in
four hits the process that forks them, and so all of them. A killed driver is followed at once by another, while the
orphans of the first still save. From half of the kills on a second driver works on the same study beside the first.

Each run must end finished, once, with the same weights, metric rows, summary and answers on validation and test, byte
for byte, as the same recipe trained alone in one process. A look at test is written down before test is read: a worker
that is killed between the two has looked, and its successor looks again. Such runs are counted, not hidden.

The last line is JSON; the exit code is 0 only if all came out as they must.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bakeoff.launch.jobs import claim
from bakeoff.recipe import Recipe
from bakeoff.results import lock, store
from bakeoff.results.store import Run
from bakeoff.training import assembly, provenance
from bakeoff.training import run as training
from tests.launch import grids
from tests.training import kills

LONGEST_S = 1200  # that a grid may take: a hang is a failure
LENGTH = ("data.limit=1438", "epochs=15", "checkpoint_steps=23")  # 600 steps, 15 metric rows, 36 checkpoints or so
AT_TEST = 10**9  # beyond any step
DRIVER, WORKER, ALL_WORKERS = "driver", "worker", "all workers"


class Bench:
    """A study whose drivers and workers are killed.

    Args:
        settings: of every run.
        rival: whether a second driver joins halfway.
    """

    def __init__(self, folder: Path, *, runs: int, seed: int, settings: tuple[str, ...], rival: bool) -> None:
        self.root, self.alone = folder / "grid", folder / "alone"
        self.runs, self.settings, self.rival = runs, settings, rival
        self.random = random.Random(seed)
        self.recipes: list[Recipe] = list(grids.many(runs, *settings).recipes().values())
        self.references = {recipe.digest: self.train_alone(recipe) for recipe in self.recipes}
        self.steps = int(next(iter(self.references.values()))["step"])
        self.killed: Counter[str] = Counter()
        self.drivers: list[subprocess.Popen[str]] = []
        self.log = folder / "drivers.log"

    def start_driver(self) -> None:
        command = [sys.executable, "-m", "tests.launch.driver", str(self.root), str(self.runs), "jobs=2"]
        with self.log.open("a") as log:
            driver = subprocess.Popen(
                [*command, *self.settings], cwd=grids.ROOT, env=grids.environment(), stdout=log, stderr=log, text=True
            )
        self.drivers.append(driver)

    def disturb(self, plan: list[str]) -> None:
        """Run the study while these are killed, one after another, all along the grid."""
        self.start_driver()
        for i, kind in enumerate(plan):
            self.wait_for_finished(i * self.runs // (len(plan) + 2))
            if self.rival and i == len(plan) // 2:
                self.start_driver()
            if not self.strike(kind):
                return
        deadline = time.monotonic() + LONGEST_S
        while any(driver.poll() is None for driver in self.drivers):
            assert time.monotonic() < deadline, "the grid does not end"
            time.sleep(0.1)

    def strike(self, kind: str) -> bool:
        """Kill one of a kind at a random moment of a run; tell whether there was one."""
        self.wait_for_work(-1)
        time.sleep(self.random.uniform(0, 0.5))
        process, folder = self.wait_for_work(self.random.choice((-1, 1, self.steps // 2, self.steps - 1, AT_TEST)))
        if not process:
            return False
        victim = {DRIVER: self.drivers[-1].pid, WORKER: process, ALL_WORKERS: parent(process)}[kind]
        if kind != DRIVER and not is_worker(victim):  # it has just ended
            return self.strike(kind)
        os.kill(victim, signal.SIGKILL)
        self.killed[kind] += 1
        step = how_far(folder)
        place = f"{folder.name} " + ("trained" if step == AT_TEST else f"after checkpoint {step} of {self.steps}")
        print(f"{sum(self.killed.values()):4d}  {kind:12s} {place}", flush=True)
        if kind == DRIVER:
            self.drivers.pop().wait()
            self.start_driver()
        return True

    def wait_for_finished(self, count: int) -> None:
        """Wait until so many runs are trained."""
        while any(driver.poll() is None for driver in self.drivers):
            if len(list(self.root.glob("*/seed*/evaluation_summary.json"))) >= count:
                return
            time.sleep(0.05)

    def wait_for_work(self, least: int) -> tuple[int, Path]:
        """Return a process that works on a run which is so far, and the run; 0 where all drivers have ended."""
        deadline = time.monotonic() + LONGEST_S
        while any(driver.poll() is None for driver in self.drivers):
            assert time.monotonic() < deadline, "no run is ever at work"
            if found := [work for work in sorted(grids.at_work(self.root)) if how_far(work[1]) >= least]:
                return self.random.choice(found)
            time.sleep(0.01)
        return 0, self.root

    def train_alone(self, recipe: Recipe) -> dict[str, Any]:
        """Return all that must be equal of a run that nobody disturbs, in this process."""
        run = Run(store.folder_of(recipe, root=self.alone))
        training.start(recipe, run.folder)
        training.read_test(run, plugin=grids.TINY)
        return grids.outcome_of(run)

    def verdicts(self) -> Iterator[tuple[Run, list[str]]]:
        """Yield every run of the grid, and in what it differs from the same run alone."""
        for recipe in self.recipes:
            run = Run(store.folder_of(recipe, root=self.root))
            status = run.status() if run.recipe_path.is_file() else "missing"
            reference = self.references[recipe.digest]
            yield run, kills.differences(reference, grids.outcome_of(run)) if status == "finished" else [status]


def parent(process: int) -> int:
    """Return the parent of a process; the process itself where it is gone."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return process


def is_worker(process: int) -> bool:
    """Tell whether a number is that of a worker, and not of whoever got it next."""
    try:
        return b"bakeoff.launch.worker" in Path(f"/proc/{process}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def how_far(folder: Path) -> int:
    """Return the step of a run's newest checkpoint; -1 before the first, AT_TEST when it is trained."""
    run = Run(folder)
    if run.summary_path.exists():
        return AT_TEST
    names = (path.name[5:] for path in run.checkpoints.glob("step-*"))
    return max((int(name) for name in names if name.isdigit()), default=-1)


def prove(
    folder: Path, *, runs: int, driver: int, workers: int, seed: int, settings: tuple[str, ...], rival: bool = True
) -> dict[str, Any]:
    """Disturb a grid, and return what came out."""
    bench = Bench(folder, runs=runs, seed=seed, settings=settings, rival=rival)
    plan = [DRIVER] * driver + [ALL_WORKERS if i % 4 == 3 else WORKER for i in range(workers)]
    bench.random.shuffle(plan)
    started = time.monotonic()
    bench.disturb(plan)
    seconds = time.monotonic() - started
    verdicts = list(bench.verdicts())
    for run, wrong in verdicts:
        if wrong:
            print(f"{run.folder.name} DIFFERS: {wrong}", flush=True)
    looks = Counter(len(run.read_json(run.summary_path).get("test_reads", [])) for run, _ in verdicts)
    codes = [driver.wait() for driver in bench.drivers]
    if any(codes):
        print(bench.log.read_text())
    return {
        "runs": runs,
        "folders": len(list(bench.root.glob("*/seed*/recipe.yaml"))),
        "finished_and_equal": sum(not wrong for _, wrong in verdicts),
        "killed": dict(bench.killed),
        "kills_planned": len(plan),
        "driver_exit_codes": codes,
        "runs_by_looks_at_test": {str(count): looks[count] for count in sorted(looks)},
        "still_held": sum(lock.is_held(claim(run.folder)) for run, _ in verdicts),
        "seconds_grid": round(seconds, 1),
    }


def good(result: dict[str, Any]) -> bool:
    """Tell whether all came out as it must."""
    every_run = result["finished_and_equal"] == result["folders"] == result["runs"]
    every_kill = sum(result["killed"].values()) == result["kills_planned"]
    looked = "0" not in result["runs_by_looks_at_test"] and not result["still_held"]
    return every_run and every_kill and looked and not any(result["driver_exit_codes"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--driver", type=int, default=5, help="kills of the driver")
    parser.add_argument("--workers", type=int, default=10, help="kills of workers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="write the figures, with machine and versions, to this file")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = {"seed": asked.seed, "settings": LENGTH} | prove(
            Path(folder),
            runs=asked.runs,
            driver=asked.driver,
            workers=asked.workers,
            seed=asked.seed,
            settings=LENGTH,
        )
    result["ok"] = good(result)
    if asked.report:
        about = provenance.collect(
            assembly.place(grids.recipe()), command=["python", "-m", "tests.launch.kills", *sys.argv[1:]]
        )
        asked.report.write_text(json.dumps({"about": about, "measured": result}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
