"""Where and how one run computes: device, precision, threads, layout, compiler. The one door to Accelerate."""

import ctypes
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models import native
from bakeoff.training.ranks import Ranks, join, local_size, world_size

Precision = Literal["float32", "bf16"]
Layout = Literal["channels_last", "contiguous"]

# Multiply-adds from which a run is long: what takes about a minute before its first step, compiling or measuring, has
# paid for itself. On two cores resnet_20, compiled, takes a tenth less time a step, so an eager run must last some
# eight minutes. A GPU is some hundred times as fast: by arithmetic, not yet measured.
LONG_RUN_MACS: Final = {"cpu": 5e13, "cuda": 5e15}
LAYOUTS: Final = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """What was decided of how to compute, for what a recipe leaves open; None is as recipe and machine have it.

    Args:
        precision: of the forward pass.
        threads: of each process; where there are fewer cores, as many as there are.
        layout: of pictures, maps and filters in memory.
        compiled: whether the model is compiled.
    """

    precision: Precision | None = None
    threads: int | None = None
    layout: Layout | None = None
    compiled: bool | None = None


UNDECIDED: Final = Way()


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """The resolved place of one run.

    Args:
        kind: the torch device.
        precision: of the forward pass; weights and optimizer stay in float32.
        threads: of this process on the CPU; part of the result's identity.
        layout: of pictures, maps and filters in memory; part of the result's identity, as sums have another order.
        ranks: the processes of the run.
        compiled: whether the model is compiled.
        kernels: whether kernels of our own train it; part of the result's identity, as they round elsewhere.
        graphed: whether a step is one CUDA graph; part of the result's identity, as its rates are float32.
        note: why it is not compiled, or graphed, where the recipe asked for it.
        tried: ways that were measured to decide so, as a run's environment.json keeps them.
    """

    kind: torch.device
    precision: Precision
    threads: int
    layout: Layout
    ranks: Ranks
    compiled: bool
    kernels: bool
    note: str
    accelerator: Accelerator
    graphed: bool = False
    tried: tuple[Mapping[str, Any], ...] = ()

    @property
    def way(self) -> Way:
        """How it computes, all of it decided."""
        return Way(precision=self.precision, threads=self.threads, layout=self.layout, compiled=self.compiled)

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout, as torch calls it."""
        return LAYOUTS[self.layout]

    def trying(self, way: Way) -> "Device":
        """Return the same place, for this process alone, computing in another way; torch's threads are set to it."""
        there = _set_up(
            kind=self.kind,
            precision=way.precision or self.precision,
            threads=way.threads or self.threads,
            layout=way.layout or self.layout,
            compiled=self.compiled if way.compiled is None else way.compiled,
            ranks=Ranks(),
        )
        return replace(there, graphed=self.graphed)

    def place(self, model: nn.Module) -> nn.Module:
        """Move the model to the device, in the layout that the batches have."""
        return model.to(self.kind).to(memory_format=self.memory_format)

    def compile(self, model: nn.Module) -> nn.Module:
        """Return the compiled model where the run compiles, else the model itself."""
        return torch.compile(model) if self.compiled else model  # type: ignore[return-value]

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass in the run's precision."""
        return self.accelerator.autocast()  # type: ignore[no-any-return]

    def backward(self, loss: Tensor) -> None:
        """Back-propagate through the accelerator (which scales where a precision needs it)."""
        self.accelerator.backward(loss)

    def tracking(
        self,
        name: str,
        *,
        folder: Path,
        project: str,
        settings: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> "Tracking":
        """Return one tracker of Accelerate's, of an accelerator of its own, so that its faults stay its own.

        Args:
            name: as Accelerate calls it.
            folder: where it may write.
            project: what it files the run under.
            settings: of the run, for it to show.
            arguments: of the tracker itself.

        Raises:
            LookupError: it is not installed.
        """
        if name not in map(str, get_available_trackers()):
            raise LookupError(f"it is not installed: pip install {name}")
        accelerator = Accelerator(cpu=self.kind.type == "cpu", log_with=name, project_dir=folder)
        return Tracking(
            accelerator=accelerator, name=name, project=project, settings=settings or {}, arguments=arguments or {}
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracking:
    """One tracker: `begin`, then `log` a row at a time, then `finish`. Any of them may raise, or hang."""

    accelerator: Accelerator
    name: str
    project: str
    settings: Mapping[str, Any]
    arguments: Mapping[str, Any]

    def begin(self) -> None:
        """Open the run."""
        settings = dict(self.settings) or None
        self.accelerator.init_trackers(self.project, config=settings, init_kwargs={self.name: dict(self.arguments)})

    def log(self, values: Mapping[str, Any], *, step: int) -> None:
        """Write numbers of one step."""
        self.accelerator.log(dict(values), step=step)

    def finish(self) -> None:
        """Close the run."""
        self.accelerator.end_training()


def resolve(
    *,
    device: str,
    precision: str,
    compile: bool | Literal["auto"],
    threads: int | Literal["auto"],
    deterministic: bool,
    training_macs: Callable[[], float],
    decided: Way = UNDECIDED,
) -> Device:
    """Decide where and how to compute, once, from the recipe's settings of these names and this machine.

    What is "auto" is as `decided` has it, if it says. `training_macs` gives the multiply-adds of the whole run; it is
    asked only where `compile` is "auto" and nothing is decided.

    Raises:
        RecipeError: a device that is not there.
    """
    ranks = join()
    kind = _kind(device)
    own = max(1, cores() // local_size())
    count = min(own, decided.threads or own) if threads == "auto" else threads
    if ranks.size > 1:
        os.environ["OMP_NUM_THREADS"] = str(count)  # or Accelerate decides, and warns
    if kind.type == "cpu":
        _keep_memory()
    if deterministic and kind.type == "cuda":
        # Read by cuBLAS when it is first used; without it its reductions differ from run to run.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic and kind.type == "cuda")
    # Otherwise it would fill all new memory first, in a kernel each, for whoever reads what was never written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # It is never decided to use bf16, only not to: a machine without it is another machine.
    gains = precision == "auto" and decided.precision != "float32" and gains_from_bf16(kind)
    takes: Precision = "bf16" if precision == "bf16" or gains else "float32"
    if compile == "auto" and decided.compiled is not None:
        compile = decided.compiled
    elif compile == "auto" and _has_kernels(kind, takes):
        compile = False  # the kernels gain more than the compiler does, and it would leave them aside
    compiled, note = ranks.first(lambda: _decide_compile(compile, kind, training_macs))
    return _set_up(
        kind=kind,
        precision=takes,
        threads=count,
        layout=decided.layout if decided.layout in LAYOUTS else "channels_last",
        compiled=compiled,
        ranks=ranks,
        note=note,
    )


def _set_up(
    *,
    kind: torch.device,
    precision: Precision,
    threads: int,
    layout: Layout,
    compiled: bool,
    ranks: Ranks,
    note: str = "",
) -> Device:
    """Make Accelerate and torch's threads what was decided."""
    half = precision == "bf16"
    AcceleratorState._reset_state(reset_partial_state=True)  # two runs in one process may differ
    accelerator = Accelerator(cpu=kind.type == "cpu", mixed_precision="bf16" if half else "no")
    torch.set_num_threads(threads)
    return Device(
        kind=kind,
        precision=precision,
        threads=threads,
        layout=layout,
        ranks=ranks,
        compiled=compiled,
        kernels=not compiled and _has_kernels(kind, precision),
        note=note,
        accelerator=accelerator,
    )


def _has_kernels(kind: torch.device, precision: Precision) -> bool:
    return kind.type == "cpu" and precision == "bf16" and native.library() is not None


def gains_from_bf16(kind: torch.device) -> bool:
    """Tell whether bf16 is computed in hardware: AMX or AVX512-BF16 on a CPU, Ampere or later on a GPU."""
    if kind.type == "cuda":
        return torch.cuda.get_device_capability(kind)[0] >= 8
    if kind.type == "cpu":
        features = torch.cpu.get_capabilities()
        return bool(features.get("amx_bf16") or features.get("avx512_bf16"))
    return False


def _kind(device: str) -> torch.device:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[device]:
        there = ", ".join(name for name, found in available.items() if found)
        found = f"'{device}', which this machine does not have"
        raise RecipeError("device", found=found, expected=f"one of auto, {there}")
    if device == "cuda" and world_size() > 1:
        return torch.device(device, torch.cuda.current_device())  # of several each rank chose its own when it joined
    return torch.device(device)


def cores() -> int:
    """Return how many cores this process may use (containers and taskset included)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _keep_memory() -> None:
    """Tell glibc's malloc to keep large blocks for the next step instead of handing them back to the kernel.

    Otherwise every activation is mapped, zeroed page by page and unmapped again, in every step: tens of thousands of
    page faults, a tenth to a quarter of a step of resnet_20. Peak memory stays what it was.
    """
    libc = ctypes.CDLL(None)
    if sys.platform == "linux" and hasattr(libc, "mallopt"):  # glibc; another library has no such switch
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 2**30)
        libc.mallopt(m_trim_threshold, -1)  # never


def _decide_compile(
    wish: bool | Literal["auto"], kind: torch.device, training_macs: Callable[[], float]
) -> tuple[bool, str]:
    """Compile when asked to, or when the run is long enough to earn it; never where it would fail."""
    pays = LONG_RUN_MACS.get(kind.type, math.inf)
    if wish is False or (wish == "auto" and training_macs() < pays):
        return False, ""
    fault = compile_fault(kind)
    return not fault, fault and f"The model runs uncompiled: {fault}."


def compile_fault(kind: torch.device) -> str:
    """Return why nothing can be compiled for this device on this machine, or an empty string: by trying it."""
    if kind.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++" if sys.platform == "linux" else "c++")):
        return "no C++ compiler was found"
    try:
        torch.compile(torch.sin)(torch.ones(8, device=kind))
    except Exception as error:  # a compiler, its headers or Triton: each fails in its own way
        return f"the compiler failed ({' '.join(str(error).split())[:200]})"
    return ""
