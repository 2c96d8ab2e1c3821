"""Each network, frozen: its counts, and what it answers with weights made by a formula.

A change here is a change of the network. Where it is meant, write the file anew:
    python -m tests.golden.test_models
"""

import json
from pathlib import Path

import pytest
import torch

from bakeoff import catalogue, models
from bakeoff.models.cost import cost
from tests.formula import fill, numbers

GOLDEN = Path(__file__).with_name("models.json")


def describe(name: str) -> dict[str, object]:
    network = models.build(name, num_classes=100).double().eval()
    fill(network)
    with torch.no_grad():
        logits = network(numbers((2, 3, 32, 32), salt=7))
    counted = cost(network, (3, 32, 32))
    return {
        "params": counted.params,
        "macs": counted.macs,
        "activations": counted.activations,
        "logits": logits[:, :4].flatten().tolist(),
        "norm": logits.norm().item(),
    }


@pytest.mark.parametrize("name", catalogue.MODELS)
def test_the_network_is_what_it_was(name: str) -> None:
    golden = json.loads(GOLDEN.read_text())[name]
    found = describe(name)
    assert abs(golden["norm"]) > 1e-3
    for key in ("params", "macs", "activations"):
        assert found[key] == golden[key], key
    assert found["norm"] == pytest.approx(golden["norm"], rel=1e-9)
    assert found["logits"] == pytest.approx(golden["logits"], abs=1e-9 * golden["norm"])


def test_every_network_has_its_golden_numbers_and_no_other() -> None:
    assert set(json.loads(GOLDEN.read_text())) == set(catalogue.MODELS)


if __name__ == "__main__":
    torch.set_num_threads(1)
    GOLDEN.write_text(json.dumps({name: describe(name) for name in catalogue.MODELS}, indent=1) + "\n")
