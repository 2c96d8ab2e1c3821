"""The pieces of the page to drop pictures on: what was found is there, and a name is a name."""

import html
import re

import numpy as np
import pytest

from bakeoff.reports import dropped
from bakeoff.results.explanation import Alike, Explained, Guess, Heat

NASTY = ("<img src=x onerror=alert(1)>", "${alert(2)}", "{{value}}", "`", "\"'&", "half \ud800 a character")


def picture(name: str, *, heats: bool = True) -> Explained:
    pixels = np.full((8, 8, 3), 90, dtype=np.uint8)
    return Explained(
        name=f"{name}.png",
        pixels=pixels,
        label=None,
        guesses=(Guess(name=name, probability=0.75), Guess(name="eel", probability=0.0625)),
        heats=(Heat(of=name, values=np.eye(3, dtype=np.float32)),) if heats else (),
        nearest=(Alike(index=4, label=name, similarity=0.91, pixels=pixels),),
    )


def test_a_card_has_all_that_was_found() -> None:
    piece = dropped.answer(picture("ape"), layer="layer3", notes=("a note",))
    for text in ("ape.png", "75.0 %", "6.2 %", "eel", "0.91", "Grad-CAM", "a note"):
        assert text in piece
    assert piece.count("data:image/png;base64,") == 5  # the picture, again under its map, the map, the nearest, a scale


def test_without_a_map_there_is_no_scale() -> None:
    piece = dropped.answer(picture("ape", heats=False), layer=None, notes=("nothing says where it looked",))
    assert "Grad-CAM" not in piece
    assert "nothing says where it looked" in piece


@pytest.mark.parametrize("name", NASTY)
def test_a_name_is_a_name_in_every_piece(name: str) -> None:
    shown = name.replace("\ud800", "?")
    for piece in (
        dropped.head(name, about=[name], classes=[name]),
        dropped.answer(picture(name), layer="layer3", notes=[name]),
        dropped.problem(name),
    ):
        assert not re.search(r"[{}$`]", piece)
        assert "<img src=x" not in piece
        assert shown in html.unescape(piece)


def test_styles_hold_inside_what_is_ours() -> None:
    style = dropped.style()
    assert style.startswith("<style>")
    assert style.count("{") == style.count("}")
    assert "</" not in style.removesuffix("</style>")
