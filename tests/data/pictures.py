"""Folders of small pictures for tests: each class has a colour, each picture some noise of its own."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200), "grey": (120, 120, 120)}


def draw(path: Path, colour: tuple[int, int, int], *, seed: int, size: tuple[int, int] = (20, 16)) -> Path:
    """Write one picture; equal seeds and colours give equal pixels."""
    noise = np.random.default_rng(seed).integers(-30, 31, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)
    return path


def folder(root: Path, parts: Mapping[str, Mapping[str, int]]) -> Path:
    """Write `part/class/number.png`; a part called "" puts the classes into the folder itself."""
    seed = 0
    for part, classes in parts.items():
        for name, num in classes.items():
            for number in range(num):
                seed += 1
                colour = COLOURS.get(name, (seed * 7 % 256, 90, 160))
                draw(root / part / name / f"{number:03}.png", colour, seed=seed)
    return root
