"""What there is to say of pictures and a network's answers to them: found by `serving`, shown by `reports`."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["mistakes", "unsure", "pair", "pictures"]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """A class and its probability."""

    name: str
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Heat:
    """How much each place of a picture speaks for a class.

    Args:
        of: the class.
        values: float32 [h w] of the network's last map, 0 or more, in units of the logit.
    """

    of: str
    values: NDArray[np.float32]

    def peak(self) -> tuple[float, float] | None:
        """Return the strongest place, as fractions of the picture's width and height; None where no place is strong."""
        if not self.values.any():
            return None
        rows, columns = self.values.shape
        row, column = divmod(int(self.values.argmax()), columns)
        return (column + 0.5) / columns, (row + 0.5) / rows


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Alike:
    """A training picture near another one.

    Args:
        index: its place in the source's train part.
        label: its class.
        similarity: the cosine of the two pictures' features.
        pixels: uint8 [h w c].
    """

    index: int
    label: str
    similarity: float
    pixels: Pixels


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Explained:
    """One picture, and all there is to say of it.

    Args:
        name: its file, or its place in the source's train part.
        pixels: uint8 [h w c], as the network sees them.
        label: its class and what the network gives it; None where nobody said.
        guesses: the likeliest classes, the first first.
        heats: for the first guess, then for the label or the class that was asked for, where that is another one.
        nearest: training pictures, the nearest first.
    """

    name: str
    pixels: Pixels
    label: Guess | None
    guesses: tuple[Guess, ...]
    heats: tuple[Heat, ...] = ()
    nearest: tuple[Alike, ...] = ()

    @property
    def is_doubtful(self) -> bool:
        """Whether all training pictures near it are of the class that it was taken for, against its label."""
        guess = self.guesses[0].name
        is_mistake = self.label is not None and self.label.name != guess
        return is_mistake and bool(self.nearest) and all(alike.label == guess for alike in self.nearest)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Section:
    """Pictures that were chosen for one reason.

    Args:
        kind: the reason.
        num: how many there are to choose from.
        pictures: those that are shown.
        pair: the two classes that are mistaken for each other, of a pair.
    """

    kind: Kind
    num: int
    pictures: tuple[Explained, ...]
    pair: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Explanation:
    """What there is to show of a run.

    Args:
        num_images: pictures that were looked through.
        num_mistakes: of them; None where nobody said what they show.
        only: the class that was asked for, if one was.
        layer: the module whose maps are shown, by its name; None where the network has no map.
        sections: the pictures.
        notes: what is missing, and why.
    """

    num_images: int
    num_mistakes: int | None
    only: str | None
    layer: str | None
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()


def to_json(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation without pixels and maps."""
    return {
        "images": explanation.num_images,
        "mistakes": explanation.num_mistakes,
        "class": explanation.only,
        "layer": explanation.layer,
        "notes": list(explanation.notes),
        "sections": [
            {
                "kind": section.kind,
                "pair": section.pair and list(section.pair),
                "of": section.num,
                "pictures": [_picture(picture) for picture in section.pictures],
            }
            for section in explanation.sections
        ],
    }


def _picture(picture: Explained) -> dict[str, Any]:
    label = picture.label
    return {
        "name": picture.name,
        "label": label and label.name,
        "label_probability": label and label.probability,
        "guesses": [{"class": guess.name, "probability": guess.probability} for guess in picture.guesses],
        "looked": [{"class": heat.of, "strongest": heat.peak()} for heat in picture.heats],
        "nearest": [
            {"index": alike.index, "label": alike.label, "similarity": alike.similarity} for alike in picture.nearest
        ],
        "doubtful_label": picture.is_doubtful,
    }
