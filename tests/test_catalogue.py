import subprocess
import sys

import pytest

from bakeoff import catalogue
from bakeoff.errors import RecipeError


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("resnet_20", "resnet_20"),
        ("resnet20", "resnet_20"),
        ("ResNet-20", "resnet_20"),
        ("resnet_18", "resnet18"),
        ("RESNET18", "resnet18"),
        ("resnet10", "resnet10"),
        ("resnet110", "resnet_110"),
    ],
)
def test_a_model_is_found_however_it_is_spelled(typed: str, meant: str) -> None:
    assert catalogue.find(typed) is catalogue.MODELS[meant]


def test_no_two_names_are_one_without_their_underscores() -> None:
    plain = [name.replace("_", "").casefold() for name in catalogue.MODELS]
    assert len(set(plain)) == len(plain)


def test_each_model_stands_under_its_own_name_and_says_where_it_is_from() -> None:
    for name, model in catalogue.MODELS.items():
        assert model.name == name
        assert "https://" in model.paper
        assert 1990 < model.year < 2100
        assert model.family in {"small_convnet", "middle_convnet", "modern", "speedrun"}


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"'rsnet_20'.*Did you mean 'resnet_20'\?"):
        catalogue.find("rsnet_20")
    with pytest.raises(RecipeError, match="Did you mean 'resnet18'"):
        catalogue.find("REZNET18")


def test_the_catalogue_needs_no_torch() -> None:
    code = "import sys, bakeoff.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
