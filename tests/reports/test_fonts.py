import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from bakeoff.reports import fonts
from bakeoff.reports.canvas import blank, style

SIGNS = "限速禁止直行左转超车掉头鸣喇叭环岛慢村庄施工让检查事故易发路段无人看守铁道口"


def ink(text: str) -> np.ndarray:
    """Draw `text` and return uint8 [h w], 255 where there is none."""
    with style([text]):
        figure = blank(height_in=1, dpi=50)
        figure.text(0.05, 0.4, text, size=24)
        figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., 0].copy()  # type: ignore[attr-defined]


def width(text: str) -> int:
    columns = np.flatnonzero((ink(text) < 128).any(axis=0))
    return int(columns[-1] - columns[0]) if len(columns) else 0


@pytest.mark.parametrize("text", [SIGNS, "交通標誌", "ひらがなカタカナ", "한국어", "Ñandú Ёж Ωμέγα", "שלום مرحبا"])
def test_a_chosen_font_has_every_letter(text: str) -> None:
    known: set[int] = set()
    for family in fonts.families([text]):
        path = font_manager.findfont(family, fallback_to_default=False)
        known |= FT2Font(path, face_index=path.face_index).get_charmap().keys()
    assert {ord(letter) for letter in text} - {32} <= known
    assert fonts.drawable(text) == text


def test_each_chinese_letter_has_a_picture_of_its_own() -> None:
    pictures = {ink(letter).tobytes() for letter in SIGNS}
    assert len(pictures) == len(set(SIGNS))
    assert ink("\N{WHITE SQUARE}").tobytes() not in pictures


def test_chinese_is_drawn_in_its_simplified_forms() -> None:
    assert fonts.families() == ["DejaVu Sans", "Noto Sans CJK SC"]


@pytest.mark.parametrize("missing", ["\ue000", "\U0010fffd", "\udcff", "\x07", "\x00", "\u0378"])
def test_what_no_font_has_is_a_box_and_no_warning(missing: str) -> None:
    assert fonts.drawable(f"a{missing}b") == "a\N{WHITE SQUARE}b"
    ink(fonts.drawable(missing))


@given(st.text(st.characters(exclude_categories=()), max_size=12))
@settings(max_examples=60, deadline=None)
def test_any_name_can_be_drawn(text: str) -> None:
    drawn = fonts.drawable(text)
    assert len(drawn) == len(text)
    assert drawn.isprintable() or set(drawn) - {c for c in drawn if c.isprintable()} <= set(text)
    ink(drawn)


def test_a_name_stays_on_one_line() -> None:
    assert fonts.drawable("stop\nsign\tred\u2028x") == "stop sign red x"


def test_a_dollar_is_no_mathematics() -> None:
    ink("$\\frac{1")  # would not parse
    assert width("$a$") > 2 * width("a")


def test_a_letter_is_looked_for_among_the_fonts_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    fonts.families()  # makes the font known, as if it were installed
    monkeypatch.setattr(fonts, "_SHIPPED", ("DejaVu Sans", "Not Installed Sans"))
    fonts._installed.cache_clear()
    found = fonts.families(["abc"]), fonts.families(["限"])
    fonts._installed.cache_clear()
    assert found[0] == ["DejaVu Sans"]
    assert len(found[1]) == 2
    assert ord("限") in fonts._coverage(found[1][1])


@given(st.text(max_size=40), st.integers(3, 30))
@settings(max_examples=100, deadline=None)
def test_a_shortened_name_fits_and_keeps_its_ends(text: str, columns: int) -> None:
    short = fonts.shorten(text, columns)
    assert fonts._columns(short) <= columns
    if fonts._columns(text) <= columns:
        assert short == text
    else:
        head, tail = short.split("\N{HORIZONTAL ELLIPSIS}")[0], short.rsplit("\N{HORIZONTAL ELLIPSIS}")[-1]
        assert text.startswith(head)
        assert text.endswith(tail)


def test_names_that_differ_at_the_end_stay_apart() -> None:
    assert fonts.shorten("large_outdoor_things_1", 12) != fonts.shorten("large_outdoor_things_2", 12)
