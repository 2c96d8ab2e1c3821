"""The published pickles of CIFAR, read without running what a pickle can run.

A pickle is a program. Two locks: only the exact bytes that were published (MD5, as torchvision has them) are
looked at, and of all the functions a pickle can name there are only the three that these files need.

Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from bakeoff.errors import DataError


def read(path: Path, *, md5: str) -> dict[str, Any]:
    """Return the dictionary in one of CIFAR's files.

    Raises:
        DataError: the file cannot be read, is not the published one, or holds more than numbers and names.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(str(path), found=f"'{error.strerror}'", expected="a file to read") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(str(path), found=f"MD5 {found}", expected=f"{md5}, as published", hint="Get it again.")
    try:
        loaded = _Plain(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a broken pickle can raise anything
        raise DataError(str(path), found=f"a pickle that {error}", expected="numbers and names") from error
    if not isinstance(loaded, dict):
        raise DataError(str(path), found=f"a {type(loaded).__name__}", expected="a dictionary")
    return loaded


def _bytes_type(name: str, *_: object) -> np.dtype[np.uint8]:
    """Stand in for numpy.dtype: CIFAR's arrays are of bytes, and objects would be another door."""
    if name != "u1":
        raise pickle.UnpicklingError(f"asks for an array of {name!r}")
    return np.dtype("u1", copy=True)  # a copy, because the pickle goes on to set its state


class _Plain(pickle.Unpickler):
    """Know what rebuilds an array of bytes, and nothing else."""

    def find_class(self, module: str, name: str, /) -> object:
        allowed = {
            # numpy's public way to this private function, which moved between its versions
            ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _bytes_type,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"asks for {module}.{name}")
        return allowed[module, name]
