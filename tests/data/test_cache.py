"""The cache is whole or absent: races, kills, damage and refusing disks."""

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bakeoff.data import cache
from bakeoff.data.images import ImageSet, fingerprint
from bakeoff.errors import DataError, StorageError
from bakeoff.library import cache_folder

# What the child processes run: the same pictures as `built`, with a word in between where a test needs one.
CHILD = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_cache
source = Path({source!r})
{setup}
made = test_cache.cache.remember("toy", [source], build, num_bytes=1)
print(made.fingerprint)
"""


def built() -> ImageSet:
    """Return 64 random pictures of 8x8, with names that must stay data."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    labels = rng.integers(0, 3, 64)
    return ImageSet(
        images=pixels.transpose(0, 3, 1, 2),
        labels=labels,
        classes=("été", "<img src=x onerror=alert(1)>", "../c"),
        superclasses=("x", "y"),
        superclass_of=(0, 1, 1),
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        fingerprint=fingerprint(pixels, labels, ("été", "<img src=x onerror=alert(1)>", "../c")),
    )


def never() -> ImageSet:
    raise AssertionError("built again")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"some pictures")
    return path


def child(source: Path, setup: str = "build = test_cache.built") -> subprocess.Popen[str]:
    script = CHILD.format(tests=str(Path(__file__).parent), source=str(source), setup=setup)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def entry(root: Path) -> Path:
    """Return the one finished folder in the cache."""
    (folder,) = [path for path in root.iterdir() if path.is_dir()]
    return folder


def assert_same(found: ImageSet, expected: ImageSet) -> None:
    assert np.array_equal(found.images, expected.images)
    assert np.array_equal(found.labels, expected.labels)
    for field in ("classes", "superclasses", "superclass_of", "mean", "std", "fingerprint"):
        assert getattr(found, field) == getattr(expected, field)


def test_what_comes_out_is_what_went_in_and_is_built_once(root: Path, source: Path) -> None:
    assert_same(cache.remember("toy", [source], built, num_bytes=1), built())
    again = cache.remember("toy", [source], never, num_bytes=1)
    assert_same(again, built())
    names = {path.name for path in entry(root).iterdir()}
    assert names == {"images.bin", "labels.bin", "manifest.json"}


def test_pictures_are_mapped_in_channels_last_order_and_the_file_is_safe(root: Path, source: Path) -> None:
    cache.remember("toy", [source], built, num_bytes=1)
    found = cache.remember("toy", [source], never, num_bytes=1)
    assert type(found.images) is np.ndarray
    assert found.images.transpose(0, 2, 3, 1).flags.c_contiguous
    assert found.images.flags.writeable  # torch.from_numpy warns otherwise
    before = (entry(root) / "images.bin").read_bytes()
    found.images[0] = 0
    assert (entry(root) / "images.bin").read_bytes() == before


def test_the_key_is_the_content_of_the_files_not_their_names(root: Path, source: Path) -> None:
    cache.remember("toy", [source], built, num_bytes=1)
    moved = source.rename(source.with_name("moved"))
    cache.remember("toy", [moved], never, num_bytes=1)
    moved.write_bytes(b"other pictures")
    with pytest.raises(AssertionError, match="built again"):
        cache.remember("toy", [moved], never, num_bytes=1)


def test_two_lists_of_files_with_the_same_bytes_in_a_row_differ(tmp_path: Path, root: Path) -> None:
    contents = {"ab": b"ab", "c": b"c", "a": b"a", "bc": b"bc"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    cache.remember("toy", [tmp_path / "ab", tmp_path / "c"], built, num_bytes=1)
    with pytest.raises(AssertionError, match="built again"):
        cache.remember("toy", [tmp_path / "a", tmp_path / "bc"], never, num_bytes=1)


def test_a_missing_source_file_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        cache.remember("toy", [tmp_path / "nowhere"], built, num_bytes=1)


def test_the_folder_is_the_own_one_then_the_standard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", "/own")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/own")
    monkeypatch.delenv("BAKEOFF_CACHE")
    assert cache_folder() == Path("/xdg/bakeoff")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert cache_folder() == Path("/home/somebody/.cache/bakeoff")


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def halve(path: Path, _: int) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path, _: int) -> None:
    path.write_bytes(b"")


def lose(path: Path, _: int) -> None:
    path.unlink()


