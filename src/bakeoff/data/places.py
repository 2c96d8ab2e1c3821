"""Where published pictures can lie on this machine, and the hub that has them if it does not."""

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bakeoff.data import columns
from bakeoff.data.images import Part
from bakeoff.errors import DataError, StorageError

_FULL_OR_READ_ONLY = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def data_root() -> Path | None:
    """Return $BAKEOFF_DATA, or None where it is not set."""
    own = os.environ.get("BAKEOFF_DATA")
    return Path(own).expanduser() if own else None


def unpacked(folder: str) -> Path | None:
    """Return the first of $BAKEOFF_DATA/<folder>, ./data/<folder> and ~/data/<folder> that is there."""
    roots = (data_root(), Path("data"), Path("~/data").expanduser())
    return next((root / folder for root in roots if root and (root / folder).is_dir()), None)


def parquet(name: str, part: Part, *, wanted: Sequence[str]) -> tuple[Path, ...]:
    """Find <part>-*.parquet in $BAKEOFF_DATA/<name>, or in $BAKEOFF_DATA if it has the `wanted` columns.

    Raises:
        DataError: there are such files, but not all, or not for this part.
    """
    if (root := data_root()) is None:
        return ()
    files = sorted((root / name).glob(f"{part}-*.parquet"))
    if not files and any((root / name).glob("*.parquet")):
        raise DataError(str(root / name), found="no Parquet file of this part", expected=f"{part}-*.parquet")
    if not files:
        files = [file for file in sorted(root.glob(f"{part}-*.parquet")) if columns.has(file, wanted)]
    for file in files:
        pieces = re.search(r"-of-(\d+)\.parquet$", file.name)
        if pieces and int(pieces[1]) != len(files):
            expected = f"{int(pieces[1])}, as its name says"
            raise DataError(str(file), found=f"{len(files)} such files", expected=expected)
    return tuple(files)


def hub_splits(repository: str) -> tuple[str, ...]:
    """Return what the parts of a data set are called on the hub.

    Raises:
        StorageError: the disk refused what was fetched.
        DataError: no answer, and nothing fetched before.
    """
    import datasets

    with _answers(repository):
        return tuple(map(str, datasets.get_dataset_split_names(repository)))


def hub(repository: str, part: str) -> tuple[Path, ...]:
    """Fetch a data set with the Hugging Face library, or find it fetched; return the Arrow files of a part.

    The library keeps what it has under $HF_HOME, resumes a download, goes to $HF_ENDPOINT where that is
    set, and stays off the network with HF_HUB_OFFLINE=1. On the first visit it prepares all parts; only the
    files of this one are returned.

    Raises:
        StorageError: the disk refused what was fetched.
        DataError: no answer, and nothing fetched before.
    """
    import datasets  # a second of imports that those who have the files need not wait for

    with _answers(repository):
        table = datasets.load_dataset(repository, split=part, keep_in_memory=False)
        return tuple(Path(piece["filename"]) for piece in table.cache_files)


@contextmanager
def _answers(repository: str) -> Iterator[None]:
    """Say where an error of the hub stands."""
    where = f"the hub's {repository}"
    try:
        yield
    except Exception as error:  # the library's own, those of its network library, and the system's
        if _disk_refused(error):
            hint = "HF_HOME chooses another disk."
            raise StorageError(where, found=f"'{error}'", expected="room for it", hint=hint) from error
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise DataError(where, found=f"no answer ({reason})", expected="one, or HF_HOME filled") from error


def _disk_refused(error: BaseException | None) -> bool:
    """Tell whether a full or read-only disk stands anywhere behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL_OR_READ_ONLY:
            return True
        if isinstance(error, PermissionError) and error.filename is not None:  # of a file, not of a socket
            return True
        error = error.__cause__ or error.__context__
    return False
