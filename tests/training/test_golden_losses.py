"""The first losses of short runs, frozen: a refactor leaves them identical to the bit.

A change here is a change of the numbers that people get. Where it is meant, say so in CHANGELOG under
"Numbers" and write the file anew (with BAKEOFF_DATA set):
    python tests/training/test_golden_losses.py
"""

import json
import os
import platform
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from bakeoff.models import native
from bakeoff.recipe import resolve
from bakeoff.training import assembly, loop
from bakeoff.training.loop import Position
from bakeoff.training.provenance import _hardware

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.json"
BASE = ("threads=1", "device=cpu", "precision=float32", "compile=false", "batch_size=32", "epochs=2", "warmup=0.1")
DIGITS = ("data=digits", "augment.crop_padding=1", "augment.flip=none")
MORE = ("augment.erase=0.2", "mixup=0.2", "cutmix=0.2", "label_smoothing=0.1", "clip_norm=1", "accumulate=2")
CIFAR = ("data=cifar100", "data.limit=2048", "augment.crop_padding=4", "augment.flip=random")
OPTIMIZERS = ("sgd", "adam", "adamw", "adagrad", "rmsprop", "muon")
# Number of steps and what is trained; all with resnet_20.
CASES: dict[str, tuple[int, tuple[str, ...]]] = {
    "cifar100": (50, CIFAR),
    "digits": (50, DIGITS),
    "digits, all features": (20, (*DIGITS, *MORE)),
    **{f"digits, {name}": (20, (*DIGITS, f"optimizer={name}")) for name in OPTIMIZERS},
}


def losses(case: str) -> list[float]:
    steps, overrides = CASES[case]
    recipe = resolve("resnet_20", overrides=[*BASE, *overrides])
    parts = assembly.assemble(recipe, assembly.load(recipe), plugin=None, root=Path())
    position = Position.at_start(parts)
    torch.manual_seed(0)
    found: list[float] = []
    while len(found) < steps:
        for _ in loop.epoch(parts, position):
            found.append(float(position.losses[position.step_in_epoch - 1]))
            if len(found) == steps:
                break
        position.epoch += 1
    return found


def machine() -> dict[str, Any]:
    """Describe what the last bit of a sum may depend on."""
    return {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "processor": processor(),
    }


def processor() -> str:
    return _hardware(assembly.place(resolve("resnet_20", overrides=[*BASE]))).rsplit(",", 1)[0]


@pytest.mark.parametrize("case", CASES)
def test_the_losses_are_what_they_were(case: str, request: pytest.FixtureRequest) -> None:
    if "cifar100" in case:
        request.getfixturevalue("bakeoff_data")
    golden = json.loads(GOLDEN.read_text())
    before, now = golden["losses"][case], losses(case)
    if golden["machine"] == machine():
        assert now == before
    else:  # rounding grows with each step
        assert now[:10] == pytest.approx(before[:10], rel=1e-3)


def test_they_are_the_same_again() -> None:
    assert losses("digits, all features") == losses("digits, all features")


def test_every_case_is_in_the_file_and_none_is_a_copy_of_another() -> None:
    golden = json.loads(GOLDEN.read_text())["losses"]
    assert {case: len(found) for case, found in golden.items()} == {case: steps for case, (steps, _) in CASES.items()}
    assert len({tuple(found[:20]) for found in golden.values()}) == len(golden) - 1  # "digits" is with sgd
    assert golden["digits"][:20] == golden["digits, sgd"]
    assert all(sum(golden[case][-5:]) < 5 * golden[case][0] for case in ("cifar100", "digits"))


@pytest.mark.skipif(not native.multiplies(), reason="no kernels for products")
@pytest.mark.parametrize("name", ["resnet_20", "resnet10"])
def test_half_precision_by_our_kernels_agrees_with_float32_in_twenty_steps(name: str) -> None:
    def first(*overrides: str) -> list[float]:
        recipe = resolve(name, overrides=[*BASE, *DIGITS, "lr=0.002", "cutmix=0", *overrides])
        parts = assembly.assemble(recipe, assembly.load(recipe), plugin=None, root=Path())
        assert parts.device.kernels == ("precision=bf16" in overrides)
        position = Position.at_start(parts)
        torch.manual_seed(0)
        return [float(position.losses[position.step_in_epoch - 1]) for _ in islice(loop.epoch(parts, position), 20)]

    for half, full in zip(first("precision=bf16"), first(), strict=True):
        assert abs(half - full) < 0.01 * full


if __name__ == "__main__":
    assert os.environ.get("BAKEOFF_DATA"), "set BAKEOFF_DATA"
    torch.set_num_threads(1)
    content = {"machine": machine(), "losses": {case: losses(case) for case in CASES}}
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n")
    print(platform.node(), machine())
