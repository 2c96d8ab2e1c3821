"""Letters for every script: which fonts draw a text, and what stands where none can.

DejaVu Sans comes with matplotlib (Latin, Greek, Cyrillic, Arabic, Hebrew ...), Noto Sans CJK with the package
noto-cjk-sans-otc (Chinese, Japanese, Korean; SIL Open Font License). What both lack is looked for among the
fonts of the machine; what none has is drawn as a box, without a warning.
"""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from unicodedata import category, east_asian_width

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

_SHIPPED = ("DejaVu Sans", "Noto Sans CJK SC")
_BOX = "\N{WHITE SQUARE}"
_NO_LETTERS = ("Cc", "Cs")  # control characters, and what is left of a file name that is not Unicode
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def families(texts: Iterable[str] = ()) -> list[str]:
    """Return the font families to draw `texts` with, the preferred first, as matplotlib's `font.family`."""
    chosen = _shipped()
    missing = {ord(character) for text in texts for character in text}.difference(*map(_coverage, chosen))
    for family in _installed() if missing else ():
        found = missing & _coverage(family)
        if found:
            chosen.append(family)
            missing -= found
    return chosen


def drawable(text: str) -> str:
    """Return `text` as the fonts can draw it, on one line: a box for each character that none of them has."""
    known = [_coverage(family) for family in families([text])]

    def draw(character: str) -> str:
        if character.isspace():
            return " "
        drawn = any(ord(character) in letters for letters in known)
        return character if drawn and category(character) not in _NO_LETTERS else _BOX

    return "".join(map(draw, text))


def shorten(text: str, width: int) -> str:
    """Cut `text` to `width` columns, of which a Chinese character takes two: the middle becomes an ellipsis.

    Names of classes often differ at their end only.
    """
    if _columns(text) <= width:
        return text
    head, tail = text, text
    while _columns(head) > width // 2:
        head = head[:-1]
    while _columns(tail) > width - 1 - width // 2:
        tail = tail[1:]
    return head + _ELLIPSIS + tail


def _columns(text: str) -> int:
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _shipped() -> list[str]:
    _register_cjk()
    return [family for family in _SHIPPED if _coverage(family)]


@cache
def _register_cjk() -> None:
    """Make the package's font known to matplotlib: its list of fonts is one a process, so once is enough."""
    try:
        font_manager.fontManager.addfont(str(files("noto_cjk_sans_otc") / "NotoSansCJK-Regular.ttc"))
    except (ModuleNotFoundError, OSError):
        return  # an installed font with these letters serves as well


@cache
def _installed() -> tuple[str, ...]:
    """List the machine's upright families of regular weight; matplotlib's own are for mathematics."""
    own = matplotlib.get_data_path()
    fonts = font_manager.fontManager.ttflist
    regular = (font for font in fonts if font.style == "normal" and font.weight == 400)
    return tuple(sorted({font.name for font in regular if not font.fname.startswith(own)}))


@cache
def _coverage(family: str) -> frozenset[int]:
    """Return the code points that `family` draws, none if it is not there or cannot be opened."""
    try:
        path = font_manager.findfont(family, fallback_to_default=False)
        return frozenset(FT2Font(path, face_index=path.face_index).get_charmap())
    except (ValueError, OSError, RuntimeError):
        return frozenset()
