"""An examination finds what was planted, and only that; bad files are named, none is run, none is changed."""

import csv
import hashlib
import os
import resource
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bakeoff.data import doctor
from bakeoff.data.doctor import Diagnosis, Finding, alike, clean
from bakeoff.errors import BakeoffError, DataError, RecipeError, StorageError
from tests.data import bad_pictures

MOST_GROWTH_KB = 400_000  # of this process, by files of which one alone promises 30 GB


def smooth(seed: int, side: int = 32) -> np.ndarray:
    """A picture of soft shapes, like no other: noise of 8x8 made large."""
    few = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(few).resize((side, side), Image.Resampling.BICUBIC))


def put(root: Path, name: str, pixels: np.ndarray) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def found(diagnosis: Diagnosis) -> dict[str, Finding]:
    return {finding.kind: finding for finding in diagnosis.findings}


def cases(diagnosis: Diagnosis, kind: str) -> list[set[str]]:
    """List the names of the pictures of each case of a finding."""
    return [{picture.name for picture in case.pictures} for case in found(diagnosis)[kind].cases]


def everything(root: Path) -> dict[str, str]:
    """Return path -> digest of each file below a folder."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A set without faults: two classes of 12 in train and 3 in test, no two alike."""
    root = tmp_path / "set"
    for number in range(30):
        part, label = ("train" if number % 15 < 12 else "test"), "ab"[number // 15]
        put(root, f"{part}/{label}/{label}{number:03d}.png", smooth(number))
    return root


def test_a_set_without_faults_has_no_findings(pictures: Path) -> None:
    before, seen = everything(pictures), []
    diagnosis = doctor.examine(f"folder:{pictures}", tell=lambda done, of: seen.append((done, of)))
    assert diagnosis.findings == ()
    assert diagnosis.counts == {"train": [12, 12], "test": [3, 3]}
    assert diagnosis.num_pictures == len(diagnosis.kept) == 30
    assert seen[-1] == (30, 30)
    assert everything(pictures) == before


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Diagnosis, int]]:
    """A folder of bad and odd files, its diagnosis, and by how many kB the process grew."""
    folder = tmp_path_factory.mktemp("bad")
    root, mark = folder / "set", folder / "mark"
    broken, odd = bad_pictures.bad(mark), bad_pictures.odd()
    assert len(broken) >= 60
    for label, files in {"broken": broken, "odd": odd}.items():
        (root / "train" / label).mkdir(parents=True)
        for name, content in files.items():
            (root / "train" / label / name).write_bytes(content)
    special = root / "train" / "special"
    put(special, "good.png", smooth(1))
    put(folder, "outside/secret.png", smooth(2))
    (special / "folder.png").mkdir()
    (special / "leads_out.png").symlink_to(folder / "outside" / "secret.png")
    (special / "to_nothing.png").symlink_to("is_not_there.png")
    (special / "endless.png").symlink_to("/dev/zero")
    os.mkfifo(special / "pipe.png")
    (special / "notes.txt").write_text("not a picture")
    (special / "forbidden.png").write_bytes(bad_pictures.encoded("PNG", 7))
    (special / "forbidden.png").chmod(0)
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(special)  # the name of a socket is short
        try:
            listener.bind("socket.png")
        finally:
            os.chdir(here)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        diagnosis = doctor.examine(f"folder:{root}")
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    yield folder, diagnosis, growth
    (special / "forbidden.png").chmod(0o600)


def test_every_bad_file_is_named_with_a_reason(bad: tuple[Path, Diagnosis, int]) -> None:
    folder, diagnosis, _ = bad
    finding = found(diagnosis)["broken"]
    named = {case.pictures[0].name: case.note for case in finding.cases}
    expected = {f"train/broken/{name}" for name in bad_pictures.bad(folder)}
    expected |= {f"train/special/{name}" for name in ("to_nothing.png", "pipe.png", "socket.png")}
    if os.geteuid():  # nothing is forbidden to root
        expected.add("train/special/forbidden.png")
    assert set(named) == expected
    assert all(named.values())
    assert "pixels" in named["train/broken/huge.png"]
    assert finding.severity == "error"


