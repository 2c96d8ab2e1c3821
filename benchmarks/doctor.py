"""How long an examination takes.

    python -m benchmarks.doctor [--images 60000] [--side 32] [--classes 100] [--rounds 3]

Goal:
    D1  60,000 small pictures are examined in <= 60 s on two cores: files listed, opened, compared, classes checked

Protocol: PNG files of noise in several octaves, written once into a temporary folder (train and test, a folder a
class), a hundredth of them copies of others; each round is a process of its own, which imports and examines; the cache
of the file system is warm. Medians, and the greatest memory of a round. The result is written to benchmarks/reports/,
with machine and versions.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

REPORTS = Path(__file__).parent / "reports"
ROUND = """
import json, resource, sys, time
started = time.perf_counter()
from bakeoff.data import doctor
diagnosis = doctor.examine("folder:" + sys.argv[1])
print(json.dumps({
    "examined_s": time.perf_counter() - started,
    "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    "findings": {finding.kind: len(finding.cases) for finding in diagnosis.findings},
}))
"""


def picture(draw: np.random.Generator, side: int) -> Image.Image:
    """Return noise with more strength in coarse shapes, as photographs have."""
    total = np.zeros((side, side, 3))
    for octave in (2, 4, 8, 16):
        few = Image.fromarray(draw.integers(0, 256, (octave, octave, 3), dtype=np.uint8))
        total += np.asarray(few.resize((side, side), Image.Resampling.BICUBIC), dtype=float) / octave
    return Image.fromarray((total / total.max() * 255).astype(np.uint8))


def write(root: Path, *, images: int, side: int, classes: int) -> None:
    """Write a set: five sixths to train on, every hundredth picture a copy of the one before."""
    draw = np.random.default_rng(0)
    made = picture(draw, side)
    for number in range(images):
        made = made if number % 100 == 1 else picture(draw, side)
        folder = root / ("test" if number % 6 == 5 else "train") / f"class {number % classes:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        made.save(folder / f"{number:06d}.png")


def measure(root: Path) -> dict[str, Any]:
    """Examine once, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", ROUND, str(root)], capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def summary(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure, with its range."""
    keys = ("examined_s", "memory_mb")
    values = {key: [one[key] for one in rounds] for key in keys}
    middles = {key: statistics.median(of) for key, of in values.items()}
    spread = {key: [min(of), max(of)] for key, of in values.items()}
    return {"n": len(rounds), **middles, "range": spread, "findings": rounds[0]["findings"]}


def about(arguments: Sequence[str]) -> dict[str, Any]:
    """Return machine, versions and command."""
    return {
        "platform": platform.platform(),
        "processors": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("bakeoff", "numpy", "scipy", "pillow")},
        "command": ["python", "-m", "benchmarks.doctor", *arguments],
    }


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 60_000), ("side", 32), ("classes", 100), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--report", type=Path, default=REPORTS / f"{datetime.now(UTC):%Y-%m-%d}-doctor.json")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch), images=chosen.images, side=chosen.side, classes=chosen.classes)
        measured = summary([measure(Path(scratch)) for _ in range(chosen.rounds)])
    content = {"about": about(arguments), "images": chosen.images, "measured": measured}
    chosen.report.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=2))
    print(chosen.report)


if __name__ == "__main__":
    main(sys.argv[1:])
