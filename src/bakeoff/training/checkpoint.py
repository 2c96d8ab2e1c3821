"""Checkpoints: the full state of a run, committed by a manifest and a rename, two kept.

A checkpoint is a folder `step-N` with `state.pt` and `manifest.json`. It is written aside, each file
put onto the disk, the manifest last, then renamed into place: at any instant it is whole or absent.
torch.load and safetensors both load a file with a flipped bit without a word, hence the SHA-256.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch

from bakeoff.errors import ResumeRefused
from bakeoff.results.files import storage_errors, sync_folder

KEEP = 2
_MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)  # another OSError says nothing of the checkpoint
_STEP = re.compile(r"step-(\d+)")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A state that was read back and proved whole."""

    step: int
    digest: str  # of the recipe that made it
    epochs: int  # of that recipe
    state: Mapping[str, Any]


class _HashingFile:
    """A binary file that knows the SHA-256 of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash, self.size = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.size += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def save(folder: Path, state: Mapping[str, Any], *, step: int, digest: str, epochs: int) -> None:
    """Commit `state` as `folder/step-N` and drop all but the newest two.

    Raises:
        StorageError: no room or no permission; the earlier checkpoints are untouched.
    """
    final, aside = folder / f"step-{step}", folder / f".writing-{step}"
    with storage_errors(final):
        folder.mkdir(exist_ok=True)
        _discard(aside)
        aside.mkdir()
        try:
            with (aside / "state.pt").open("wb") as file:
                hashing = _HashingFile(file)
                torch.save(dict(state), hashing)  # type: ignore[arg-type]
                _onto_disk(file)
            manifest = {
                "format": 1,
                "step": step,
                "digest": digest,
                "epochs": epochs,
                "files": {"state.pt": {"bytes": hashing.size, "sha256": hashing.hash.hexdigest()}},
            }
            with (aside / "manifest.json").open("wb") as file:
                file.write(_seal(manifest))
                _onto_disk(file)
            sync_folder(aside)
            if final.exists():  # the same step, reached again after a roll-back: the same state
                _discard(final)
            os.rename(aside, final)
        except (OSError, RuntimeError) as error:
            # torch's own writer reports a full disk as a RuntimeError about positions in the file.
            shutil.rmtree(aside, ignore_errors=True)
            if isinstance(error, RuntimeError) and not isinstance(error.__cause__ or error.__context__, OSError):
                raise
            raise (error if isinstance(error, OSError) else error.__cause__ or error.__context__) from None  # type: ignore[misc]
        sync_folder(folder)
        for old in _steps(folder)[KEEP:]:
            _discard(folder / f"step-{old}")
        for left in folder.glob(".discarded-*"):  # by a kill amid the lines above
            shutil.rmtree(left)


def newest(folder: Path, *, device: torch.device) -> Checkpoint | None:
    """Load the newest whole checkpoint; set damaged ones aside as `*.corrupt` and say so.

    Returns:
        None where no checkpoint was ever made.

    Raises:
        ResumeRefused: there are checkpoints, and not one of them is whole.
    """
    steps = _steps(folder)
    for step in steps:
        path = folder / f"step-{step}"
        try:
            return _read(path, step=step, device=device)
        except (*_MISSING, ValueError, LookupError, TypeError) as error:  # the last two: JSON of another shape
            aside = path.with_name(f"{path.name}.corrupt")
            _log.warning("Checkpoint %s is damaged (%s); it is set aside as %s.", path, error, aside.name)
            shutil.rmtree(aside, ignore_errors=True)
            with storage_errors(path):
                path.rename(aside)
    if steps or any(folder.glob("*.corrupt")):
        raise ResumeRefused(
            str(folder),
            found="only damaged checkpoints",
            expected="one whole checkpoint",
            hint="They are kept as *.corrupt. Train anew under another name.",
        )
    return None


def _read(path: Path, *, step: int, device: torch.device) -> Checkpoint:
    manifest = _unseal((path / "manifest.json").read_bytes())
    if manifest["step"] != step:
        raise ValueError(f"its manifest is of step {manifest['step']}")
    state_path, expected = path / "state.pt", manifest["files"]["state.pt"]
    with state_path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected["sha256"]:
        raise ValueError(f"state.pt has SHA-256 {found[:12]}, its manifest says {expected['sha256'][:12]}")
    try:
        state = torch.load(state_path, map_location=device, weights_only=True)
    except (UnpicklingError, EOFError, RuntimeError):  # whose own words recommend to load such a file with trust
        raise ValueError("state.pt holds no tensors and numbers alone") from None
    return Checkpoint(step=step, digest=manifest["digest"], epochs=manifest["epochs"], state=state)


def _seal(manifest: Mapping[str, Any]) -> bytes:
    """Return the manifest as JSON whose first line is the hash of the rest."""
    body = json.dumps(manifest, indent=2).encode()
    return json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n" + body


def _unseal(data: bytes) -> dict[str, Any]:
    seal, _, body = data.partition(b"\n")
    if json.loads(seal)["sha256"] != hashlib.sha256(body).hexdigest():
        raise ValueError("its manifest does not match its own hash")
    manifest: dict[str, Any] = json.loads(body)
    return manifest


def _steps(folder: Path) -> list[int]:
    """List the steps of the committed checkpoints, newest first: by step, never by clock."""
    found = (_STEP.fullmatch(path.name) for path in folder.glob("step-*"))
    return sorted((int(match[1]) for match in found if match), reverse=True)


def _discard(path: Path) -> None:
    """Remove a folder so that a kill in between leaves no half checkpoint under a good name."""
    if path.exists():
        trash = path.with_name(f".discarded-{path.name.lstrip('.')}")
        shutil.rmtree(trash, ignore_errors=True)
        path.rename(trash)
        shutil.rmtree(trash)


def _onto_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