@pytest.mark.parametrize("file", ["images.bin", "labels.bin", "manifest.json"])
@pytest.mark.parametrize("damage", [flip, halve, empty, lose])
def test_damage_is_noticed_said_and_mended(
    root: Path, source: Path, file: str, damage: Callable[[Path, int], None], caplog: pytest.LogCaptureFixture
) -> None:
    cache.remember("toy", [source], built, num_bytes=1)
    path = entry(root) / file
    damage(path, path.stat().st_size // 2)
    with caplog.at_level(logging.WARNING):
        assert_same(cache.remember("toy", [source], built, num_bytes=1), built())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(entry(root)) in caplog.text
    assert_same(cache.remember("toy", [source], never, num_bytes=1), built())


def test_every_flipped_bit_of_the_manifest_is_noticed_or_harmless(root: Path, source: Path) -> None:
    cache.remember("toy", [source], built, num_bytes=1)
    manifest = entry(root) / "manifest.json"
    whole = manifest.read_bytes()
    for position in range(0, len(whole), 7):
        flip(manifest, position)
        try:
            found = cache.remember("toy", [source], never, num_bytes=1)
        except AssertionError:
            pass  # noticed
        else:
            assert_same(found, built())  # the flip changed white space or the like
        manifest.write_bytes(whole)


def test_what_is_mapped_survives_the_mending_of_its_folder(root: Path, source: Path) -> None:
    early = cache.remember("toy", [source], built, num_bytes=1)
    lose(entry(root) / "manifest.json", 0)
    cache.remember("toy", [source], built, num_bytes=1)
    assert_same(early, built())


def test_two_processes_at_once_build_once(root: Path, source: Path, tmp_path: Path) -> None:
    setup = f"""
Path({str(tmp_path)!r}, f"ready-{{os.getpid()}}").touch()
while len(list(Path({str(tmp_path)!r}).glob("ready-*"))) < 3:
    time.sleep(0.001)
def build():
    with open({str(tmp_path / "log")!r}, "a") as log:
        log.write("built\\n")
    time.sleep(0.2)
    return test_cache.built()
"""
    children = [child(source, setup) for _ in range(3)]
    for process in children:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out.strip()) == (0, built().fingerprint), err
    assert (tmp_path / "log").read_text() == "built\n"
    assert_same(cache.remember("toy", [source], never, num_bytes=1), built())


OPERATIONS = 9  # open the lock; fsync three files; open, fsync, rename the folder; open, fsync its parent


@pytest.mark.parametrize("call", range(OPERATIONS + 1))
def test_a_builder_killed_at_any_operation_leaves_a_whole_cache_or_none(root: Path, source: Path, call: int) -> None:
    setup = f"""
build, calls = test_cache.built, []
def deadly(real):
    def operation(*arguments):
        if len(calls) == {call}:
            os.kill(os.getpid(), signal.SIGKILL)
        calls.append(real)
        return real(*arguments)
    return operation
os.fsync, os.rename, os.open = deadly(os.fsync), deadly(os.rename), deadly(os.open)
"""
    process = child(source, setup)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if call < OPERATIONS else 0), err
    assert_usable(root, source)


def test_builders_killed_at_random_moments_leave_a_whole_cache_or_none(root: Path, source: Path) -> None:
    seed = 20
    for delay_s in np.random.default_rng(seed).uniform(0.0, 0.03, size=6):
        process = child(source, "build = test_cache.built; print(flush=True)")
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay_s)
        process.kill()
        process.communicate()
        assert_usable(root, source)
        shutil.rmtree(root)


def assert_usable(root: Path, source: Path) -> None:
    """Check that what is there under its final name is whole, and that nothing half-made outlives the next building."""
    finished = root.is_dir() and any(path.is_dir() and not path.suffix for path in root.iterdir())
    assert_same(cache.remember("toy", [source], never if finished else built, num_bytes=1), built())
    assert sorted(path.suffix for path in root.iterdir()) == ["", ".lock"]


def test_a_full_disk_is_exit_5_with_path_and_bytes_and_without_debris(root: Path, source: Path) -> None:
    """The kernel refuses, as with a full disk: no file may pass 4,096 bytes, and the pictures have 12,288."""
    setup = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
build = test_cache.built
"""
    process = child(source, setup)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"StorageError: {root}" in err
    assert f"{64 * 8 * 8 * 3 + 64 * 8:,} bytes" in err
    assert [path.suffix for path in root.iterdir()] == [".lock"]
    assert_same(cache.remember("toy", [source], built, num_bytes=1), built())  # once there is room


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("operation", ["fsync", "rename"])
def test_whatever_the_disk_answers_is_exit_5(
    root: Path, source: Path, monkeypatch: pytest.MonkeyPatch, operation: str, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, operation, refuse)
        with pytest.raises(StorageError, match=os.strerror(code)) as caught:
            cache.remember("toy", [source], built, num_bytes=1)
    assert caught.value.exit_code == 5
    assert [path.suffix for path in root.iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_made_is_exit_5(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(source / "below-a-file"))
    with pytest.raises(StorageError, match=r"below-a-file.*12,345 bytes"):
        cache.remember("toy", [source], never, num_bytes=12345)


def test_an_error_while_building_leaves_nothing_and_passes(root: Path, source: Path) -> None:
    def fail() -> ImageSet:
        raise DataError("a picture", found="noise", expected="a picture")

    with pytest.raises(DataError, match="noise"):
        cache.remember("toy", [source], fail, num_bytes=1)
    assert [path.suffix for path in root.iterdir()] == [".lock"]
    assert_same(cache.remember("toy", [source], built, num_bytes=1), built())
