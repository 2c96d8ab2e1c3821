"""How long a large report takes to make and to open.

    python -m benchmarks.report [--arms 60] [--seeds 5] [--epochs 200] [--images 10000] [--rounds 5]

Goals:
    R1  the report of 300 runs x 200 epochs, 100 classes, 10,000 images builds in <= 20 s: page, Markdown, LaTeX, CSV,
        JSON and PNG, reading the runs included; the runs' own curves, which each run draws, are there
    R2  Chromium has loaded it, and drawn the pictures in view, in <= 3 s

Protocol: runs that were never trained (`tests.made`), in a temporary folder that takes about 8 MB a run; then, in each
round, the records are read and compared, the whole report is written, and a headless Chromium opens its page from a
file in a new tab's first navigation, cache empty. Medians. The result is written to benchmarks/reports/, with machine
and versions.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bakeoff.reports import study as report
from bakeoff.results import store
from bakeoff.results.comparison import compare
from bakeoff.study import Study
from tests import made
from tests.reports import browser

REPORTS = Path(__file__).parent / "reports"
DRAWN = """new Promise(done => {
  const look = () => document.querySelector('[data-drawn]') ? done(performance.now()) : requestAnimationFrame(look);
  look();
})"""


def planned(*, arms: int, seeds: int, epochs: int) -> Study:
    """Return a study with so many arms, the control among them."""
    others = {f"arm {i}": {"optimizer.lr": 0.1 + i / 1000} for i in range(1, arms)}
    base = {"model": "resnet_20", "epochs": epochs}
    return made.study(base=base, arms=others, changes=["optimizer.lr"], seeds=seeds)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds, and what came of it."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def give_curves(study: Study, root: Path) -> None:
    """Let every run have the picture that it draws itself, so that the report does not."""
    for recipe in study.recipes().values():
        (store.folder_of(recipe, root=root) / "training_curves.png").touch()


def build(study: Study, root: Path, folder: Path) -> dict[str, float]:
    """Write the report once, from the folders of the runs."""
    reading, (found, unreadable) = timed(lambda: store.records_of(study.recipes().values(), root=root))
    assert not unreadable
    comparing, comparison = timed(lambda: compare(study, found))
    writing, _ = timed(lambda: report.write(comparison, folder))
    return {
        "read_s": reading,
        "compare_s": comparing,
        "write_s": writing,
        "builds_in_s": reading + comparing + writing,
        "page_mb": (folder / "report.html").stat().st_size / 1e6,
    }


def visit(path: Path) -> dict[str, float]:
    """Open the page once, in a browser of its own; seconds since navigation began."""
    with browser.page() as tab:
        tab.open(path)
        drawn = tab.value(DRAWN) / 1e3
        loaded = tab.value("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1e3
        everything, _ = timed(tab.draw_all)
        assert not tab.complaints, tab.complaints
    return {"loaded_s": loaded, "first_picture_s": drawn, "then_all_pictures_s": everything}


def summary(rounds: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the median of each figure, with its range."""
    values = {key: [one[key] for one in rounds] for key in rounds[0]}
    middles = {key: statistics.median(of) for key, of in values.items()}
    return {"n": len(rounds), **middles, "range": {key: [min(of), max(of)] for key, of in values.items()}}


def about(arguments: Sequence[str]) -> dict[str, Any]:
    """Return machine, versions and command."""
    chromium = subprocess.run([str(browser.installed()), "--version"], capture_output=True, text=True, check=True)
    names = ("bakeoff", "plotly", "pandas", "numpy", "jinja2")
    return {
        "platform": platform.platform(),
        "processors": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names} | {"chromium": chromium.stdout.strip()},
        "command": ["python", "-m", "benchmarks.report", *arguments],
    }


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("arms", 60), ("seeds", 5), ("epochs", 200), ("images", 10_000), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--report", type=Path, default=REPORTS / f"{datetime.now(UTC):%Y-%m-%d}-report.json")
    chosen = parser.parse_args(arguments)
    study = planned(arms=chosen.arms, seeds=chosen.seeds, epochs=chosen.epochs)
    with tempfile.TemporaryDirectory() as scratch:
        root, folder = Path(scratch), Path(scratch) / "studies" / "report"
        made.runs(study, root, images=chosen.images, classes=100)
        give_curves(study, root)
        measured = {"build": summary([build(study, root, folder) for _ in range(chosen.rounds)])}
        if browser.installed():
            measured["open"] = summary([visit(folder / "report.html") for _ in range(chosen.rounds)])
    content = {"about": about(arguments), "runs": len(study.recipes()), "measured": measured}
    chosen.report.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=2))
    print(chosen.report)


if __name__ == "__main__":
    main(sys.argv[1:])