def test_odd_pictures_pass(bad: tuple[Path, Diagnosis, int]) -> None:
    _, diagnosis, _ = bad
    kept = {row.path.name for row in diagnosis.kept}
    assert set(bad_pictures.odd()) <= kept
    assert "16 bits to 8" in found(diagnosis)["modes"].title + str(found(diagnosis)["modes"].cases)


def test_no_bad_file_is_run_followed_or_swallows_memory(bad: tuple[Path, Diagnosis, int]) -> None:
    folder, diagnosis, growth = bad
    assert not (folder / "mark").exists()
    assert not list(folder.rglob("escaped*"))
    assert growth < MOST_GROWTH_KB
    notes = " ".join(case.note for case in found(diagnosis)["skipped"].cases)
    assert "2 links that lead out of the folder" in notes
    assert "1 .txt" in notes
    assert not [row for row in diagnosis.kept if row.path.name in ("leads_out.png", "endless.png")]


def test_what_a_csv_names_is_read_wherever_it_lies(tmp_path: Path) -> None:
    secret, inside = put(tmp_path, "outside/secret.png", smooth(1)), put(tmp_path, "set/good.png", smooth(2))
    put(tmp_path, "set/other.png", smooth(3))
    (tmp_path / "set" / "out.png").symlink_to(secret)
    (tmp_path / "set" / "in.png").symlink_to(inside)
    (tmp_path / "set" / "loop.png").symlink_to("loop.png")
    table = tmp_path / "set" / "list.csv"
    names = ("good", "in", "out", "loop", "gone", "other")
    table.write_text("path,label\n" + "".join(f"{name}.png,{name[0] in 'gi'}\n" for name in names))
    diagnosis = doctor.examine(f"csv:{table}")
    assert cases(diagnosis, "broken") == [{"loop.png"}, {"gone.png"}]
    assert cases(diagnosis, "equal_inside_part") == [{"good.png", "in.png"}]


@pytest.mark.parametrize(("name", "kind"), [("folder:nowhere", DataError), ("cifar", RecipeError)])
def test_what_is_no_data_set_is_refused(name: str, kind: type[BakeoffError]) -> None:
    with pytest.raises(kind):
        doctor.examine(name)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "brighter": lambda x: np.minimum(x.astype(int) + 20, 255).astype(np.uint8),
    "darker": lambda x: (x * 0.6).astype(np.uint8),
    "noisy": lambda x: np.clip(x + np.random.default_rng(0).normal(0, 6, x.shape), 0, 255).astype(np.uint8),
    "smaller": lambda x: np.asarray(Image.fromarray(x).resize((20, 20), Image.Resampling.LANCZOS)),
    "larger": lambda x: np.asarray(Image.fromarray(x).resize((100, 100), Image.Resampling.BICUBIC)),
}


def test_copies_are_found_across_parts_and_in_them(pictures: Path) -> None:
    original = smooth(0)
    put(pictures, "test/a/again.png", original)
    put(pictures, "train/a/twice.png", smooth(3))
    for name, change in CHANGES.items():
        put(pictures, f"test/a/{name}.png", change(original))
    put(pictures, "train/b/flipped.png", smooth(20)[:, ::-1])
    diagnosis = doctor.examine(f"folder:{pictures}")
    assert cases(diagnosis, "equal_across_parts") == [{"train/a/a000.png", "test/a/again.png"}]
    assert cases(diagnosis, "equal_inside_part") == [{"train/a/a003.png", "train/a/twice.png"}]
    (near,) = cases(diagnosis, "near_across_parts")
    assert near == {"train/a/a000.png", *(f"test/a/{name}.png" for name in CHANGES)}
    assert cases(diagnosis, "mirrored") == [{"train/b/b020.png", "train/b/flipped.png"}]
    assert "label_conflict" not in found(diagnosis)
    assert [finding.severity for finding in diagnosis.findings] == sorted(
        (finding.severity for finding in diagnosis.findings), key=["error", "warning", "note"].index
    )


