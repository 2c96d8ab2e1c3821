"""A study of 1,000 runs on 64 cores with failures, on the executor's own code in imagined time.

    python -m benchmarks.cluster_simulation [--runs 1000] [--nodes 8] [--cores 8] [--seed 1] [--report FILE]

The grid, the driver's side of remote runs, the exchange and the folders of runs are the real ones; imagined are only
the nodes and the clock. Runs take the times that runs of the project's own studies took on one core (docs/studies), in
turn. A node is lost as a whole, at random moments with a mean time between failures, and joins again after a while;
what its runs had brought, a checkpoint every minute, stays. A killed driver is started again after a while; as on Ray,
its attempts die with it.

Told of each scenario: how long the study takes against the sum of all runs shared out evenly; hours of work that were
done twice; attempts; results, each once and equal to what was to come out; and the driver's processor time, which is
real.
"""

import argparse
import csv
import heapq
import itertools
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bakeoff.launch import grid, remote
from bakeoff.launch.exchange import Attempt, Exchange
from bakeoff.launch.executors import Placement
from bakeoff.launch.jobs import Job
from bakeoff.launch.remote import Remote
from bakeoff.results import store
from bakeoff.study import Study
from bakeoff.training import assembly, provenance
from tests import made

STUDIES = Path(__file__).parents[1] / "docs" / "studies"
CHECKPOINT_S, NODE_BACK_S, DRIVER_BACK_S = 60.0, 600.0, 120.0
SCENARIOS = {  # mean hours between failures of a node, kills of the driver
    "nothing fails": (None, 0),
    "a node fails once a day": (24.0, 1),
    "a node fails every two hours": (2.0, 3),
}


class DriverKilled(BaseException):
    """SIGKILL, as far as one process can imagine its own."""


@dataclass(slots=True, eq=False)
class Task:
    """One attempt on an imagined node."""

    attempt: Attempt
    place: str
    node: int
    began: float
    resumed_s: float
    left_s: float
    over: bool = False


@dataclass(slots=True)
class ImaginedNodes:
    """Nodes that need no time.

    Args:
        finished: the folder of all runs as they are to come out.
        seconds: what each run takes, by its place.
        mtbf_h: mean hours between failures of a node; None for never.
        kills: when the driver is killed, in seconds.
    """

    exchange: Exchange
    finished: Path
    seconds: Mapping[str, float]
    num: int
    cores: int
    mtbf_h: float | None
    kills: list[float]
    random: random.Random
    now: float = 0.0
    lost_s: float = 0.0
    attempts: int = 0
    failures: int = 0
    tasks: list[Task] = field(default_factory=list)
    down: set[int] = field(default_factory=set)
    _events: list[tuple[float, int, str, Any]] = field(default_factory=list)
    _number: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        for node in range(self.num):
            self._plan_failure(node)

    def _plan_failure(self, node: int) -> None:
        if self.mtbf_h:
            self._at(self.now + self.random.expovariate(1 / (3600 * self.mtbf_h)), "fail", node)

    def _at(self, when: float, kind: str, what: Any) -> None:  # noqa: ANN401 - a node or a task
        heapq.heappush(self._events, (when, next(self._number), kind, what))

    @property
    def room(self) -> int:
        """How many cores are there."""
        return self.cores * (self.num - len(self.down))

    def submit(self, order: Mapping[str, Any]) -> Task:
        """Begin an attempt at once on a free core."""
        place = "/".join(Path(Job.from_line(order["job"].encode()).folder).parts[-2:])
        attempt = self.exchange.attempt(place, order["attempt"])
        used = [sum(not task.over and task.node == node for task in self.tasks) for node in range(self.num)]
        node = next(i for i in range(self.num) if i not in self.down and used[i] < self.cores)
        resumed = max(0, attempt.progress()[1]) * 1.0  # a step of these runs is a second
        task = Task(attempt, place, node, self.now, resumed, self.seconds[place] - resumed)
        self.tasks.append(task)
        self.attempts += 1
        self._at(self.now + task.left_s, "done", task)
        return task

    def ended(self, tasks: Sequence[Task], *, timeout_s: float) -> list[tuple[Task, str]]:
        """Let time pass until something ends."""
        over: list[Task] = []
        while tasks and not over:
            self.now, _, kind, what = heapq.heappop(self._events)
            if self.kills and self.now >= self.kills[0]:
                self._at(self.now, kind, what)
                self._kill_driver()
            over = self._happen(kind, what)
        self.tasks = [task for task in self.tasks if not task.over]
        return [(task, "" if task.attempt.ended() else "its node is gone") for task in over]

    def _kill_driver(self) -> None:
        self.now, begun = self.kills.pop(0), list(self.tasks)
        for task in begun:
            self._lose(task)
        self.tasks = []
        self.now += DRIVER_BACK_S
        raise DriverKilled

    def _happen(self, kind: str, what: Any) -> list[Task]:  # noqa: ANN401
        if kind == "done":
            return [] if what.over else self._finish(what)
        if kind == "back":
            self.down.discard(what)
            self._plan_failure(what)
            return []
        self.down.add(what)
        self.failures += 1
        self._at(self.now + NODE_BACK_S, "back", what)
        gone = [task for task in self.tasks if task.node == what and not task.over]
        for task in gone:
            self._lose(task)
        return gone

    def _finish(self, task: Task) -> list[Task]:
        task.over = True
        task.attempt.bring(self.finished / task.place)
        task.attempt.end({"code": 0, "error": {}, "last_words": ""})
        return [task]

    def _lose(self, task: Task) -> None:
        """End an attempt without a word; what stays is its last checkpoint."""
        task.over = True
        done = task.resumed_s + self.now - task.began
        step = int(done // CHECKPOINT_S * CHECKPOINT_S)
        self.lost_s += done - max(step, task.resumed_s)
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) / "run"
            kept.mkdir()
            shutil.copy(self.finished / task.place / "recipe.yaml", kept)
            if step > 0:
                (kept / f"checkpoints/step-{step}").mkdir(parents=True)
                (kept / f"checkpoints/step-{step}/manifest.json").write_text("{}")
            task.attempt.bring(kept)

    def kill(self, task: Task) -> None:
        """End an attempt."""
        task.over = True


