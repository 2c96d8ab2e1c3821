"""Files that are either the old one or the new one, whenever the power goes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from bakeoff.errors import StorageError


@contextmanager
def storage_errors(path: Path, *, size: int | None = None) -> Iterator[None]:
    """Turn whatever the disk answers inside this block into one message with path and bytes.

    Args:
        path: the file or folder that was to be written.
        size: how much was to be written, in bytes, where it is known.

    Raises:
        StorageError: on every OSError: full (ENOSPC, EDQUOT, EFBIG), read-only (EROFS), forbidden (EACCES).
    """
    try:
        yield
    except OSError as error:
        what = "it" if size is None else f"{size:,} bytes"
        raise StorageError(
            str(path),
            found=f"'{error.strerror or error}' when writing {what}",
            expected="a disk with room that this user may write to",
            hint="What stood there before is unharmed. Make room or change the folder, then try again.",
        ) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a machine that lost power, sees all or nothing of it.

    A temporary file in the same folder (made if missing), fsync, rename, fsync of the folder. Two writers at
    once are safe too: the last one wins, whole. A killed writer can leave a `.<16 hex digits>.tmp` behind.

    Raises:
        StorageError: the disk refused; the file that stood at `path` is untouched.
    """
    temporary = path.with_name(f".{token_hex(8)}.tmp")  # not made of the name, which may be 255 bytes long
    with storage_errors(path, size=len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)  # gone already, unless something above failed
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename last: the name of a file is data of its folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
