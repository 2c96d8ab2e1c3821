"""How much memory work needs at its peak, where this machine can tell."""

import ctypes
import gc
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

STEPS = 2  # of the work whose peak is looked at
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"  # what the kernel is told through _CLEAR (proc(5))


def peak_mb(work: Callable[[], object], *, kind: torch.device, held: Iterable[Tensor]) -> float | None:
    """Return the MB (1e6 bytes) that the work needs at its peak, or None where nobody keeps count.

    On a GPU what torch's allocator had given out at most. On the CPU, under Linux, by how much the resident memory of
    this process grows at most while the work is done, from where it stands when all that is free has gone back to the
    kernel, and the tensors that are held meanwhile, which were there before. What libraries keep for ever (code,
    threads, compiled kernels) is in neither: it is paid once, by whatever runs first.

    Args:
        work: one step, done before, so that nothing is prepared in it any more.
        kind: the device that it works on.
        held: the tensors that it works with: weights, statistics, the optimizer's, pictures.
    """
    if kind.type == "cuda":
        torch.cuda.reset_peak_memory_stats(kind)
        _repeat(work)
        torch.cuda.synchronize(kind)
        return torch.cuda.max_memory_allocated(kind) / 1e6
    if kind.type != "cpu" or not _settle():
        return None
    before = _resident("VmRSS")
    _repeat(work)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}
    return (_resident("VmHWM") - before + sum(storages.values())) / 1e6


def _repeat(work: Callable[[], object]) -> None:
    for _ in range(STEPS):
        work()


def _settle() -> bool:
    """Hand free memory back to the kernel and have it forget the peak; tell whether it does."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):  # glibc's: another library keeps what it likes
        return False
    gc.collect()
    libc.malloc_trim(0)
    try:
        _CLEAR.write_text(_FORGET_PEAK, encoding="ascii")
    except OSError:  # not everywhere allowed
        return False
    return True


def _resident(key: str) -> int:
    """Return the bytes that a line of the process's status speaks of: VmRSS now, VmHWM at most."""
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