@dataclass(slots=True)
class Killable(Remote):
    """A driver's side whose process may be gone: then nobody is asked to stop, and the kernel lets go of its claims."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leave as a killed process does, or well."""
        if kind is not DriverKilled:
            super(Killable, self).__exit__()
        for flight in self._flights:
            flight.claim.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class Imagined(Placement):
    """Runs on imagined nodes."""

    nodes: ImaginedNodes
    exchange: Exchange

    def open(self, recipes: object, *, root: Path, log: Path) -> Remote:
        """Return the driver's side."""
        return Killable(root=root, nodes=self.nodes, exchange=self.exchange)


def recorded() -> list[float]:
    """Return the mean seconds of a run of every arm of the project's studies."""
    tables = sorted(STUDIES.glob("*/leaderboard.csv"))
    return [float(row["training_s"]) for path in tables for row in csv.DictReader(path.open(encoding="utf-8"))]


def simulate(study: Study, finished: Path, folder: Path, *, nodes: ImaginedNodes) -> dict[str, Any]:
    """Run the study to its end, through all kills of its driver."""
    root, drivers, began = folder / "logs", 0, time.process_time()
    while True:
        drivers += 1
        with suppress(DriverKilled):
            outcome = grid.run(study, root=root, placement=Imagined(nodes=nodes, exchange=nodes.exchange))
            break
    took = time.process_time() - began
    ideal = max(sum(nodes.seconds.values()) / (nodes.num * nodes.cores), *nodes.seconds.values())
    equal = sum(
        (root / place / "evaluation_summary.json").read_bytes()
        == (finished / place / "evaluation_summary.json").read_bytes()
        for place in nodes.seconds
    )
    return {
        "results": len(store.list_runs(root)),
        "equal": equal,
        "ends": sorted({end.state for end in outcome.runs}),
        "hours": nodes.now / 3600,
        "hours_if_shared_out_evenly": ideal / 3600,
        "ratio": nodes.now / ideal,
        "node_failures": nodes.failures,
        "drivers": drivers,
        "attempts": nodes.attempts,
        "core_hours_done_twice": nodes.lost_s / 3600,
        "core_hours": sum(nodes.seconds.values()) / 3600,
        "driver_processor_s_per_run": took / len(nodes.seconds),
        "left_in_exchange": sum(path.is_file() for path in Path(nodes.exchange.url).rglob("*")),
    }


def measure(*, runs: int, nodes: int, cores: int, seed: int) -> dict[str, Any]:
    """Simulate all scenarios."""
    remote.ASK_EVERY_S = float("inf")  # nothing is told on the way
    found: dict[str, Any] = {"runs": runs, "nodes": nodes, "cores_of_a_node": cores, "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        finished = Path(folder) / "finished"
        arms = {f"arm {i}": {"optimizer.lr": 0.1 + i / 997} for i in range(1, runs // 5)}
        study = made.study(base={"model": "resnet_20", "epochs": 5}, arms=arms, changes=["optimizer.lr"], seeds=5)
        made.runs(study, finished, images=20)
        times = itertools.cycle(recorded())
        seconds = {recipe.place: next(times) for recipe in study.recipes().values()}
        found["seconds_of_a_run"] = [min(seconds.values()), max(seconds.values())]
        for number, (name, (mtbf, kills)) in enumerate(SCENARIOS.items()):
            here = Path(folder) / str(number)
            source = random.Random(seed)
            hours = sum(seconds.values()) / 3600 / (nodes * cores)
            imagined = ImaginedNodes(
                exchange=Exchange(str(here / "exchange")),
                finished=finished,
                seconds=seconds,
                num=nodes,
                cores=cores,
                mtbf_h=mtbf,
                kills=sorted(source.uniform(0.1, 0.9) * 3600 * hours for _ in range(kills)),
                random=source,
            )
            found[name] = simulate(study, finished, here, nodes=imagined)
            print(name, json.dumps(found[name]), flush=True)
    return found


def main(arguments: Sequence[str]) -> None:
    """Simulate, and write the report if there is to be one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--cores", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path)
    chosen = parser.parse_args(arguments)
    measured = measure(runs=chosen.runs, nodes=chosen.nodes, cores=chosen.cores, seed=chosen.seed)
    print(json.dumps(measured, indent=2))
    if chosen.report:
        recipe = made.study().control.trials[0].recipe.model_copy(update={"device": "cpu"})
        command = ["python", "-m", "benchmarks.cluster_simulation", *arguments]
        about = provenance.collect(assembly.place(recipe), command=command)
        text = json.dumps({"about": about, "measured": measured}, indent=2) + "\n"
        chosen.report.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
