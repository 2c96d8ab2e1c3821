"""How many own pictures a core decodes and brings to size in a minute.

    python -m benchmarks.decode [--pictures 600] [--rounds 5] [--size 32] [--report FILE]

Goal: 10,000 a minute and core, of 500x500 pixels.

Protocol: photographs are made of CIFAR-100's first training pictures, 16 of them side by side and enlarged to 500x500,
so that they compress as photographs do; as JPEG of quality 90 and as PNG. What is timed is what training pays once:
reading the files, decoding, resizing, finding copies, writing the cache; with an empty cache each round, on all cores,
in processor seconds over all threads, so that what a shared host gives to others does not count. Wall seconds beside.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from bakeoff import data
from bakeoff.recipe import resolve
from bakeoff.training import assembly, provenance

SIDE_PX = 500
TILES = 4  # a side


def photographs(folder: Path, *, num: int, kind: str) -> None:
    """Write pictures of two classes."""
    images = data.load("cifar100", part="train")
    for number in range(num):
        tiles = images.pixels(np.arange(number * TILES**2, (number + 1) * TILES**2) % len(images))
        rows = [np.concatenate(tiles[row * TILES : (row + 1) * TILES], axis=1) for row in range(TILES)]
        large = Image.fromarray(np.concatenate(rows)).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
        path = folder / f"{number % 2}" / f"{number}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        large.save(path, quality=90)


def measure(kind: str, *, num: int, rounds: int, size: int) -> dict[str, Any]:
    """Load a folder of such pictures some times, with an empty cache."""
    found = []
    with TemporaryDirectory() as folder:
        photographs(Path(folder) / "set", num=num, kind=kind)
        num_bytes = sum(path.stat().st_size for path in Path(folder, "set").rglob(f"*.{kind}"))
        for number in range(rounds + 1):
            os.environ["BAKEOFF_CACHE"] = f"{folder}/cache{number}"
            began, used = time.perf_counter(), time.process_time()
            data.load(f"folder:{folder}/set", part="train", size=size)
            found.append({"wall_s": time.perf_counter() - began, "processor_s": time.process_time() - used})
        found = found[1:]  # the first imports the decoders
    rate = [60 * num / one["processor_s"] for one in found]
    return {
        "pictures": num,
        "mean_bytes": num_bytes / num,
        "rounds": found,
        "a_minute_and_core": statistics.median(rate),
        "range": [min(rate), max(rate)],
    }


def main(arguments: Sequence[str]) -> None:
    """Measure both kinds, and write the report if there is to be one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--report", type=Path)
    chosen = parser.parse_args(arguments)
    ways = {"num": chosen.pictures, "rounds": chosen.rounds, "size": chosen.size}
    measured = {kind: measure(kind, **ways) for kind in ("jpg", "png")}
    print(
        json.dumps({kind: {k: v for k, v in one.items() if k != "rounds"} for kind, one in measured.items()}, indent=2)
    )
    if chosen.report:
        about = provenance.collect(assembly.place(resolve("resnet_20")), command=["python", "-m", "benchmarks.decode"])
        chosen.report.write_text(json.dumps({"about": about, "measured": measured}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
