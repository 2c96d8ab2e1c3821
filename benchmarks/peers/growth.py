"""What is measured once a process, or grows: start, memory, data, runs."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.peers.contests import Bench, Result
from benchmarks.peers.lane import PeerFailed, Remote
from benchmarks.peers.task import OURS, paths
from benchmarks.rounds import Segment, rotated, spread, timed

STUDY = """question: How long do so many runs take?
base: {{model: resnet_20, data: cifar100, data.limit: {images}, protocol: paper, epochs: 1, device: cpu,
       compile: false, batch_size: {batch}, threads: {threads}}}
axes: {{optimizer.momentum: [0.9]}}
seeds: {runs}
"""


class Started(NamedTuple):
    """What a new process took.

    Args:
        first_step_s: until its first optimizer step was done.
        peak_gb: its largest resident set.
    """

    first_step_s: float
    peak_gb: float


def command(bench: Bench, peer: str, way: str, model: str, *, steps: int) -> list[str]:
    """Return how one contestant starts in a new process."""
    places = ["--folder", str(bench.folder), "--scratch", str(bench.folder / "fresh")]
    what = ["--class", way, "--model", model, "--steps", str(steps), "--batch", str(bench.batch_size)]
    return [sys.executable, "-m", "benchmarks.peers.fresh", peer, *what, *places]


def start_once(bench: Bench, peer: str, way: str, model: str, *, steps: int) -> Started:
    """Start one contestant, let it take some steps, and end it.

    Raises:
        PeerFailed: it took no step.
    """
    ours, theirs = os.pipe()
    words = [*command(bench, peer, way, model, steps=steps), "--tell", str(theirs)]
    with (bench.folder / f"{peer}.log").open("ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(words, pass_fds=[theirs], stdout=log, stderr=log)
        os.close(theirs)
        stepped = os.read(ours, 1)
        seconds = time.perf_counter() - began
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    os.close(ours)
    if not stepped or process.returncode:
        raise PeerFailed(f"exit status {process.returncode}")
    return Started(seconds, usage.ru_maxrss * 1024 / 1e9)


def starts(bench: Bench, *, models: Sequence[str], steps: int, rounds: int) -> Iterator[Result]:
    """Start all contestants in turn, so many times; yields after each class of each network."""
    result: Result = {}
    for model in models:
        for way in bench.classes:
            found: dict[str, list[Started]] = {}
            failures: dict[str, str] = {}
            for number in range(rounds):
                for peer in rotated(bench.peers, by=number):
                    try:
                        found.setdefault(peer, []).append(start_once(bench, peer, way, model, steps=steps))
                    except PeerFailed as failure:
                        failures[peer] = str(failure)
            peers = {
                peer: {"first_step_s": spread(s for s, _ in of), "peak_gb": spread(gb for _, gb in of)}
                for peer, of in found.items()
            }
            result.setdefault(model, {})[way] = {"steps": steps, "peers": peers, "failures": failures}
            bench.say("new processes:", model, way, {peer: of["first_step_s"] for peer, of in peers.items()})
            yield result


def start(bench: Bench) -> Iterator[Result]:
    """Measure how long a new process takes to its first optimizer step, after one start that warms the disk's cache."""
    for peer in bench.peers:
        for way in bench.classes[:1]:
            try:
                start_once(bench, peer, way, bench.models[0], steps=1)
            except PeerFailed as failure:
                bench.say(peer, "does not start:", failure)
    yield from starts(bench, models=bench.models[:1], steps=1, rounds=bench.rounds)


def memory(bench: Bench) -> Iterator[Result]:
    """Measure the peak memory of a new process that takes ten steps, without worker processes."""
    yield from starts(bench, models=bench.models, steps=10, rounds=1)


def lay_out_again(folder: Path, num: int) -> str:
    """Write so many pictures, repeated where there are not enough; return the part's name."""
    part = f"train-{num}"
    pixels, labels = paths(folder, part)
    if not pixels.exists():
        all_pixels, all_labels = (np.load(path, mmap_mode="r") for path in paths(folder, "train"))
        places = np.resize(np.arange(len(all_labels)), num)
        copy = np.lib.format.open_memmap(pixels, mode="w+", dtype=np.uint8, shape=(num, *all_pixels.shape[1:]))
        for first in range(0, num, 10_000):
            copy[first : first + 10_000] = all_pixels[places[first : first + 10_000]]
        copy.flush()
        np.save(labels, all_labels[places])
    return part


