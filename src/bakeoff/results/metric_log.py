"""The metric log: one JSON row an epoch, one `write(2)` a row, so that a kill loses none."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bakeoff.errors import StorageError
from bakeoff.results.files import storage_errors, write_atomically


class MetricLog:
    """Rows in order of their `step`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row, whole or not at all as far as a kill can tell, and onto the disk."""
        finite = {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in row.items()}
        line = (json.dumps(finite, allow_nan=False) + "\n").encode()
        with storage_errors(self.path, size=len(line)):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                written = os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if written != len(line):
            raise StorageError(
                str(self.path),
                found=f"room for {written} of {len(line)} bytes",
                expected="room for the row",
                hint="Free some space, then resume the run.",
            )

    def rows(self) -> list[dict[str, Any]]:
        """Read all rows; a torn last line (a kill, a full disk) is dropped.

        Raises:
            StorageError: a bad line that is not the last, named by its number.
        """
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            found = f"'{error.strerror or error}' when reading it"
            raise StorageError(str(self.path), found=found, expected="a file of JSON rows") from None
        rows = []
        for number, line in enumerate(lines[:-1], start=1):
            try:
                row = json.loads(line)
                if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                    raise ValueError("not a row with a step")
            except ValueError as error:
                if number == len(lines) - 1:
                    break
                raise StorageError(
                    f"{self.path}, line {number}",
                    found=f"{line[:60]!r} ({error})",
                    expected="one JSON row with a step",
                    hint="The log was changed by something else; restore it or delete that line.",
                ) from None
            rows.append(row)
        return rows

    def roll_back(self, step: int) -> None:
        """Drop every row beyond `step`: they will be written again by the resumed run."""
        if not self.path.exists():
            return
        kept = [row for row in self.rows() if row["step"] <= step]
        write_atomically(self.path, b"".join((json.dumps(row) + "\n").encode() for row in kept))
