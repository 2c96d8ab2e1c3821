"""Archives that want to harm who reads them: made here, never fetched. Each holds two good pictures of each class."""

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.data.bad_pictures import Trap, encoded, png_of

GOOD = {f"{name}/{number}.png": (name == "red") * 10 + number for name in ("red", "blue") for number in range(2)}
SLASH = 0o120777 << 16  # the mode of a link


def pack(add: Callable[[zipfile.ZipFile], object] = lambda packed: None) -> bytes:
    """Return an archive of the good pictures, and of what is added."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, seed in GOOD.items():
            packed.writestr(name, encoded("PNG", seed))
        add(packed)
    return buffer.getvalue()


def named(name: str, content: bytes = b"") -> bytes:
    return pack(lambda packed: packed.writestr(name, content or encoded("PNG", 99)))


def link(target: str) -> bytes:
    about = zipfile.ZipInfo("red/link.png")
    about.external_attr = SLASH
    return pack(lambda packed: packed.writestr(about, target))


def twice() -> bytes:
    """Two files of one name, of which the second would win where archives are unpacked."""
    about = zipfile.ZipInfo("red/0.png")
    buffer = io.BytesIO(pack())
    with zipfile.ZipFile(buffer, "a") as packed:
        packed.filelist = [info for info in packed.filelist if info.filename != about.filename] + packed.filelist[:1]
        packed.NameToInfo.pop(about.filename)
        packed.writestr(about, encoded("PNG", 99))
    return buffer.getvalue()


def encrypted() -> bytes:
    """A picture that is marked as encrypted."""
    content = bytearray(named("red/secret.png"))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.rindex(mark) + at
        content[start : start + 2] = struct.pack("<H", 1)
    return bytes(content)


def larger_than_it_says() -> bytes:
    """A picture whose size is said to be 100 bytes, and which unpacks to a hundred million."""
    content = bytearray(named("red/liar.png", bytes(100_000_000)))
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = content.rindex(mark) + at
        content[start : start + 4] = struct.pack("<I", 100)
    return bytes(content)


def overlapping() -> bytes:
    """A hundred names for one packed file, as in a bomb that needs no nesting."""
    buffer = io.BytesIO(named("red/bomb.png", bytes(5_000_000)))
    with zipfile.ZipFile(buffer, "a") as packed:
        (bomb,) = (info for info in packed.filelist if info.filename == "red/bomb.png")
        for number in range(100):
            again = zipfile.ZipInfo(f"red/bomb{number}.png")
            for field in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
                setattr(again, field, getattr(bomb, field))
            packed.filelist.append(again)
        packed._didModify = True  # type: ignore[attr-defined] - so that the list is written
    return buffer.getvalue()


def evil(outside: Path) -> Iterator[tuple[str, bytes, str]]:
    """Yield name, content, and what a person is told of archives that can be read apart from what is evil in them."""
    import pickle

    leads_out = "1 names that lead out of the archive"
    yield "climbs", named("../../escaped.png"), leads_out
    yield "climbs_inside", named("red/../../../escaped.png"), leads_out
    yield "climbs_backwards", named("..\\..\\escaped.png"), leads_out
    yield "absolute", named(f"{outside}/escaped.png"), leads_out
    yield "link", link(str(outside / "secret.png")), "1 links that lead out of the folder"
    yield "twice", twice(), "1 files of a name that was there before"
    yield "encrypted", encrypted(), "1 encrypted files"
    yield "nested", named("red/more.zip", pack()), "1 .zip"
    yield "bomb", named("red/bomb.png", bytes(190_000_000)), "do not decode"
    yield "enormous", named("red/huge.png", bytes(210_000_000)), "210,000,000 bytes"
    yield "liar", larger_than_it_says(), "damage"
    yield "overlapping", overlapping(), "damage|do not decode"
    yield "promises", named("red/huge.png", png_of(100_000, 100_000)), "pixels"
    yield "pickle", named("red/trap.png", pickle.dumps(Trap(outside / "mark"))), "do not decode"
    yield "cut", pack()[:-40], "damage"
    yield "garbage", b"PK\x03\x04" + bytes(range(256)) * 8, "damage"
