"""Every oracle agrees with ours, evaluating and training, to 1e-9; oracles/ has one paper a file."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from bakeoff import catalogue, models
from bakeoff.models.cost import fingerprint
from tests.reference.parity import TOLERANCE, Oracle, Recorded


def oracles() -> list[Oracle | Recorded]:
    papers = sorted(path.stem for path in (Path(__file__).parent / "oracles").glob("*.py"))
    return [oracle for paper in papers for oracle in import_module(f"tests.reference.oracles.{paper}").ORACLES]


def cases() -> Iterator[Any]:
    """Yield each oracle twice. Evaluation differs from training by its norms alone: in short, once a paper will do."""
    papers = set()
    for oracle in oracles():
        paper = catalogue.MODELS[oracle.model].builder if oracle.model in catalogue.MODELS else oracle.model
        for training, mode in ((False, "eval"), (True, "train")):
            marks = () if training or paper not in papers else pytest.mark.slow
            yield pytest.param(
                oracle, training, id=f"{oracle.model} by {oracle.by}-{mode}".replace(" ", "-"), marks=marks
            )
        papers.add(paper)


@pytest.mark.parametrize(("oracle", "training"), list(cases()))
def test_parity(oracle: Oracle | Recorded, training: bool) -> None:
    torch.manual_seed(0)
    assert oracle.difference(training=training) < TOLERANCE


def computes(name: str) -> str:
    with torch.device("meta"):
        return fingerprint(models.build(name, num_classes=100), (3, 32, 32))


def test_every_name_has_an_oracle() -> None:
    """Its own, or that of a name which computes the same."""
    vouched_for = {oracle.model for oracle in oracles()}
    assert vouched_for <= {*catalogue.MODELS, *models.BUILDERS}
    without = set(catalogue.MODELS) - vouched_for
    twins = {computes(name) for name in vouched_for & set(catalogue.MODELS)} if without else set()
    assert not [name for name in without if computes(name) not in twins]


class Other(nn.Module):
    """Six layers in which a mistake can be made."""

    def __init__(
        self,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        slope: float = 0.0,
        padding: Literal["zeros", "reflect"] = "zeros",
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False, padding_mode=padding)
        self.bn1 = nn.BatchNorm2d(8, eps=eps, momentum=momentum)
        self.act = nn.LeakyReLU(slope)
        self.conv2 = nn.Conv2d(8, 8, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.bn2(self.conv2(self.act(self.bn1(self.conv1(x))))).mean((2, 3)))
        return logits


MISTAKES = {
    "eps of a norm": ({"eps": 1e-6}, [False, True]),
    "momentum of a norm": ({"momentum": 0.2}, [True]),
    "activation": ({"slope": 1e-6}, [False, True]),
    "padding": ({"padding": "reflect"}, [False, True]),
}


def of_toys(**mistake: object) -> Oracle:
    return Oracle(model="toy", by="its like", ours=Other, theirs=lambda: Other(**mistake), image_size=8)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mistake", "training"),
    [(mistake, training) for mistake, where in MISTAKES.values() for training in where],
    ids=[f"{name} {training}" for name, (_, where) in MISTAKES.items() for training in where],
)
def test_a_comparison_fails_where_something_small_differs(mistake: dict[str, object], training: bool) -> None:
    assert of_toys().difference(training=training) < TOLERANCE
    assert of_toys(**mistake).difference(training=training) > TOLERANCE


def test_a_recorded_comparison_fails_where_something_small_differs() -> None:
    recorded = next(oracle for oracle in oracles() if isinstance(oracle, Recorded) and oracle.model == "eca_resnet_20")

    def wrong() -> nn.Module:
        network = recorded.ours()
        norm = network.get_submodule("layer2.1.bn2")
        assert isinstance(norm, nn.BatchNorm2d)
        norm.eps = 1e-6
        return network

    changed = Recorded(
        model=recorded.model,
        by=recorded.by,
        ours=wrong,
        file=recorded.file,
        image_size=recorded.image_size,
        in_channels=recorded.in_channels,
    )
    assert changed.difference(training=False) > TOLERANCE


def test_a_tensor_of_theirs_that_nothing_fills_is_noticed() -> None:
    class More(Other):
        def __init__(self) -> None:
            super().__init__()
            self.extra = nn.Linear(2, 2)

    oracle = Oracle(model="toy", by="its like", ours=Other, theirs=More, image_size=8)
    with pytest.raises(AssertionError, match=r"not filled.*extra"):
        oracle.difference(training=False)
