"""What there is to say of a picture: where a map is strongest, and when a label should be looked at."""

import json

import numpy as np
import pytest

from bakeoff.results import explanation
from bakeoff.results.explanation import Alike, Explained, Explanation, Guess, Heat, Section

PIXELS = np.zeros((4, 4, 3), dtype=np.uint8)


def picture(*, label: str | None, guess: str, near: tuple[str, ...]) -> Explained:
    return Explained(
        name="picture 7",
        pixels=PIXELS,
        label=None if label is None else Guess(name=label, probability=0.25),
        guesses=(Guess(name=guess, probability=0.5),),
        heats=(Heat(of=guess, values=np.array([[0, 0], [2, 1]], dtype=np.float32)),),
        nearest=tuple(Alike(index=i, label=name, similarity=0.5, pixels=PIXELS) for i, name in enumerate(near)),
    )


@pytest.mark.parametrize(
    ("label", "guess", "near", "expected"),
    [
        ("cat", "dog", ("dog", "dog"), True),
        ("cat", "dog", ("dog", "cat"), False),
        ("cat", "dog", ("eel", "eel"), False),
        ("cat", "dog", (), False),
        ("dog", "dog", ("dog", "dog"), False),
        (None, "dog", ("dog", "dog"), False),
    ],
)
def test_a_label_is_doubtful_where_all_neighbours_say_so(
    label: str | None, guess: str, near: tuple[str, ...], expected: bool
) -> None:
    assert picture(label=label, guess=guess, near=near).is_doubtful == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0, 0, 0], [0, 0, 9]], (5 / 6, 0.75)),
        ([[1, 0, 0], [0, 0, 1]], (1 / 6, 0.25)),
        ([[0, 0, 0], [0, 0, 0]], None),
    ],
)
def test_the_strongest_place(values: list[list[float]], expected: tuple[float, float] | None) -> None:
    found = Heat(of="cat", values=np.array(values, dtype=np.float32)).peak()
    assert found == (expected and pytest.approx(expected))


def test_json_has_the_figures_and_no_pixels() -> None:
    whole = Explanation(
        num_images=9,
        num_mistakes=3,
        only=None,
        layer="layer3",
        sections=(
            Section(
                kind="pair", num=3, pictures=(picture(label="cat", guess="dog", near=("dog",)),), pair=("cat", "dog")
            ),
        ),
    )
    assert json.loads(json.dumps(explanation.to_json(whole))) == {
        "images": 9,
        "mistakes": 3,
        "class": None,
        "layer": "layer3",
        "notes": [],
        "sections": [
            {
                "kind": "pair",
                "pair": ["cat", "dog"],
                "of": 3,
                "pictures": [
                    {
                        "name": "picture 7",
                        "label": "cat",
                        "label_probability": 0.25,
                        "guesses": [{"class": "dog", "probability": 0.5}],
                        "looked": [{"class": "dog", "strongest": [0.25, 0.75]}],
                        "nearest": [{"index": 0, "label": "dog", "similarity": 0.5}],
                        "doubtful_label": True,
                    }
                ],
            }
        ],
    }