def test_one_picture_with_two_labels_is_a_conflict(pictures: Path) -> None:
    put(pictures, "train/b/same.png", smooth(0))
    put(pictures, "train/b/nearly.png", CHANGES["brighter"](smooth(1)))
    diagnosis = doctor.examine(f"folder:{pictures}")
    assert cases(diagnosis, "label_conflict") == [{"train/a/a000.png", "train/b/same.png"}]
    assert cases(diagnosis, "near_label_conflict") == [{"train/a/a001.png", "train/b/nearly.png"}]


def test_flat_pictures_are_no_copies_of_each_other(pictures: Path) -> None:
    faint = np.repeat(np.linspace(0, 5, 32, dtype=np.uint8)[:, None, None], 32, axis=1).repeat(3, axis=2)
    for value in (0, 1, 2):
        put(pictures, f"train/a/flat{value}.png", faint + np.uint8(value))
    diagnosis = doctor.examine(f"folder:{pictures}")
    assert len(found(diagnosis)["flat"].cases) == 3
    assert "near_inside_part" not in found(diagnosis)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32), num=st.integers(2, 60), crowd=st.integers(1, 40))
def test_candidates_are_all_pairs_that_are_near(seed: int, num: int, crowd: int) -> None:
    draw = np.random.default_rng(seed)
    hashes = draw.integers(0, 2**64, num, dtype=np.uint64)
    copies = hashes[draw.integers(0, num, num)].copy()
    for _ in range(9):  # bits, some of them twice
        copies ^= np.uint64(1) << draw.integers(0, 64, num).astype(np.uint64)
    every = np.concatenate([hashes, copies, np.full(crowd, hashes[0])])
    near = np.bitwise_count(every[:, None] ^ every[None, :]) <= alike.RADIUS
    expected = np.argwhere(np.triu(near, 1))
    assert np.array_equal(alike.candidates(every, every), expected)


def test_a_crowd_of_one_look_is_linked_without_comparing_all() -> None:
    crowd = np.full(5_000, 12345, dtype=np.uint64)
    pairs = alike.candidates(crowd, crowd)
    assert len(pairs) < 5_000 * 100
    assert len(set(alike.groups(5_000, [pairs]).tolist())) == 1


@pytest.mark.parametrize(("noise", "is_same"), [(0.1, True), (0.25, True), (0.5, False), (1.0, False)])
def test_candidates_are_confirmed_on_pixels(noise: float, is_same: bool) -> None:
    """Noise of a quarter of the contrast leaves a correlation of 0.97, of a half 0.89."""
    draw = np.random.default_rng(0)
    one = draw.normal(0, 25, (16, 16, 3))
    other = one + draw.normal(0, 25 * noise, one.shape)
    small = (np.stack([one, other, 0.5 * one[:, ::-1]]) + 128).astype(np.uint8)
    pairs = np.array([[0, 1]])
    assert len(alike.confirmed(small, pairs)) == is_same
    assert len(alike.confirmed(small, np.array([[0, 2]]))) == 0
    assert len(alike.confirmed(small, np.array([[0, 2]]), is_mirrored=True)) == 1


def test_groups_hang_together() -> None:
    numbers = alike.groups(7, [np.array([[5, 6]]), np.array([[0, 2], [2, 4]])])
    assert numbers.tolist() == [0, -1, 0, -1, 0, 1, 1]


def test_classes_are_counted(tmp_path: Path) -> None:
    sizes = {"many": 40, "few": 4, "one": 1}
    for label, size in sizes.items():
        for number in range(size):
            put(tmp_path, f"train/{label}/{label}{number}x.png", smooth(zlib.crc32(f"{label} {number}".encode())))
    put(tmp_path, "test/many/held.png", smooth(5000))
    told = found(doctor.examine(f"folder:{tmp_path}"))
    assert [case.note for case in told["tiny_classes"].cases] == ["few: 4", "one: 1"]
    assert [case.note for case in told["missing_classes"].cases] == ["few", "one"]
    assert told["unbalanced"].severity == "warning"
    assert "40 times" in told["unbalanced"].title


