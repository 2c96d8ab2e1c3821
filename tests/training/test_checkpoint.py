"""Checkpoints: whole or absent, damage noticed and named, the one before used, nothing in them run."""

import errno
import hashlib
import json
import math
import os
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bakeoff.errors import ResumeRefused, StorageError
from bakeoff.training import checkpoint
from bakeoff.training.checkpoint import Checkpoint
from tests.training.kills import same

CPU = torch.device("cpu")


def state_of(step: int) -> dict[str, Any]:
    source = torch.Generator().manual_seed(step)
    return {
        "model": {"w": torch.randn(20, 7, generator=source), "count": torch.tensor(step)},
        "optimizer": {"state": {0: {"step": 3.0}}, "param_groups": [{"lr": 0.1, "params": [0], "betas": (0.9, 0.99)}]},
        "average": None,
        "step": step,
        "val_top1": math.nan,
        "rng_cpu": source.get_state(),
    }


def save(folder: Path, *steps: int) -> Path:
    for step in steps:
        checkpoint.save(folder, state_of(step), step=step, digest=f"digest {step}", epochs=step + 1)
    return folder


def newest(folder: Path) -> Checkpoint:
    found = checkpoint.newest(folder, device=CPU)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints of steps 4 and 8; tests damage copies of it."""
    return save(tmp_path_factory.mktemp("two") / "checkpoints", 4, 8)


def check_fall_back(folder: Path, told: pytest.LogCaptureFixture) -> None:
    """Check that step 8 is noticed, named and set aside, and that step 4 is used."""
    told.clear()
    found = newest(folder)
    assert found.step == 4
    assert same(found.state, state_of(4))
    assert sorted(os.listdir(folder)) == ["step-4", "step-8.corrupt"]
    assert [record.levelname for record in told.records] == ["WARNING"]
    assert str(folder / "step-8") in told.text
    assert "step-8.corrupt" in told.text


def test_what_was_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    found = newest(save(tmp_path, 5))
    assert (found.step, found.digest, found.epochs) == (5, "digest 5", 6)
    assert same(found.state, state_of(5))


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "checkpoints", device=CPU) is None


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 0, 3, 10, 200)
    assert sorted(os.listdir(tmp_path)) == ["step-10", "step-200"]


def test_the_newest_is_the_one_of_most_steps_not_the_last_written(tmp_path: Path) -> None:
    save(tmp_path, 100, 20)
    os.utime(tmp_path / "step-100", (0, 0))
    assert newest(tmp_path).step == 100


def test_a_step_that_comes_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    save(tmp_path, 4, 8)
    checkpoint.save(tmp_path, state_of(1), step=8, digest="again", epochs=1)
    assert newest(tmp_path).digest == "again"
    assert sorted(os.listdir(tmp_path)) == ["step-4", "step-8"]


def test_what_a_killed_save_leaves_is_no_checkpoint(two: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(two, tmp_path / "c")
    for name in (".writing-12", ".discarded-step-12"):
        shutil.copytree(folder / "step-8", folder / name)
    assert newest(folder).step == 8
    save(folder, 12)
    assert newest(folder).step == 12


@pytest.mark.parametrize("name", ["state.pt", "manifest.json"])
def test_one_flipped_bit_anywhere_is_noticed(
    two: Path, name: str, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    original = (two / "step-8" / name).read_bytes()
    for bit in random.Random(name).sample(range(8 * len(original)), 50):
        folder = shutil.copytree(two, tmp_path / str(bit))
        damaged = bytearray(original)
        damaged[bit // 8] ^= 1 << bit % 8
        (folder / "step-8" / name).write_bytes(damaged)
        check_fall_back(folder, told)


def test_every_flipped_bit_of_a_manifest_is_noticed(two: Path) -> None:
    original = (two / "step-8" / "manifest.json").read_bytes()
    for bit in range(8 * len(original)):
        damaged = bytearray(original)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((ValueError, LookupError, TypeError)):
            checkpoint._unseal(bytes(damaged))


@pytest.mark.parametrize("name", ["state.pt", "manifest.json"])
def test_a_cut_file_is_noticed(two: Path, name: str, tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    original = (two / "step-8" / name).read_bytes()
    for length in (0, 1, len(original) - 1, *random.Random(name).sample(range(len(original)), 20)):
        folder = shutil.copytree(two, tmp_path / str(length), dirs_exist_ok=True)
        (folder / "step-8" / name).write_bytes(original[:length])
        check_fall_back(folder, told)


class Exploit:
    """Unpickled with trust, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def forge(folder: Path, data: bytes) -> None:
    """Put `data` into the newest checkpoint under a manifest that fits it."""
    (folder / "state.pt").write_bytes(data)
    text = (folder / "manifest.json").read_bytes().split(b"\n", 1)[1]
    manifest = json.loads(text)
    manifest["files"]["state.pt"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    seal_manifest(folder, manifest)


def seal_manifest(folder: Path, manifest: object) -> None:
    body = json.dumps(manifest).encode()
    seal = json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode()
    (folder / "manifest.json").write_bytes(seal + b"\n" + body)


def with_code(path: Path, *, zipped: bool) -> bytes:
    target = path / "made-by-code"
    if not zipped:
        return pickle.dumps({"model": Exploit(target)})
    torch.save({"model": Exploit(target)}, path / "exploit.pt")
    return (path / "exploit.pt").read_bytes()


def torn_archive(folder: Path) -> bytes:
    data = bytearray((folder / "state.pt").read_bytes())
    data[:40] = bytes(40)
    return bytes(data[: len(data) // 2])


FOREIGN: dict[str, Callable[[Path, Path], bytes]] = {
    "nothing": lambda folder, path: b"",
    "random bytes": lambda folder, path: random.Random(1).randbytes(3000),
    "a pickle with code": lambda folder, path: with_code(path, zipped=False),
    "an archive with code": lambda folder, path: with_code(path, zipped=True),
    "a pickle of numbers": lambda folder, path: pickle.dumps([1, 2]),
    "half an archive": lambda folder, path: torn_archive(folder),
    "text": lambda folder, path: b"{}\n",
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_state_under_a_fitting_manifest_is_refused_and_never_run(
    two: Path, kind: str, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(two, tmp_path / "c")
    forge(folder / "step-8", FOREIGN[kind](folder / "step-8", tmp_path))
    check_fall_back(folder, told)
    assert not (tmp_path / "made-by-code").exists()


def test_the_code_of_that_test_would_run_where_it_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(with_code(tmp_path, zipped=True))
    torch.load(tmp_path / "p", weights_only=False)
    assert (tmp_path / "made-by-code").exists()


@pytest.mark.parametrize("manifest", [[], {}, {"step": 8}, {"step": 8, "files": {}}, 8, {"step": 9}, None])
def test_a_foreign_manifest_is_noticed(
    two: Path, manifest: object, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(two, tmp_path / "c")
    seal_manifest(folder / "step-8", manifest)
    check_fall_back(folder, told)


@pytest.mark.parametrize("first_line", [b"[]", b"3", b'"x"', b"{}", b'{"sha256": 1}', b"\xff", b""])
def test_a_foreign_first_line_is_noticed(
    two: Path, first_line: bytes, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(two, tmp_path / "c")
    path = folder / "step-8" / "manifest.json"
    path.write_bytes(first_line + b"\n" + path.read_bytes().split(b"\n", 1)[1])
    check_fall_back(folder, told)


def test_a_checkpoint_under_the_name_of_another_step_is_noticed(
    two: Path, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(two, tmp_path / "c")
    shutil.rmtree(folder / "step-8")
    shutil.copytree(folder / "step-4", folder / "step-8")
    check_fall_back(folder, told)


@pytest.mark.parametrize("name", ["state.pt", "manifest.json"])
def test_a_missing_file_is_noticed(two: Path, name: str, tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    folder = shutil.copytree(two, tmp_path / "c")
    (folder / "step-8" / name).unlink()
    check_fall_back(folder, told)


def test_a_file_in_the_place_of_a_checkpoint_is_noticed(
    two: Path, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(two, tmp_path / "c")
    shutil.rmtree(folder / "step-8")
    (folder / "step-8").write_bytes(b"")
    check_fall_back(folder, told)


def test_where_none_is_whole_there_is_no_quiet_start_from_zero(two: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(two, tmp_path / "c")
    for step in (4, 8):
        (folder / f"step-{step}" / "state.pt").write_bytes(b"")
    for _ in range(2):  # the second time they are set aside already
        with pytest.raises(ResumeRefused) as caught:
            checkpoint.newest(folder, device=CPU)
        assert caught.value.exit_code == 7
        assert str(folder) in str(caught.value)
    assert sorted(os.listdir(folder)) == ["step-4.corrupt", "step-8.corrupt"]


SAVE_BIG = """
import os, resource, sys, torch
from pathlib import Path
from bakeoff.errors import StorageError
from bakeoff.training import checkpoint
folder = Path(sys.argv[1])
for limit in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        checkpoint.save(folder, {"model": torch.zeros(40_000)}, step=9, digest="", epochs=1)
    except StorageError as error:
        print(error.exit_code, *sorted(os.listdir(folder)), error, flush=True)
"""


def test_a_disk_that_is_really_full_leaves_the_earlier_checkpoints_and_no_debris(two: Path, tmp_path: Path) -> None:
    folder, limits = shutil.copytree(two, tmp_path / "c"), ("0", "100", "9000", "159999", "1000000")
    done = subprocess.run(
        [sys.executable, "-c", SAVE_BIG, str(folder), *limits], stdout=subprocess.PIPE, text=True, check=True
    )
    start = f"5 step-4 step-8 {folder}/step-9: found '{os.strerror(errno.EFBIG)}'"
    assert [line.startswith(start) for line in done.stdout.splitlines()] == [True] * 4  # the last limit is roomy
    assert sorted(os.listdir(folder)) == ["step-8", "step-9"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("which", range(3))  # the state, the manifest, their folder
def test_a_refused_fsync_leaves_the_earlier_checkpoints_and_no_debris(
    two: Path, which: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, calls, real = shutil.copytree(two, tmp_path / "c"), [0], os.fsync

    def fsync(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] == which + 1:
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match=os.strerror(code)) as caught:
        save(folder, 12)
    assert caught.value.exit_code == 5
    assert str(folder / "step-12") in str(caught.value)
    assert sorted(os.listdir(folder)) == ["step-4", "step-8"]
    assert newest(folder).step == 8


def test_each_file_is_on_the_disk_before_its_name_and_the_manifest_is_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def name_of(descriptor: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name

    monkeypatch.setattr(os, "fsync", lambda file: (calls.append(name_of(file)), fsync(file)))
    monkeypatch.setattr(os, "rename", lambda old, new: (calls.append("rename"), rename(old, new)))
    save(tmp_path / "c", 3)
    assert calls == ["state.pt", "manifest.json", ".writing-3", "rename", "c"]


def test_a_folder_that_nobody_can_write_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file" / "checkpoints", Path("/proc/checkpoints")):
        with pytest.raises(StorageError) as caught:
            save(folder, 1)
        assert str(folder) in str(caught.value)


def test_a_mistake_in_a_state_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        checkpoint.save(tmp_path, {"model": lambda: 0}, step=1, digest="", epochs=1)
    assert checkpoint.newest(tmp_path, device=CPU) is None
