import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bakeoff.errors import StorageError
from bakeoff.results.files import storage_errors, write_atomically


def test_a_file_is_written_into_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "predictions" / "val.parquet"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_file_is_readable_as_any_other(tmp_path: Path) -> None:
    write_atomically(tmp_path / "ours", b"")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("fsync"), fsync(file)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (calls.append("replace"), replace(self, to)))
    write_atomically(tmp_path / "file", b"new")
    assert calls == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EDQUOT])
@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_refusal_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, code: int
) -> None:
    path = tmp_path / "val.parquet"
    path.write_bytes(b"old")

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*((os, "fsync") if operation == "fsync" else (Path, "replace")), refuse)
    with pytest.raises(StorageError, match="5,000 bytes") as caught:
        write_atomically(path, bytes(5000))
    assert str(path) in str(caught.value)
    assert os.strerror(code) in str(caught.value)
    assert caught.value.exit_code == 5
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["val.parquet"]


def test_a_real_size_limit_of_the_kernel_is_such_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "val.parquet"
    path.write_bytes(b"old")
    code = (
        "import sys; from pathlib import Path; from bakeoff.errors import StorageError\n"
        "from bakeoff.results.files import write_atomically\n"
        "try: write_atomically(Path(sys.argv[1]), bytes(100_000))\n"
        "except StorageError as error: sys.exit(error.exit_code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        check=False,
    )
    assert done.returncode == 5
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["val.parquet"]


def test_a_file_in_the_place_of_a_folder_is_such_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"")
    with pytest.raises(StorageError):
        write_atomically(tmp_path / "run" / "val.parquet", b"new")


def test_only_errors_of_the_disk_are_translated(tmp_path: Path) -> None:
    with pytest.raises(KeyError), storage_errors(tmp_path):
        raise KeyError("ours")
