"""What the page of `bakeoff demo` shows, as pieces of HTML: what it is of, the card of a dropped picture, a message.

Whoever puts them on a page may read them as a template of another language: `{`, `}` and `$` are written as references,
so that a name is a name there too.
"""

from collections.abc import Sequence

from bakeoff.reports import canvas, gallery, page
from bakeoff.results.explanation import Explained

_NEUTRAL = str.maketrans({sign: f"&#{ord(sign)};" for sign in "{}$`"})


def head(title: str, *, about: Sequence[str], classes: Sequence[str]) -> str:
    """Return what stands above the place to drop pictures on.

    Args:
        title: of the page.
        about: sentences about the network.
        classes: that it can answer.
    """
    return _piece("head", title, about, classes)


def answer(picture: Explained, *, layer: str | None, notes: Sequence[str]) -> str:
    """Return the card of a picture.

    Args:
        picture: what there is to say of it.
        layer: whose map the heat map is; None where there is none.
        notes: what is missing, and why.
    """
    return _piece("answer", gallery.card(picture), layer, gallery.scale(), notes)


def problem(text: str) -> str:
    """Return a message about a picture that cannot be shown."""
    return _piece("problem", text)


def style() -> str:
    """Return the styles of all of them, as an element for the head of a page."""
    return f"<style>{page.environment().get_template('demo.css').render(colours=canvas)}</style>"


def _piece(name: str, *given: object) -> str:
    module = page.environment().get_template("demo.html").module
    text: str = getattr(module, name)(*given)
    return str(text).translate(_NEUTRAL).encode(errors="replace").decode()  # half a character has no place in UTF-8