def tracks(root: Path, *, are_alike: bool) -> None:
    """Two classes of 30 tracks with a frame in train and one in test."""
    for track in range(60):
        label, base = "ab"[track % 2], smooth(track).astype(int)
        for frame, part in enumerate(("train", "test")):
            other = smooth(1000 + 2 * track + frame).astype(int)
            share = 0.55 if are_alike else 1.0  # alike, and yet no copies
            mixed = (base * (1 - share) + other * share).astype(np.uint8)
            put(root, f"{part}/{label}/{track:05d}_{frame:05d}.png", mixed)


def test_parts_that_share_sources_are_found_by_name_and_look(tmp_path: Path) -> None:
    tracks(tmp_path, are_alike=True)
    told = found(doctor.examine(f"folder:{tmp_path}"))
    assert len(told["shared_sources"].cases) == 60
    assert told["shared_sources"].severity == "error"
    assert "shared_names" not in told


def test_recordings_that_were_parted_at_random_are_found(tmp_path: Path) -> None:
    """Of 40 scenes of three frames in one sequence of numbers, the middle frame is in test."""
    for number in range(120):
        scene, part = number // 3, ("train", "test", "train")[number % 3]
        mixed = 0.6 * smooth(scene).astype(int) + 0.4 * smooth(1000 + number).astype(int)
        put(tmp_path, f"{part}/{'ab'[scene % 2]}/img_{number:04d}.png", mixed.astype(np.uint8))
    told = found(doctor.examine(f"folder:{tmp_path}"))
    assert len(told["neighbouring_numbers"].cases) == 80
    assert told["neighbouring_numbers"].severity == "warning"


def test_names_alone_are_called_a_guess(tmp_path: Path) -> None:
    tracks(tmp_path, are_alike=False)
    told = found(doctor.examine(f"folder:{tmp_path}"))
    assert len(told["shared_names"].cases) == 60
    assert told["shared_names"].severity == "note"
    assert "guess" in told["shared_names"].meaning
    assert "shared_sources" not in told


def arrows(root: Path, *, tips: dict[str, float | None]) -> None:
    """Classes of a bright spot at a place from left (0) to right (1), or without one, on soft ground."""
    for label, tip in tips.items():
        for number in range(20):
            picture = smooth(zlib.crc32(f"{label} {number}".encode())) // 3
            if tip is not None:
                at = round(tip * 23)
                picture[8:24, at : at + 9] = 250
            put(root, f"train/{label}/{label}{number:02d}.png", picture)


def test_classes_that_turn_into_each_other_are_named(tmp_path: Path) -> None:
    arrows(tmp_path, tips={"left": 0.0, "middle": 0.5, "right": 1.0})
    told = found(doctor.examine(f"folder:{tmp_path}"))["mirrored_classes"]
    assert [case.note.partition(":")[0] for case in told.cases] == [
        "left looks like right when mirrored",
        "right looks like left when mirrored",
    ]
    assert "augment.flip=none" in told.advice


