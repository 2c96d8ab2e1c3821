"""Ranks: the processes of one run. Each trains on its share of every batch; the first alone decides, reads and writes.

Whoever started them, torchrun, accelerate or srun, has told each its number in the environment. The first does what a
person typed; the others do the same work beside it (`together`), and learn from it what it found (`Ranks.first`).
Every error of ours is met by all of them at once, so that none waits for one that has ended.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from typing import Any, NoReturn, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from bakeoff.errors import BakeoffError, RecipeError

P = ParamSpec("P")
T = TypeVar("T")

_SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_STEP_NUM_TASKS", "LOCAL_RANK": "SLURM_LOCALID"}
DEVICES = "BAKEOFF_DEVICES"  # of a command that was started again as so many ranks: for its record
LOSS = 75  # the exit code of a rank that ends because another is gone; EX_TEMPFAIL of sysexits.h
_FIRST_PORT, _PORTS = 20_000, 10_000  # a job's own, by its number: several jobs may share a node


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of the processes of a run this is.

    Args:
        index: counted from 0; torchrun's RANK.
        size: how many there are; torchrun's WORLD_SIZE.
    """

    index: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that decides and writes."""
        return self.index == 0

    def share(self, num: int) -> slice:
        """Return which of `num` images of a batch are this rank's; `num` is a multiple of their number."""
        each = num // self.size
        return slice(self.index * each, (self.index + 1) * each)

    def shares(self, num: int, *, parts: int) -> list[slice]:
        """Return which images of a batch that is cut into parts are this rank's: of each part its share."""
        each, own = num // parts, self.share(num // parts)
        return [slice(first + own.start, first + own.stop) for first in range(0, num, each)]

    @property
    def turns(self) -> slice:
        """Which of many things in a row are this rank's, where ranks take turns."""
        return slice(self.index, None, self.size)

    def first(self, work: Callable[[], T]) -> T:
        """Have the first rank do something, and return to all what it found, or raise what it met.

        Raises:
            BakeoffError: whatever `work` raised.
        """
        if self.size == 1:
            return work()
        told: list[Any] = [None]
        if self.is_first:
            try:
                told = [work()]
            except BakeoffError as error:
                told = [_Met(error)]
        dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
        if isinstance(told[0], _Met):
            raise told[0].error
        return told[0]  # type: ignore[no-any-return]

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors of one device by their means over all ranks, in place and in one message."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, piece in zip(tensors, pieces, strict=True):
            tensor.copy_(piece.view(tensor.shape))

    def any(self, flag: bool) -> bool:
        """Tell whether a flag is set on any rank."""
        if self.size == 1:
            return flag
        told = torch.tensor(flag, dtype=torch.int32)
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return bool(told)

    def gather(self, value: T) -> list[T]:
        """Return what each rank has, in their order, to all of them."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the first rank begins: a function that is `together`."""

    module: str
    name: str
    arguments: tuple[Any, ...]
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Met:
    """An error on its way to the other ranks."""

    error: BakeoffError


def world_size() -> int:
    """Return how many processes the environment names, 1 if it names none; nothing is joined."""
    _read_slurm()
    try:
        return int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError:
        found = f"'{os.environ['WORLD_SIZE']}'"
        raise RecipeError("WORLD_SIZE", found=found, expected="how many processes there are") from None


def is_follower() -> bool:
    """Tell whether another process leads this one."""
    return world_size() > 1 and os.environ.get("RANK") != "0"


def join() -> Ranks:
    """Join the other processes of this run, where the environment names some.

    Raises:
        RecipeError: a part of what they need to find each other is not there.
    """
    if dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    if world_size() == 1:
        return Ranks()
    needed = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if absent := [name for name in needed if name not in os.environ]:
        found, hint = f"WORLD_SIZE={world_size()} without {', '.join(absent)}", "torchrun sets all of them."
        raise RecipeError("environment", found=found, expected=f"{', '.join(needed)} beside it", hint=hint)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    # Objects and flags go by the host, whatever the tensors go by: they never wait for a GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return Ranks(dist.get_rank(), dist.get_world_size())


def is_loss(error: Exception) -> bool:
    """Tell whether an error means that another rank is gone; whoever watches over them says which, and why."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def local_size() -> int:
    """Return how many processes of the run share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE") or world_size())


def together(work: Callable[P, T]) -> Callable[P, T]:
    """Have all ranks do what the first is asked to. What it is given must be something that can be sent.

    `tell`, which shows progress to a person, stays with the first.
    """

    @wraps(work)
    def led(*arguments: P.args, **settings: P.kwargs) -> T:
        ranks = join()
        if ranks.size > 1 and ranks.is_first:
            sent = {key: value for key, value in settings.items() if key != "tell"}
            ranks.first(lambda: _Asked(work.__module__, work.__name__, arguments, sent))
        return work(*arguments, **settings)

    return led


def follow() -> None:
    """Do beside the first rank what it does, until it has no more to do.

    Raises:
        BakeoffError: met here alone, such as pictures that this machine has not: the first goes on with its work.
    """
    ranks, met = join(), None
    while True:
        asked: object = ranks.first(lambda: None)
        if asked is None:
            return
        if not isinstance(asked, _Asked):
            raise met or AssertionError(asked)
        try:
            getattr(import_module(asked.module), asked.name)(*asked.arguments, **asked.settings)
        except BakeoffError as error:
            met = error  # if the first has met it too, it says so, and asks for something else


def part() -> None:
    """Let the other ranks go, and leave them; nothing where there are none."""
    if dist.is_initialized():
        ranks = join()
        if ranks.is_first:
            ranks.first(lambda: None)
        dist.destroy_process_group()


def leave(code: int) -> NoReturn:
    """End this process at once: torch now and then aborts one that takes its time, with all its work done."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _read_slurm() -> None:
    """Name the processes as torchrun does, where srun started them: each task of a step is one."""
    if "RANK" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) == 1:
        return
    os.environ.update({ours: os.environ[theirs] for ours, theirs in _SLURM.items()})
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ["SLURM_JOB_NODELIST"]
    os.environ.setdefault("MASTER_ADDR", first_node(nodes))
    os.environ.setdefault("MASTER_PORT", str(_FIRST_PORT + int(os.environ.get("SLURM_JOB_ID", "0")) % _PORTS))


def first_node(nodes: str) -> str:
    """Return the first name of Slurm's short list of nodes: `gpu[07-09,12],cpu1` begins with gpu07."""
    found = re.match(r"(?P<stem>[^,\[]+)(\[(?P<number>\d+)[^\]]*\](?P<end>[^,\[]*))?", nodes)
    return "".join(found[name] or "" for name in ("stem", "number", "end")) if found else nodes
