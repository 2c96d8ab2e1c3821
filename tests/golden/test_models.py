"""Each network, frozen: its costs, and what it answers with weights made by a formula.

A change here is a change of the network. Where it is meant, or a network is new, write both files anew, or the rows
of some names only:
    python -m tests.golden.test_models [NAME]...
"""

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from bakeoff import catalogue, library, models
from bakeoff.models.cost import cost
from tests.formula import fill, numbers

GOLDEN = Path(__file__).with_name("models.json")


def costs(name: str) -> dict[str, int]:
    with torch.device("meta"):
        return asdict(cost(models.build(name, num_classes=100), (3, 32, 32)))


def digest(name: str) -> dict[str, object]:
    network = models.build(name, num_classes=100).double().eval()
    fill(network)
    with torch.no_grad():
        logits = network(numbers((2, 3, 32, 32), salt=7))
    return {"logits": logits[:, :4].flatten().tolist(), "norm": logits.norm().item()}


@pytest.mark.parametrize("name", catalogue.MODELS)
def test_the_catalogue_tells_the_true_cost(name: str) -> None:
    assert costs(name) == asdict(catalogue.costs()[name])


@pytest.mark.parametrize("name", catalogue.MODELS)
def test_the_network_answers_as_it_did(name: str) -> None:
    golden, found = json.loads(GOLDEN.read_text())[name], digest(name)
    assert golden["norm"] > 1e-3
    assert found["norm"] == pytest.approx(golden["norm"], rel=1e-9)
    assert found["logits"] == pytest.approx(golden["logits"], abs=1e-9 * golden["norm"])


def test_every_network_has_its_golden_numbers_and_no_other() -> None:
    assert list(json.loads(GOLDEN.read_text())) == list(catalogue.MODELS)
    assert list(catalogue.costs()) == list(catalogue.MODELS)


def write(names: list[str]) -> None:
    """Write the two files; names that are not given keep their rows."""
    kept = json.loads(GOLDEN.read_text())
    digests = {name: digest(name) if name in names else kept[name] for name in catalogue.MODELS}
    GOLDEN.write_text(json.dumps(digests, indent=1) + "\n")
    with library.costs_table().open("w", newline="", encoding="utf-8") as file:
        rows = [{"name": name, **costs(name)} for name in catalogue.MODELS]
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(sys.argv[1:] or list(catalogue.MODELS))
