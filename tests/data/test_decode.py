"""People's own pictures: of every mode, turned, transparent, deep, broken, hostile."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bakeoff.data import decode
from bakeoff.errors import DataError, RecipeError


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colours(width: int = 12, height: int = 8) -> Image.Image:
    """A picture whose four quarters are red, green, blue and grey."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[: height // 2, : width // 2] = (200, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 200, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 200)
    pixels[height // 2 :, width // 2 :] = (90, 90, 90)
    return Image.fromarray(pixels)


def picture(content: bytes, *, size: int | None = None, fit: decode.Fit = "squash") -> decode.Picture:
    return decode.picture(content, size=size, fit=fit, where="it")


def test_a_picture_is_left_as_it_is_where_no_size_is_asked_for() -> None:
    found = picture(encoded(colours()))
    assert np.array_equal(found.pixels, np.asarray(colours()))
    assert (found.width, found.height, found.notes) == (12, 8, ())


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "PPM", "GIF", "JPEG"])
def test_every_format(kind: str) -> None:
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    found = picture(encoded(colours(), kind, **options))
    assert np.abs(found.pixels.astype(int) - np.asarray(colours(), dtype=int)).max() <= (12 if kind == "JPEG" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_as_exif_says(orientation: int) -> None:
    """Against the eight cases of the standard, written as what has to be undone."""
    undo = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, 3),
        7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
        8: lambda x: np.rot90(x, 1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = picture(encoded(colours(), "PNG", exif=exif))
    wanted = undo(np.asarray(colours()))
    assert np.array_equal(found.pixels, wanted)
    assert (found.height, found.width) == wanted.shape[:2]
    assert found.notes == (() if orientation == 1 else ("turned as EXIF says",))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str) -> None:
    clear = colours().convert("RGBA")
    clear.putalpha(Image.fromarray(np.repeat(np.array([0, 255], dtype=np.uint8), 6)[np.newaxis].repeat(8, axis=0)))
    content = encoded(clear.convert(mode)) if mode != "P" else encoded(clear.quantize(), transparency=0)
    found = picture(content)
    if mode != "P":
        assert (found.pixels[:, :6] == 255).all()
        assert not (found.pixels[:, 6:] == 255).all()
    assert "alpha on white" in found.notes


def test_sixteen_bits_become_eight() -> None:
    deep = np.array([[0, 257, 32_896, 65_535]], dtype=np.uint16)
    found = picture(encoded(Image.fromarray(deep)))
    assert found.pixels[0, :, 0].tolist() == [0, 1, 128, 255]
    assert found.notes == ("16 bits to 8",)


@pytest.mark.parametrize(("mode", "note"), [("L", "grey"), ("1", "black and white"), ("CMYK", "CMYK")])
def test_other_modes_are_told(mode: str, note: str) -> None:
    content = encoded(colours().convert(mode), "JPEG" if mode == "CMYK" else "PNG")
    found = picture(content)
    assert found.pixels.shape == (8, 12, 3)
    assert found.notes == (note,)


def test_the_first_frame_of_an_animation() -> None:
    other = Image.new("RGB", (12, 8), (9, 9, 9))
    found = picture(encoded(colours(), "GIF", save_all=True, append_images=[other]))
    assert np.array_equal(found.pixels, np.asarray(colours()))


def test_squash_crop_and_pad() -> None:
    wide = Image.new("RGB", (40, 20), (100, 100, 100))
    wide.paste((255, 0, 0), (0, 0, 10, 20))  # what a crop to the middle leaves out
    squashed, cropped, padded = (picture(encoded(wide), size=20, fit=fit).pixels for fit in ("squash", "crop", "pad"))
    assert {found.shape for found in (squashed, cropped, padded)} == {(20, 20, 3)}
    assert squashed[10, 1].tolist() == [255, 0, 0]
    assert (cropped == 100).all()
    assert (padded[:5] == 0).all()
    assert (padded[-5:] == 0).all()
    assert padded[10, 1].tolist() == [255, 0, 0]


def test_it_is_made_smaller_without_aliasing() -> None:
    """A fine chessboard is grey from afar, where every second pixel would be all black or all white."""
    board = np.indices((256, 256)).sum(axis=0) % 2 * 255
    found = picture(encoded(Image.fromarray(board.astype(np.uint8))), size=32).pixels
    assert np.abs(found.astype(int) - 127.5).max() < 3


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["squash", "crop", "pad"]), st.integers(8, 64))
@settings(max_examples=30)
def test_any_shape_becomes_the_square(width: int, height: int, fit: decode.Fit, size: int) -> None:
    found = picture(encoded(Image.new("RGB", (width, height), (7, 8, 9))), size=size, fit=fit)
    assert found.pixels.shape == (size, size, 3)
    assert (found.width, found.height) == (width, height)


def test_a_large_jpeg_is_what_the_slow_way_gives() -> None:
    """It is decoded roughly first: near to a full decoding, on a picture without fine detail."""
    x = np.linspace(0, 255, 800)
    smooth = np.stack([np.tile(x, (800, 1)), np.tile(x[:, None], (1, 800)), np.full((800, 800), 60.0)], axis=2)
    image = Image.fromarray(smooth.astype(np.uint8))
    found = picture(encoded(image, "JPEG", quality=95), size=32).pixels
    slow = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))
    assert np.abs(found.astype(int) - slow.astype(int)).max() <= 4


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises more than it holds."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


BROKEN = {
    "empty": b"",
    "one byte": b"\x89",
    "web page": b"<html><body>Not found</body></html>",
    "vector picture": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "program": b"\x7fELF" + bytes(200),
    "archive": b"PK\x03\x04" + bytes(200),
    "pickle": b"\x80\x04\x95" + bytes(200),
    "text PPM": b"P3\n2 2\n255\n" + b"0 " * 12,
    "tiff": b"II*\x00" + bytes(200),
    "huge png": png_header(100_000, 100_000),
    "wide png": png_header(2_000_000_000, 1),
    "hollow png": png_header(4_000, 4_000),
    "huge bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 100_000, 100_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "huge ppm": b"P6\n100000 100000\n255\n" + bytes(30),
    "negative ppm": b"P6\n-5 5\n255\n" + bytes(75),
    "huge gif": b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_sound_picture_is_named(name: str) -> None:
    with pytest.raises(DataError, match=r"^it: found"):
        picture(BROKEN[name], size=32)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_file_is_named(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    with pytest.raises(DataError, match=r"bytes that do not decode"):
        picture(content[: int(share * len(content))], size=32)


@given(st.binary(max_size=400), st.sampled_from(sorted(BROKEN)))
@settings(max_examples=200)
def test_any_bytes_give_a_picture_or_a_message(tail: bytes, name: str) -> None:
    for content in (tail, BROKEN[name][:20] + tail):
        try:
            found = picture(content, size=16)
        except DataError:
            continue
        assert found.pixels.shape == (16, 16, 3)


def test_an_unknown_fit() -> None:
    with pytest.raises(RecipeError, match=r"data.fit: found 'stretch'"):
        picture(encoded(colours()), size=8, fit="stretch")  # type: ignore[arg-type]
