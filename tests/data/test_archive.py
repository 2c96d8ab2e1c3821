"""A .zip of pictures is read as the folder that it holds; what is evil in it is passed over, and told."""

import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bakeoff import data
from bakeoff.data import doctor, own
from bakeoff.errors import DataError
from tests.data import bad_archives, pictures

MOST_GROWTH_KB = 700_000
PARTS = {"train": {"red": 4, "blue": 3}, "test": {"red": 2, "blue": 2}}


def pack(place: Path, root: Path, *, inside: str = "", separator: str = "/") -> str:
    with zipfile.ZipFile(place, "w") as packed:
        for path in sorted(root.rglob("*.png"), reverse=True):
            name = f"{inside}{path.relative_to(root).as_posix()}".replace("/", separator)
            packed.writestr(zipfile.ZipInfo(name), path.read_bytes())
        packed.writestr("__MACOSX/._junk.png", b"")
    return f"folder:{place}"


@pytest.mark.parametrize(("inside", "separator"), [("", "/"), ("signs/", "/"), ("a/b/", "/"), ("", "\\")])
def test_an_archive_is_the_folder_that_it_holds(tmp_path: Path, inside: str, separator: str) -> None:
    root = pictures.folder(tmp_path / "set", PARTS)
    name = pack(tmp_path / "set.zip", root, inside=inside, separator=separator)
    for part in ("train", "test"):
        packed, plain = (data.load(source, part=part, size=16) for source in (name, f"folder:{root}"))
        assert packed.classes == plain.classes
        assert packed.labels.tolist() == plain.labels.tolist()
        assert packed.fingerprint == plain.fingerprint
        every = np.arange(len(plain))
        assert np.array_equal(packed.pixels(every), plain.pixels(every))


@pytest.mark.parametrize(
    ("parts", "counts"),
    [
        ({"": {"red": 4, "blue": 3}}, {"train": 7}),
        ({"seg_train/seg_train": {"red": 2, "blue": 2}, "seg_test/seg_test": {"red": 1}}, {"train": 4, "test": 1}),
        ({"": {"train": 2, "bus": 2, "car": 1}}, {"train": 5}),
        ({"train_images": {"red": 2, "blue": 2}, "Validation": {"red": 1}, "more": {"x": 1}}, {"train": 4, "val": 1}),
    ],
)
def test_layouts_are_those_of_folders(tmp_path: Path, parts: dict[str, dict[str, int]], counts: dict[str, int]) -> None:
    root = pictures.folder(tmp_path / "set", parts)
    found = [own.listing(name) for name in (f"folder:{root}", pack(tmp_path / "set.zip", root))]
    for listing in found:
        assert {part: len(listed) for part, listed in listing.parts.items()} == counts
        assert listing.classes == found[0].classes
        assert listing.skipped == found[0].skipped


def test_a_changed_archive_is_noticed(tmp_path: Path) -> None:
    name = pack(tmp_path / "set.zip", pictures.folder(tmp_path / "one", PARTS))
    before = data.load(name, part="train").fingerprint
    pack(tmp_path / "set.zip", pictures.folder(tmp_path / "other", {**PARTS, "train": {"red": 2, "blue": 5}}))
    assert data.load(name, part="train").fingerprint != before


def test_another_kind_of_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "set.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match=r"found a file.*Unpack it"):
        own.listing(f"folder:{tmp_path / 'set.tar.gz'}")


def test_evil_archives_do_no_harm(tmp_path: Path) -> None:
    """Listing, examining and loading: nothing appears outside, nothing runs, and memory stays in bounds."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
    (outside / "secret.png").write_bytes(bad_archives.encoded("PNG", 77))
    made = list(bad_archives.evil(outside))
    assert len(made) >= 12
    for name, content, _ in made:
        (inside / f"{name}.zip").write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, _, told in made:
        source = f"folder:{inside / name}.zip"
        try:
            diagnosis = doctor.examine(source)
            assert diagnosis.classes == ("blue", "red")
            notes = " ".join(case.note for finding in diagnosis.findings for case in finding.cases)
            assert sum(map(sum, diagnosis.counts.values())) >= len(bad_archives.GOOD), name
        except DataError as error:
            notes = str(error)
        assert any(text in notes for text in told.split("|")), (name, notes)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown < MOST_GROWTH_KB
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["climbs", "link", "twice", "encrypted", "nested"])
def test_the_good_pictures_beside_evil_ones_are_loaded(tmp_path: Path, name: str) -> None:
    (content,) = (content for known, content, _ in bad_archives.evil(tmp_path) if known == name)
    (tmp_path / "set.zip").write_bytes(content)
    train, test = (data.load(f"folder:{tmp_path / 'set.zip'}", part=part) for part in ("train", "test"))
    assert len(train) + len(test) == len(bad_archives.GOOD)


def test_a_bomb_is_named_in_training(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(bad_archives.named("red/bomb.png", bytes(10_000_000)))
    with pytest.raises(DataError, match=r"bomb\.png.*do not decode"):
        data.load(f"folder:{tmp_path / 'set.zip'}", part="train")
