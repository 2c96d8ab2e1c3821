"""How long `bakeoff study check` takes for a hundred recipes, from a new process to its answer.

    python -m benchmarks.check [--rounds 5] [--report FILE]

Goal: 100 recipes in <= 10 s. They are ten networks of the zoo, small and large, each at ten learning rates; nothing has
been run before, so that every network is built and some are tried out. Medians, with machine and versions.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bakeoff.recipe import resolve
from bakeoff.training import assembly, provenance

NETWORKS = (
    *("resnet_20", "resnet_56", "ecanet20_adaptive", "ghost_resnet_20", "resnet18"),
    *("resnet50", "convnext_tiny", "mlp_mixer_tiny", "cct_7_3x1", "coatnet_0"),
)
RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
STUDY = f"""
question: How long does it take to check a hundred recipes?
base: {{model: resnet_20, optimizer: sgd, device: cpu}}
axes:
  model: [{", ".join(NETWORKS)}]
  lr: [{", ".join(map(str, RATES))}]
"""


def seconds(file: Path) -> float:
    """Return how long one check takes."""
    command = [
        sys.executable,
        "-m",
        "bakeoff",
        "study",
        "check",
        str(file),
        "--json",
        "--root",
        str(file.parent / "logs"),
    ]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    took = time.perf_counter() - began
    assert json.loads(done.stdout)["distinct"] >= 100 * 3  # seeds
    return took


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the report if there is to be one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--report", type=Path)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hundred.yaml"
        file.write_text(STUDY, encoding="utf-8")
        rounds = [seconds(file) for _ in range(chosen.rounds)]
    measured = {"recipes": len(NETWORKS) * len(RATES), "seconds": rounds, "median": statistics.median(rounds)}
    print(json.dumps(measured, indent=2))
    if chosen.report:
        about = provenance.collect(
            assembly.place(resolve("resnet_20")), command=["python", "-m", "benchmarks.check", *arguments]
        )
        chosen.report.write_text(json.dumps({"about": about, "measured": measured}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
