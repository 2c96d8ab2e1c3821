"""The gallery as one file that opens offline: each picture, where the network looked, and what it had learned from.

There is no script in it. A heat map is drawn over its picture by the page: pointing at it shows the picture alone.
"""

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bakeoff.recipe import Recipe
from bakeoff.reports import canvas, formats, page
from bakeoff.results.explanation import Alike, Explained, Explanation, Guess, Heat, Section

SIDE_PX = 64  # of a drawn heat map; the page makes it as large as the picture
SMALL_PX = 96  # a picture below shows its pixels when it is made larger
COLOURS = "viridis"  # even in lightness, and told apart with any colour vision
CLEAREST, DENSEST = 64, 190  # of 255: how much of the picture a cold and a hot place hide
PARTS = ("upper", "middle", "lower"), ("left", "centre", "right")


def html(explanation: Explanation, *, recipe: Recipe, folder: Path) -> str:
    """Return the gallery of a run as one self-contained HTML file.

    Args:
        explanation: what to show.
        recipe: of the run.
        folder: of the run.
    """
    environment = page.environment()
    style = "".join(environment.get_template(name).render(colours=canvas) for name in ("page.css", "gallery.css"))
    text = environment.get_template("gallery.html").render(
        title=f"{recipe.model.name} on {recipe.data.name}: where it looked",
        run=folder.name,
        summary=_summary(explanation),
        extent=_extent(explanation, recipe),
        notes=explanation.notes,
        layer=explanation.layer,
        sections=[_section(section, number) for number, section in enumerate(explanation.sections, start=1)],
        scale=scale(),
        style=style,
        policy=page.policy(scripts=[], styles=[style]),
    )
    return text.encode(errors="replace").decode()  # half a character, of a file's name, has no place in UTF-8


def card(picture: Explained) -> dict[str, Any]:
    """Return what the templates show of one picture."""
    guess, label = picture.guesses[0], picture.label
    is_right = label is not None and label.name == guess.name
    answer = f"taken for {guess.name}, {_percent(guess)}"
    said = f", labelled {label.name}" if label is not None else ""
    return {
        "name": picture.name,
        "alt": f"{picture.name}{said}, {answer}",
        "label": label,
        "state": "" if label is None else "right" if is_right else "wrong",
        "label_percent": _percent(label) if label is not None else "",
        "guesses": [{"name": of.name, "percent": _percent(of), "share": of.probability} for of in picture.guesses],
        "source": _png(_picture(picture.pixels)),
        "small": max(picture.pixels.shape[:2]) < SMALL_PX,
        "heats": [_heat(heat) for heat in picture.heats],
        "nearest": [_alike(alike, picture) for alike in picture.nearest],
        "doubtful": picture.is_doubtful,
    }


def scale() -> str:
    """Return the colours of a heat map, from cold to hot, as the address of a picture."""
    return _png(_palette_picture(np.arange(256, dtype=np.uint8)[None], alpha=False))


def _summary(explanation: Explanation) -> str:
    """Return what there is, in a sentence."""
    num, wrong, only = explanation.num_images, explanation.num_mistakes, explanation.only
    if wrong is None:
        asked = f", and where it would look for {only}" if only is not None else ""
        return f"{_counted(num, 'picture')}: what the network takes them for{asked}."
    doubtful = len({p.name for section in explanation.sections for p in section.pictures if p.is_doubtful})
    about = f" Shown are those labelled {only}, or taken for it." if only is not None else ""
    told = f"It is wrong on {formats.count(wrong)} of {_counted(num, 'validation picture')}.{about}"
    if doubtful:
        told += f" Of those shown, {_counted(doubtful, 'label')} should be looked at."
    return told


def _extent(explanation: Explanation, recipe: Recipe) -> list[str]:
    split = "own pictures" if explanation.num_mistakes is None else "validation split, as the run stored its answers"
    return [f"protocol {recipe.protocol}", f"seed {recipe.seed}", split]


def _section(section: Section, number: int) -> dict[str, Any]:
    shown = len(section.pictures)
    of = f"{_counted(shown, 'picture')}" if shown == section.num else f"{shown} of {_counted(section.num, 'picture')}"
    first, second = section.pair or ("", "")
    title, note = {
        "mistakes": ("The most confident mistakes", f"{of} that are wrong, the most certain first."),
        "unsure": ("The least certain answers", f"{of}, right or wrong, by the probability of the first class."),
        "pair": (f"{first} or {second}", f"{of} of either that are taken for the other, the most certain first."),
        "pictures": ("The pictures", f"{of}, in the order in which they were named."),
    }[section.kind]
    cards = [card(picture) for picture in section.pictures]
    return {"id": f"section-{number}", "title": title, "note": note, "cards": cards}


def _heat(heat: Heat) -> dict[str, Any]:
    """Return a heat map as a picture, each scaled to its own strongest place, and in words."""
    peak = heat.peak()
    if peak is None:
        return {"of": heat.of, "source": "", "alt": f"no place speaks for {heat.of}"}
    across, down = (min(2, int(3 * share)) for share in peak)
    values = Image.fromarray(heat.values / heat.values.max()).resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    levels = np.rint(255 * np.clip(np.asarray(values), 0, 1)).astype(np.uint8)
    where = f"{PARTS[0][down]} {PARTS[1][across]}"
    return {
        "of": heat.of,
        "source": _png(_palette_picture(levels, alpha=True)),
        "alt": f"what speaks for {heat.of} is strongest at the {where}",
    }


def _alike(alike: Alike, picture: Explained) -> dict[str, Any]:
    agrees = alike.label == picture.guesses[0].name
    is_label = picture.label is not None and alike.label == picture.label.name
    return {
        "label": alike.label,
        "kind": "label" if is_label else "guess" if agrees else "",
        "similarity": f"{alike.similarity:.2f}",
        "alt": f"training picture {alike.index}, labelled {alike.label}, similarity {alike.similarity:.2f}",
        "source": _png(_picture(alike.pixels)),
        "small": max(alike.pixels.shape[:2]) < SMALL_PX,
    }


def _picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return pixels [h w c] as a picture; of a number of channels that nobody sees in, the first as grey."""
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])


def _palette_picture(levels: NDArray[np.uint8], *, alpha: bool) -> Image.Image:
    """Return levels [h w] in colours; with `alpha`, what is cold hides less of what lies below."""
    colours = matplotlib.colormaps[COLOURS](np.arange(256), bytes=True)[:, :3]
    picture = Image.fromarray(levels, mode="P")
    picture.putpalette(colours.tobytes())
    if alpha:
        picture.info["transparency"] = np.linspace(CLEAREST, DENSEST, 256).astype(np.uint8).tobytes()
    return picture


def _png(picture: Image.Image) -> str:
    """Return a picture as an address that holds it."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _percent(guess: Guess) -> str:
    return f"{formats.percent(guess.probability)} %"


def _counted(num: int, what: str) -> str:
    return f"{formats.count(num)} {what}{'' if num == 1 else 's'}"
