"""Where a number comes from: versions, commit, hardware, threads, command."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bakeoff.errors import ResumeRefused
from bakeoff.training.device import Device
from bakeoff.training.ranks import DEVICES

PACKAGES = ("bakeoff", "torch", "numpy", "accelerate")
# What must be the same for a resumed run to be the same run.
IDENTITY = ("versions", "device", "precision", "threads", "layout", "compiled", "kernels", "cuda_graph", "world_size")
# Of runs from before these were written down.
BEFORE = {"kernels": False, "layout": "channels_last", "cuda_graph": False}

PER_RANK = ("world_size", "threads")  # a rank's threads are the cores of its machine, shared out
_ELSEWHERE = "Resume it in its own environment, or train anew here under another name."
_OF_RANKS = "Start as many ranks (devices=N), or accept other rounding and other dropout by --any-world-size."


def collect(device: Device, *, command: Sequence[str]) -> dict[str, Any]:
    """Describe this process, this machine and this code."""
    return {
        "versions": {name: version(name) for name in PACKAGES},
        "device": device.kind.type,
        "precision": device.precision,
        "threads": device.threads,
        "layout": device.layout,
        "compiled": device.compiled,
        "kernels": device.kernels,
        "cuda_graph": device.graphed,
        "world_size": device.ranks.size,
        **({"autotune": list(device.tried)} if device.tried else {}),
        "hardware": _hardware(device),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "commit": _commit(),
        "command": list(command),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def check_same(before: dict[str, Any], now: dict[str, Any], *, where: Path, any_world_size: bool = False) -> None:
    """Refuse to go on where the numbers would not be those of an undisturbed run.

    Args:
        before: what was collected when the run began.
        now: what was collected here.
        where: the run's folder, for messages.
        any_world_size: whether another number of ranks is accepted.

    Raises:
        ResumeRefused: the first difference in what belongs to a run's identity.
    """
    for key in IDENTITY:
        if before.get(key, BEFORE.get(key)) != now[key] and not (any_world_size and key in PER_RANK):
            began = _short(before.get(key, "one that is recorded"))
            raise ResumeRefused(
                str(where),
                found=f"{key} {_short(now[key])}",
                expected=f"{began}, as the run began: other {key} give other numbers",
                hint=_OF_RANKS if key == "world_size" else _ELSEWHERE,
            )


def _short(value: object) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _hardware(device: Device) -> str:
    if device.kind.type == "cuda":
        return torch.cuda.get_device_name(device.kind)
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        name = next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _commit() -> str:
    """Return the commit of the checkout this code runs from ('+' where it was changed since), or ''."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=5, check=True)
        return done.stdout.strip()

    try:
        top = git("rev-parse", "--show-toplevel")
        if here != Path(top, "src", "bakeoff", "training"):
            return ""  # installed somewhere inside another project's checkout
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def command_line() -> list[str]:
    """Return the command as a person would type it again."""
    program = Path(sys.argv[0]).name
    again = [f"devices={devices}"] if (devices := os.environ.get(DEVICES)) else []
    return ["bakeoff" if program == "__main__.py" else program, *sys.argv[1:], *again]
