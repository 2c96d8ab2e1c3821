"""Encoded pictures to pixels, trusting none of them."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bakeoff.errors import DataError

FORMATS = ("PNG", "WEBP", "JPEG")  # few decoders, so that few can be attacked


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
