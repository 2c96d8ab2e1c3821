"""Kill nodes of a Ray cluster and the driver of a study, and compare what comes out with the local executor's.

    python -m tests.launch.cluster_kills [--runs 24] [--nodes 2] [--driver 1] [--report FILE]

A cluster of two nodes and a head without cores, all on loopback (ray.cluster_utils). Nodes are killed with all their
processes while an attempt of theirs has brought a checkpoint, and others join in their place; the driver is killed by
SIGKILL and started again. Each run must end finished, once, and equal to the one that the local executor makes of the
same recipe: weights, metric rows, summary and answers, byte for byte.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bakeoff.launch import grid
from bakeoff.launch.exchange import Exchange
from bakeoff.launch.executors import Placement
from bakeoff.results import store
from bakeoff.results.store import Run
from bakeoff.training import assembly, provenance
from tests.launch import grids
from tests.training import kills

LOOPBACK = "127.0.0.1"
LENGTH = ("data.limit=1438", "epochs=10", "checkpoint_steps=40")  # 400 steps
LONGEST_S = 900.0


class Cluster:
    """Nodes of one core each, and a head that only keeps the books."""

    def __init__(self, *, nodes: int) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        head = {"num_cpus": 0, "node_ip_address": LOOPBACK, "include_dashboard": False}
        self._cluster = RayCluster(initialize_head=True, head_node_args=head)
        self.address = str(self._cluster.address)
        self.nodes = [self._new_node() for _ in range(nodes)]

    def _new_node(self) -> Any:
        return self._cluster.add_node(num_cpus=1, node_ip_address=LOOPBACK)

    def kill(self, index: int) -> None:
        """Kill a node with all its processes; another joins in its place."""
        self._cluster.remove_node(self.nodes[index], allow_graceful=False)
        self.nodes[index] = self._new_node()

    def close(self) -> None:
        self._cluster.shutdown()


@contextmanager
def cluster(*, nodes: int) -> Iterator[Cluster]:
    """Start a cluster whose processes find the tests' network."""
    before = dict(os.environ)
    os.environ.update(grids.environment() | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"})
    made = Cluster(nodes=nodes)
    try:
        yield made
    finally:
        made.close()
        os.environ.clear()
        os.environ.update(before)


def start_driver(root: Path, address: str, *, runs: int, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.launch.driver", str(root), str(runs), "jobs=2", "executor=ray"]
    with log.open("ab") as said:
        return subprocess.Popen(
            [*command, f"address={address}", *LENGTH], cwd=grids.ROOT, env=grids.environment(), stdout=said, stderr=said
        )


def num_finished(root: Path) -> int:
    return len(list(root.glob("*/seed*/evaluation_summary.json")))


def has_saved(root: Path) -> bool:
    """Tell whether an attempt that is under way has brought a checkpoint."""
    attempts = [
        attempt
        for own in root.glob(".exchange/*")
        for place in Exchange(str(own)).places()
        for attempt in Exchange(str(own)).attempts(place)
    ]
    return any("ended" not in attempt.marks() and attempt.progress()[:2] > (False, -1) for attempt in attempts)


def disturb(root: Path, of: Cluster, *, runs: int, plan: list[str], log: Path) -> dict[str, Any]:
    """Run the study while these are killed, one after another, all along it; return what was done."""
    deadline, done = time.monotonic() + LONGEST_S, []
    driver = start_driver(root, of.address, runs=runs, log=log)
    for i, kind in enumerate(plan):
        while num_finished(root) < (i + 1) * runs // (len(plan) + 1) or not has_saved(root):
            assert driver.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "the study does not get on"
            time.sleep(0.1)
        if kind == "driver":
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            driver = start_driver(root, of.address, runs=runs, log=log)
        else:
            of.kill(i % len(of.nodes))
        done.append(f"{kind} after {num_finished(root)} runs")
        print(done[-1], flush=True)
    try:
        return {"killed": done, "exit_code": driver.wait(timeout=deadline - time.monotonic())}
    finally:
        driver.kill()


def prove(folder: Path, *, runs: int, nodes: int, driver: int, seed: int) -> dict[str, Any]:
    """Disturb a study on a cluster, make it here as well, and return how they compare."""
    study, root, here = grids.many(runs, *LENGTH), folder / "cluster", folder / "local"
    plan = ["node"] * nodes + ["driver"] * driver
    random.Random(seed).shuffle(plan)
    root.mkdir()
    began = time.monotonic()
    with cluster(nodes=2) as made:
        up = time.monotonic()
        result = disturb(root, made, runs=runs, plan=plan, log=folder / "driver.log")
        over = time.monotonic()
    print((folder / "driver.log").read_text(), flush=True)
    outcome = grid.run(study, root=here, placement=Placement(jobs=2), plugin=grids.TINY)
    wrong: dict[str, list[str]] = {}
    for end in outcome.runs:
        run = Run(store.folder_of(end.recipe, root=root))
        status = run.status() if run.recipe_path.is_file() else "missing"
        if status != "finished":
            wrong[end.name] = [status]
        elif differences := kills.differences(grids.outcome_of(Run(end.folder)), grids.outcome_of(run)):
            wrong[end.name] = differences
    return result | {
        "runs": runs,
        "folders": len(list(root.glob("*/[!.]*/recipe.yaml"))),
        "finished_and_equal": runs - len(wrong),
        "wrong": wrong,
        "left_in_exchange": [str(p.relative_to(root)) for p in (root / ".exchange").rglob("*") if p.is_file()],
        "seconds_to_start": round(up - began, 1),
        "seconds_of_study": round(over - up, 1),
        "seconds_local": round(time.monotonic() - over, 1),
    }


def good(result: dict[str, Any]) -> bool:
    """Tell whether all came out as it must."""
    every_run = result["finished_and_equal"] == result["folders"] == result["runs"]
    return every_run and result["exit_code"] == 0 and not result["left_in_exchange"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--nodes", type=int, default=2, help="kills of nodes")
    parser.add_argument("--driver", type=int, default=1, help="kills of the driver")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="write the figures, with machine and versions, to this file")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = prove(Path(folder), runs=asked.runs, nodes=asked.nodes, driver=asked.driver, seed=asked.seed)
    result = {"seed": asked.seed, "settings": LENGTH} | result | {"ok": good(result)}
    if asked.report:
        about = provenance.collect(
            assembly.place(grids.recipe()), command=["python", "-m", "tests.launch.cluster_kills", *sys.argv[1:]]
        )
        asked.report.write_text(json.dumps({"about": about, "measured": result}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
