"""Options as they come out of YAML: known ones of the right kind pass, others are named before anything is built."""

from collections.abc import Mapping, Sequence

import pytest

from bakeoff import models
from bakeoff.errors import RecipeError
from bakeoff.models.options import check


def builder(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    depth: int = 3,
    rate: float = 0.1,
    stem: str = "auto",
    wide: bool = False,
    patch_size: int | str = "auto",
    limit: int | None = None,
    widths: Sequence[int] = (8, 16),
    ratios: tuple[float, ...] = (1.0, 2.0),
    names: list[str] | None = None,
    attention: str | Mapping[str, object] = "none",
    anything: object = None,
) -> None:
    """Stand in for a network."""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("depth", 20),
        ("rate", 0.5),
        ("rate", 1),  # a whole number is a number
        ("stem", "small"),
        ("wide", True),
        ("patch_size", 4),
        ("patch_size", "auto"),
        ("limit", 3),
        ("limit", None),
        ("widths", [1, 2, 3]),  # YAML has lists
        ("widths", (1, 2, 3)),
        ("widths", []),
        ("ratios", [1, 2.5]),
        ("names", ["a"]),
        ("names", None),
        ("attention", "eca"),
        ("attention", {"name": "eca", "kernel_size": 3}),
        ("anything", object()),
    ],
)
def test_what_the_signature_says_passes(key: str, value: object) -> None:
    check(builder, {key: value})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("depth", 20.0, "a whole number"),
        ("depth", True, "a whole number"),
        ("depth", "20", "a whole number"),
        ("depth", None, "a whole number"),
        ("rate", "0.5", "a number"),
        ("rate", False, "a number"),
        ("stem", 3, "text"),
        ("wide", 1, "true or false"),
        ("patch_size", 4.5, "a whole number or text"),
        ("limit", "none", "a whole number or nothing"),
        ("widths", 3, "a list, each a whole number"),
        ("widths", "123", "a list, each a whole number"),
        ("widths", [1, 2.0], "a list, each a whole number"),
        ("widths", [1, [2]], "a list, each a whole number"),
        ("ratios", [1, "2"], "a list, each a number"),
        ("names", ["a", 1], "a list, each text or nothing"),
        ("attention", ["eca"], "text or a section with a name"),
    ],
)
def test_a_value_of_another_kind_is_named(key: str, value: object, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check(builder, {key: value})
    message = str(caught.value)
    assert f"model.{key}: found {value!r}" in message
    assert f"expected {expected}" in message


def test_what_has_no_default_is_no_option() -> None:
    with pytest.raises(RecipeError, match="found 'image_size'"):
        check(builder, {"image_size": 7})


def test_an_unknown_option_is_named_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"model: found 'depht'.*expected one of depth, rate.*Did you mean 'depth'"):
        check(builder, {"depht": 3})


@pytest.mark.parametrize("name", models.BUILDERS)
def test_every_default_of_every_builder_is_what_its_signature_says(name: str) -> None:
    function = models.BUILDERS[name]
    check(function, function.__kwdefaults__)
    assert not {"num_classes", "in_channels", "image_size"} & set(function.__kwdefaults__)