def data(bench: Bench) -> Iterator[Result]:
    """Measure training sets of several sizes, one process after another; yields after each contestant."""
    result: Result = {}
    model = bench.models[0]
    for size in bench.sizes:
        part = lay_out_again(bench.folder, size)
        for way in bench.classes:
            found: Result = {"peers": {}, "failures": {}}
            result.setdefault(model, {}).setdefault(way, {})[str(size)] = found
            for peer in bench.peers:
                try:
                    with Remote(bench.spec(peer, way, model, part=part)) as lane:
                        found["peers"][peer] = of_size(bench, lane)
                except PeerFailed as failure:
                    found["failures"][peer] = str(failure)
                yield result
            bench.say("data", size, way, {peer: of["until_first_step_s"] for peer, of in found["peers"].items()})


def of_size(bench: Bench, lane: Remote) -> Result:
    """Return what one contestant makes of one training set."""
    steps = max(2, round(bench.seconds / lane.ask("raw", steps=2)))
    firsts = [lane.ask("until_first_step") for _ in range(min(3, bench.rounds))]
    turns: list[Segment] = [lane.ask("turn", steps=steps) for _ in range(min(3, bench.rounds))]
    calm = [turn for turn in turns if turn.calm]
    return {
        "rounds": len(turns),
        "images_per_s": spread(bench.batch_size / turn.seconds for turn in calm),
        "efficiency": spread(turn.efficiency for turn in calm),
        "until_first_step_s": spread(firsts),
        "peak_gb": lane.ask("peak_gb"),
    }


def our_runs(bench: Bench, num: int, *, jobs: int) -> float:
    """Return the seconds of a study of so many runs, its test readings and its report included."""
    root = bench.folder / f"runs-{time.time_ns()}"
    root.mkdir()
    threads = max(1, bench.threads // jobs)
    study = root / "so-many.yaml"
    study.write_text(
        STUDY.format(images=bench.run_images, batch=bench.batch_size, threads=threads, runs=num), encoding="utf-8"
    )
    words = [sys.executable, "-m", "bakeoff", "study", "run", str(study), "--jobs", str(jobs), "--root", str(root)]
    with (bench.folder / "bakeoff.log").open("ab") as log:
        return timed(lambda: subprocess.run(words, stdout=log, stderr=log, check=True))


def their_runs(bench: Bench, peer: str, way: str, num: int, *, jobs: int) -> float:
    """Return the seconds of so many processes, each of which trains and reads the test part."""
    steps = bench.run_images // bench.batch_size
    words = [*command(bench, peer, way, "resnet_20", steps=steps), "--evaluate"]
    threads = str(max(1, bench.threads // jobs))
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}

    def one(_: int) -> None:
        with (bench.folder / f"{peer}.log").open("ab") as log:
            subprocess.run(words, stdout=log, stderr=log, check=True, env=environment)

    def everything() -> None:
        with ThreadPoolExecutor(jobs) as places:
            list(places.map(one, range(num)))

    return timed(everything)


def runs(bench: Bench) -> Iterator[Result]:
    """Measure several runs of resnet_20; yields after each number of them."""
    result: Result = {}
    both = {"one after another": 1, "side by side": max(2, bench.threads)}
    for num in bench.runs:
        for way in bench.classes:
            found: Result = {"images": bench.run_images, "seconds": {}, "failures": {}}
            result.setdefault(way, {})[str(num)] = found
            for _ in range(min(2, bench.rounds)):
                for peer in bench.peers:
                    for how, jobs in both.items():
                        work: Callable[..., float] = our_runs if peer == OURS else their_runs
                        arguments: tuple[Any, ...] = (bench, num) if peer == OURS else (bench, peer, way, num)
                        try:
                            seconds = work(*arguments, jobs=jobs)
                        except subprocess.CalledProcessError as failure:
                            found["failures"][peer] = f"exit status {failure.returncode}"
                            continue
                        found["seconds"].setdefault(peer, {}).setdefault(how, []).append(seconds)
            bench.say(num, "runs", way, found["seconds"])
            yield result
