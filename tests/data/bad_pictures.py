"""Files that are called pictures and are none, and odd ones that are: made here, never fetched."""

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 24


def noise(seed: int = 0, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def encoded(kind: str, seed: int = 0, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise(seed)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(width: int, height: int) -> bytes:
    """A PNG whose head promises that many pixels, and whose body is a few bytes."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def with_text_bomb() -> bytes:
    """A good PNG that carries a comment of 64 MB, packed to 64 kB."""
    whole = encoded("PNG")
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64_000_000), 9))
    return whole[:33] + text + whole[33:]


def bmp_of(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def gif_of(width: int, height: int) -> bytes:
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + frame


def jpeg_of(width: int, height: int) -> bytes:
    """A good JPEG whose head promises other sizes."""
    whole = bytearray(encoded("JPEG"))
    at = whole.index(b"\xff\xc0") + 5
    whole[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(whole)


def webp_of(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    content = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size
    return b"RIFF" + struct.pack("<I", 4 + len(content)) + b"WEBP" + content


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("../../escaped.txt", "out")
    return buffer.getvalue()


class Trap:
    """What runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.mark,)


def bad(mark: Path) -> dict[str, bytes]:
    """Return name -> content of files that are no pictures; some would make `mark` if they were run."""
    png, jpeg, webp = encoded("PNG"), encoded("JPEG", quality=95), encoded("WEBP", lossless=True)
    gif, bmp, ppm = encoded("GIF"), encoded("BMP"), encoded("PPM")
    shell = f"#!/bin/sh\ntouch {mark}\n".encode()
    files = {"nothing.png": b"", "nothing.jpg": b"", "one_byte.png": b"\x89", "nulls.png": bytes(2000)}
    files |= {f"cut_{at}.png": png[:at] for at in (4, 8, 16, 24, 33, 40)}
    files |= {f"cut_{share}_percent.png": png[: len(png) * share // 100] for share in (25, 50, 75, 90)}
    files |= {f"cut_{at}.jpg": jpeg[:at] for at in (2, 11, 20, 160)}
    files |= {f"cut_{share}_percent.jpg": jpeg[: len(jpeg) * share // 100] for share in (25, 50, 75)}
    files |= {"cut.webp": webp[: len(webp) // 2], "cut.gif": gif[: len(gif) // 2], "cut.bmp": bmp[: len(bmp) // 2]}
    files |= {"cut_20.webp": webp[:20], "cut_10.gif": gif[:10], "cut_30.bmp": bmp[:30], "cut_9.ppm": ppm[:9]}
    files |= {"cut.ppm": ppm[: len(ppm) // 2], "scrambled.png": png[:41] + bytes(range(256)) + png[300:]}
    files |= {
        "page.png": b"<!doctype html><html><script>alert(1)</script></html>",
        "not_found.jpg": b"<html><head><title>404 Not Found</title></head></html>",
        "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "entities.png": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><svg>&b;</svg>',
        "program.png": b"\x7fELF\x02\x01\x01" + bytes(500),
        "windows.jpg": b"MZ" + bytes(500),
        "archive.png": archive(),
        "pickle.png": pickle.dumps(Trap(mark)),
        "script.png": shell,
        "script.gif": shell,
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file closefile\n%%EOF\n",
        "paper.png": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
        "words.jpg": "这不是图片\n".encode() * 40,
        "json.gif": b'{"image": null}',
        "packed.png": b"\x1f\x8b\x08" + bytes(200),
        "icon.png": b"\x00\x00\x01\x00\x01\x00" + bytes(100),
        "tiff.png": encoded("TIFF"),
        "tga.png": encoded("TGA"),
        "jpeg2000.jpg": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(200),
        "xpm.png": b"/* XPM */\nstatic char *x[] = {};",
        "text.ppm": b"P3\n2 2\n255\n" + b"1 " * 12,
        "film.png": b"\x00\x00\x00\x18ftypmp42" + bytes(300),
    }
    files |= {
        "huge.png": png_of(100_000, 100_000),
        "long.png": png_of(2_000_000_000, 1),
        "no_pixels.png": png_of(0, 10),
        "huge.bmp": bmp_of(100_000, 100_000),
        "huge.gif": gif_of(65_535, 65_535),
        "huge.jpg": jpeg_of(65_000, 65_000),
        "huge.webp": webp_of(100_000, 100_000),
        "huge.ppm": b"P6\n100000 100000\n255\n" + bytes(300),
        "negative.ppm": b"P6\n-5 5\n255\n" + bytes(300),
        "text_bomb.png": with_text_bomb(),
    }
    return files


def odd() -> dict[str, bytes]:
    """Return name -> content of files that are pictures, however unusual; no two show the same."""
    kinds = {
        "plain.png": ("PNG", "RGB", {}),
        "grey.png": ("PNG", "L", {}),
        "black_and_white.png": ("PNG", "1", {}),
        "palette.png": ("PNG", "P", {}),
        "alpha.png": ("PNG", "RGBA", {}),
        "grey_alpha.png": ("PNG", "LA", {}),
        "bits_16.png": ("PNG", "I;16", {}),
        "cmyk.jpg": ("JPEG", "CMYK", {}),
        "grey.jpeg": ("JPEG", "L", {}),
        "progressive.jpg": ("JPEG", "RGB", {"progressive": True}),
        "lossless.webp": ("WEBP", "RGB", {"lossless": True}),
        "some.gif": ("GIF", "P", {}),
        "some.bmp": ("BMP", "RGB", {}),
        "some.ppm": ("PPM", "RGB", {}),
        "CAPITALS.PNG": ("PNG", "RGB", {}),
        "wrong_ending.jpg": ("PNG", "RGB", {}),
        "wrong_ending.gif": ("JPEG", "RGB", {}),
        "交通标志.png": ("PNG", "RGB", {}),
        "<img src=x onerror=alert(1)>.png": ("PNG", "RGB", {}),
        "[bold]name[i] 'quoted' \"twice\".png": ("PNG", "RGB", {}),
        "two\nlines\x1b[31m.png": ("PNG", "RGB", {}),
    }
    made = {}
    for seed, (name, (kind, mode, options)) in enumerate(kinds.items(), start=1):
        if mode == "I;16":
            buffer = io.BytesIO()
            Image.fromarray(noise(seed)[..., 0].astype(np.uint16) * 257).save(buffer, "PNG")
            made[name] = buffer.getvalue()
        else:
            made[name] = encoded(kind, seed, mode, **options)
    turned = Image.Exif()
    turned[0x0112] = 6
    made["turned.jpg"] = encoded("JPEG", 99, exif=turned)
    return made
