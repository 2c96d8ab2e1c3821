"""Weights on disk: safetensors with all that prediction needs beside them. Loading runs no code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from bakeoff.errors import DataError
from bakeoff.results.files import write_atomically


def write(model: nn.Module, path: Path, *, card: Mapping[str, Any]) -> None:
    """Write the model's state, and `card` as its metadata: classes, image shape, normalisation, model.

    Equal weights and cards give equal bytes.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    sealed = {**card, "sha256": digest(tensors)}
    # One metadata entry only: the format does not fix the order of several.
    write_atomically(path, save(tensors, metadata={"bakeoff": json.dumps(sealed, ensure_ascii=False)}))


def read(path: Path, *, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state dict and the card of a weights file.

    Raises:
        DataError: no such file, a damaged one, or one without our card.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            card = json.loads((file.metadata() or {})["bakeoff"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        if digest(tensors) != card.pop("sha256"):
            raise ValueError("its tensors do not match their SHA-256")
        return tensors, card
    except FileNotFoundError:
        found = "no such file"
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        found = f"a file that cannot be read as such ({error})"
    raise DataError(str(path), found=found, expected="safetensors weights written by bakeoff")


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash names and numbers of a state dict: the format itself does not notice a flipped bit."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        flat = tensors[name].cpu().contiguous().reshape(-1).view(torch.uint8)
        hashed.update(name.encode())
        hashed.update(flat.numpy().data)
    return hashed.hexdigest()
