"""Encoded pictures to pixels, trusting none of them."""

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bakeoff.errors import DataError, RecipeError

if TYPE_CHECKING:
    from PIL import Image

Fit = Literal["squash", "crop", "pad"]

FORMATS = ("PNG", "WEBP", "JPEG")  # of published tables: few decoders, so that few can be attacked
OWN_FORMATS = (*FORMATS, "BMP", "GIF", "PPM")  # of people's own pictures
SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm")
MOST_PIXELS = 50_000_000  # of one picture: 150 MB as it is, up to 750 MB while its transparency is resolved
MOST_BYTES = 200_000_000  # of one file
_ROUGH = 4  # a JPEG is decoded at no less than so many times the size that is wanted
_ORIENTATION = 0x0112  # EXIF's tag
_TURNED = range(2, 9)  # values of it that mean anything but upright
_ON_ITS_SIDE = (5, 6, 7, 8)  # values of it that exchange width and height
_TEXT_PPM = (b"P1", b"P2", b"P3")  # decoded in Python, number by number: minutes for a large one
_GAP = 3.0  # far larger pictures are first averaged down to so many times the size: four times as fast
_WHITE = 255  # what shows through where a picture is transparent


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Picture:
    """One decoded picture.

    Args:
        pixels: uint8 [h w 3].
        width: of the file, in pixels, as it is shown.
        height: likewise.
        notes: what had to be done beyond decoding, such as "alpha on white".
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    notes: tuple[str, ...]


def decode(encoded: Sequence[bytes | None], *, out: NDArray[np.uint8], where: str) -> None:
    """Decode pictures of one size into `out`, uint8 [n h w 3].

    One thread: 94 us a picture, so 5 s for CIFAR's 50,000, once. A pool of two was at best 1.5 times as
    fast and cost up to 1.7 times the work: with so small a picture most of the time goes to Python, not to
    the decoder.

    Args:
        encoded: n whole files in one of `FORMATS`.
        out: filled row by row.
        where: what to call the source in an error.

    Raises:
        DataError: a picture is missing, damaged, in another format or of another size; names its row.
    """
    for row, content in enumerate(encoded):
        out[row] = _pixels(content, height=out.shape[1], width=out.shape[2], where=f"{where}, row {row}")


def picture(content: bytes, *, size: int | None, fit: Fit = "squash", where: str) -> Picture:
    """Decode a person's own picture, of whatever size and mode, and bring it to a square.

    The picture is turned as its EXIF says, transparency is laid on white, and 16 bits become 8; of an animation the
    first frame is taken. It is made smaller with antialiasing.

    Args:
        content: the whole file, in one of `OWN_FORMATS`.
        size: the side of the square in pixels; None keeps the picture as it is.
        fit: how another shape becomes a square: `squash` scales both sides alike to it, `crop` keeps the middle, `pad`
            keeps all and fills up with black.
        where: what to call the picture in an error.

    Raises:
        DataError: a damaged picture, one of another format, or one of more than `MOST_PIXELS`.
        RecipeError: an unknown `fit`.
    """
    from PIL import Image, ImageOps  # only needed where the cache is cold

    if fit not in get_args(Fit):
        raise RecipeError("data.fit", found=f"'{fit}'", expected=f"one of {', '.join(get_args(Fit))}")
    expected = f"a picture of at most {MOST_PIXELS // 1_000_000} million pixels as {', '.join(OWN_FORMATS)}"
    if content[:2] in _TEXT_PPM:
        raise DataError(where, found="a PPM written as text", expected=expected)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a decoder's remarks on odd but readable files
            with Image.open(io.BytesIO(content), formats=OWN_FORMATS) as image:
                shape = image.size
                found = f"{shape[0]}x{shape[1]} pixels"
                if shape[0] * shape[1] <= MOST_PIXELS:
                    if size is not None:
                        image.draft(None, (_ROUGH * size, _ROUGH * size))  # JPEG only: up to eight times as fast
                    notes: list[str] = []
                    turned: Image.Image = image
                    if (orientation := image.getexif().get(_ORIENTATION, 1)) in _TURNED:
                        notes.append("turned as EXIF says")
                        turned = ImageOps.exif_transpose(image)
                        shape = shape[::-1] if orientation in _ON_ITS_SIDE else shape
                    flat = _flat(turned, notes)
                    square = flat if size is None else _square(flat, size=size, fit=fit)
                    return Picture(pixels=np.array(square), width=shape[0], height=shape[1], notes=tuple(notes))
    except Exception as error:  # a decoder fed with garbage can raise anything
        raise DataError(where, found=f"bytes that do not decode ({_reason(error)})", expected=expected) from error
    raise DataError(where, found=found, expected=expected)


def _reason(error: Exception) -> str:
    """Return why bytes do not decode, without the names of Pillow's own objects."""
    told = re.sub(r" ?'?<_io[^>]*>'?", "", " ".join(str(error).split()))
    return told[:200] or type(error).__name__


def _flat(image: "Image.Image", notes: list[str]) -> "Image.Image":
    """Return a picture as RGB, and note what became of the rest."""
    from PIL import Image

    if image.mode.startswith("I"):
        notes.append("16 bits to 8")
        values = np.clip(np.asarray(image, dtype=np.int64), 0, 65_535)
        return Image.fromarray(np.rint(values / 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        notes.append("alpha on white")
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, (_WHITE,) * 4), clear).convert("RGB")
    if image.mode != "RGB":
        notes.append({"L": "grey", "1": "black and white", "P": "palette", "CMYK": "CMYK"}.get(image.mode, image.mode))
    return image if image.mode == "RGB" else image.convert("RGB")


def _square(image: "Image.Image", *, size: int, fit: Fit) -> "Image.Image":
    """Bring an RGB picture to a square."""
    from PIL import Image

    width, height = image.size
    if fit == "pad":
        scale = size / max(width, height)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        padded = Image.new("RGB", (size, size))
        padded.paste(
            image.resize(inner, Image.Resampling.BICUBIC, reducing_gap=_GAP),
            ((size - inner[0]) // 2, (size - inner[1]) // 2),
        )
        return padded
    box = None
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=_GAP)


def _pixels(content: bytes | None, *, height: int, width: int, where: str) -> NDArray[np.uint8]:
    """Decode one picture to uint8 [height width 3]; its size is checked before a pixel of it is decoded."""
    from PIL import Image  # only needed where the cache is cold

    expected = f"a {width}x{height} RGB picture as {', '.join(FORMATS)}"
    if content is None:
        raise DataError(where, found="no picture", expected=expected)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            found = f"{image.width}x{image.height} {image.mode}"
            if image.size == (width, height) and image.mode in ("RGB", "P", "L"):
                return np.asarray(image.convert("RGB"))
    except Exception as error:  # a decoder fed with garbage can raise anything
        raise DataError(where, found=f"bytes that do not decode ({error})", expected=expected) from error
    raise DataError(where, found=f"a picture of {found}", expected=expected)