def test_symmetric_classes_are_left_alone(tmp_path: Path) -> None:
    arrows(tmp_path, tips={"middle": 0.5, "without": None})
    assert "mirrored_classes" not in found(doctor.examine(f"folder:{tmp_path}"))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_clean_list_leaves_out_what_harms(pictures: Path, tmp_path: Path) -> None:
    put(pictures, "test/a/again.png", smooth(0))  # of train/a/a000
    put(pictures, "test/a/near.png", CHANGES["brighter"](smooth(1)))  # of train/a/a001
    put(pictures, "train/a/twice.png", smooth(3))
    put(pictures, "train/b/conflict.png", smooth(5))
    put(pictures, "train/b/friend.png", CHANGES["darker"](smooth(20)))
    (pictures / "train" / "a" / "broken.png").write_bytes(b"")
    before = everything(pictures)
    diagnosis = doctor.examine(f"folder:{pictures}")
    out = tmp_path / "clean.csv"
    clean.write(out, diagnosis.kept)
    kept = {row["path"]: row for row in rows(out)}
    gone = {"train/a/a000.png", "train/a/a001.png", "train/a/a005.png", "train/b/conflict.png", "train/a/broken.png"}
    every = {f"set/{path.relative_to(pictures)}" for path in pictures.rglob("*.png")}
    assert every - set(kept) == {f"set/{name}" for name in (*gone, "train/a/twice.png")}
    assert diagnosis.left_out == {
        "cannot be read": 1,
        "one picture with several labels": 2,
        "a copy of one that stays": 2,
        "near a picture of another part": 1,
    }
    together = [row for row in kept.values() if row["group"]]
    assert {row["path"] for row in together} == {"set/train/b/b020.png", "set/train/b/friend.png"}
    assert len({row["group"] for row in together}) == 1
    assert everything(pictures) == before
    again = doctor.examine(f"csv:{out}")
    assert again.num_pictures == len(kept)
    assert {"broken", "label_conflict", "equal_across_parts", "near_across_parts"}.isdisjoint(found(again))
    assert again.left_out == {}


def test_a_list_overwrites_nothing(pictures: Path, tmp_path: Path) -> None:
    kept = doctor.examine(f"folder:{pictures}").kept
    out = tmp_path / "there.csv"
    out.write_text("mine")
    with pytest.raises(StorageError, match=r"nothing is overwritten"):
        clean.write(out, kept)
    assert out.read_text() == "mine"
    with pytest.raises(DataError, match=r"no picture that stays"):
        clean.write(tmp_path / "empty.csv", ())


def test_groups_of_a_table_stay(pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    names = sorted(str(path) for path in pictures.rglob("*.png"))
    lines = [f"{name},{Path(name).parent.name},{'mine' if 'a00' in name else ''}" for name in names]
    table.write_text("path,label,group\n" + "\n".join(lines))
    kept = doctor.examine(f"csv:{table}").kept
    groups = {row.path.name: row.group for row in kept}
    assert len({group for name, group in groups.items() if name.startswith("a00")}) == 1
    assert all((group is not None) == name.startswith("a00") for name, group in groups.items())


def test_digits_are_examined_by_their_numbers() -> None:
    diagnosis = doctor.examine("digits")
    assert {part: sum(counts) for part, counts in diagnosis.counts.items()} == {"train": 1438, "test": 359}
    assert diagnosis.kept == ()
    assert diagnosis.survey.entries[1438].name == "test 0"
    assert diagnosis.place is None


def test_cifar_100_has_its_known_copies(bakeoff_data: Path) -> None:
    """Known of the published set: 26 groups of equal pictures, 10 across train and test, 17 with several labels."""
    diagnosis = doctor.examine("cifar100")
    told = found(diagnosis)
    assert len(told["equal_across_parts"].cases) == 10
    assert len(told["equal_across_parts"].cases) + len(told["equal_inside_part"].cases) == 26
    assert len(told["label_conflict"].cases) == 17
    assert "mirrored_classes" not in told


def test_traffic_signs_lack_eight_classes_in_test(bakeoff_data: Path) -> None:
    root = bakeoff_data / "traffic_signs"
    if not root.is_dir():
        pytest.skip("needs traffic_signs/ in BAKEOFF_DATA")
    told = found(doctor.examine(f"folder:{root}"))
    assert [case.note for case in told["missing_classes"].cases] == [
        "009", "018", "019", "025", "033", "048", "053", "057",
    ]  # fmt: skip
    assert {"broken", "equal_across_parts", "shared_sources"}.isdisjoint(told)
    assert len(told["shared_names"].cases) == 235
    turns = [case.note.partition(" when")[0] for case in told["mirrored_classes"].cases]
    assert {"040 looks like 041", "041 looks like 040"} <= set(turns)
