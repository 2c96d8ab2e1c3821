"""Kernels of our own for a processor, where torch's are slow: kernels.c, compiled once and kept.

They compute in bfloat16 on channels-last maps, the form in which a processor with such hardware trains fastest. Where
there is no C compiler, no such hardware or another form, torch's kernels do the same; so they do inside torch.compile.
What takes the place of what is in convolution.py, norms.py and pooling.py.
"""

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from bakeoff.library import cache_folder

_log = logging.getLogger(__name__)
SWITCH: Final = "BAKEOFF_KERNELS"  # "off" leaves all to torch
SOURCE: Final = Path(__file__).with_name("kernels.c")
LANES: Final = 16  # channels come in multiples of it
# No -ffast-math: linked into a library it would switch off denormal numbers for the whole process, and it lets a
# compiler forget that a loss may be NaN.
FLAGS: Final = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")
ACTIVATIONS: Final = {"none": 0, "relu": 1, "gelu": 2}  # as kernels.c counts them; gelu is its form with tanh


class Shape(ctypes.Structure):
    """`struct shape` of kernels.c: pictures, map, channels, map of the result, filter, stride, padding."""

    _fields_ = [
        (name, ctypes.c_int)
        for name in "num height width in out tall broad rows columns stride up left".split()  # noqa: SIM905
    ]


@cache
def library() -> ctypes.CDLL | None:
    """Return the kernels, compiled at the first call on this machine; None where there are none."""
    features = torch.cpu.get_capabilities()
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    if os.environ.get(SWITCH) == "off" or compiler is None or not features.get("avx512_bf16"):
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", "") or str(error)
        _log.warning(
            "Training goes on with torch's own kernels, for ours could not be compiled: %s", told.strip()[:200]
        )
        return None


@cache
def multiplies() -> bool:
    """Whether there are kernels for products of matrices, and so for convolutions."""
    found = library()
    return found is not None and bool(found.multiplies())


@cache
def has_tiles() -> bool:
    """Whether they were compiled for a matrix unit (AMX), else for vectors."""
    found = library()
    return found is not None and multiplies() and bool(found.has_tiles())


def _compiled(compiler: str) -> Path:
    """Return the library's file: one for each source, compiler and processor, put in its place whole."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    features = sorted(name for name, there in torch.cpu.get_capabilities().items() if there)
    told = repr((SOURCE.read_bytes(), FLAGS, version, features))
    file = cache_folder() / "kernels" / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.so"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
            made = Path(scratch, file.name)
            command = [compiler, *FLAGS, str(SOURCE), "-o", str(made), "-lm"]
            subprocess.run(command, capture_output=True, text=True, check=True)
            made.replace(file)
    return file


def reaches(x: Tensor) -> bool:
    """Whether a kernel could read this map [b c h w]: channels-last, on a processor, outside torch.compile."""
    return (
        x.device.type == "cpu"
        and x.ndim == 4
        and not torch.compiler.is_compiling()
        and not torch.compiler.is_exporting()
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def suits(x: Tensor) -> bool:
    """Whether the kernels take this map [b c h w] as it is: within their reach, bfloat16, whole lanes of channels."""
    is_right = x.dtype == torch.bfloat16 and reaches(x) and x.shape[1] % LANES == 0 and x.numel() > 0
    return is_right and library() is not None


def call(name: str, *arguments: Tensor | float | ctypes.Structure | None) -> None:
    """Call a kernel: tensors go as pointers, whole numbers as `long`, others as `double`; the threads come last.

    Raises:
        MemoryError: there is none left.
    """
    if getattr(library(), name)(*map(_argument, arguments), ctypes.c_int(torch.get_num_threads())):
        raise MemoryError(f"no memory for the kernel {name}")


def _argument(value: object) -> object:
    match value:
        case Tensor():
            return ctypes.c_void_p(value.data_ptr())
        case None:
            return ctypes.c_void_p(None)
        case ctypes.Structure():
            return ctypes.byref(value)
        case int():
            return ctypes.c_long(value)
        case _:
            return ctypes.c_double(value)  # type: ignore[arg-type]
