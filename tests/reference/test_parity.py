"""Every oracle agrees with ours, evaluating and training, to 1e-9; oracles/ has one paper a file."""

from importlib import import_module
from pathlib import Path

import pytest
import torch

from tests.reference.parity import TOLERANCE, Oracle, Recorded


def oracles() -> list[Oracle | Recorded]:
    papers = sorted(path.stem for path in (Path(__file__).parent / "oracles").glob("*.py"))
    return [oracle for paper in papers for oracle in import_module(f"tests.reference.oracles.{paper}").ORACLES]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("oracle", oracles(), ids=lambda oracle: f"{oracle.model} by {oracle.by}".replace(" ", "-"))
def test_parity(oracle: Oracle | Recorded, training: bool) -> None:
    torch.manual_seed(0)
    assert oracle.difference(training=training) < TOLERANCE
