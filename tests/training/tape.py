"""What stands in for a CUDA graph on a CPU: operations are recorded without effect, and played on the same memory.

As on a GPU a recording knows nothing of Python: a number that the host computed is played as it was when recorded, and
what no operation of torch did is not played at all.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bakeoff.training.graph import Work


def tensors(values: object) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def storages(values: object) -> set[int]:
    return {value.untyped_storage().data_ptr() for value in tensors(values)}


class _Recording(TorchDispatchMode):
    """Collects operations with their arguments and results, and what outside tensors held before."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Callable[..., Any], Any, Any, Any]] = []
        self.before: list[tuple[Tensor, Tensor]] = []
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for value in tensors((args, kwargs)):
            if value.untyped_storage().data_ptr() not in self.known:
                self.known |= storages(value)
                self.before.append((value.detach(), value.detach().clone()))
        result = func(*args, **kwargs)
        self.known |= storages(result)
        self.operations.append((func, args, kwargs, result))
        return result

    @torch.no_grad()
    def undo(self) -> None:
        for value, old in self.before:
            value.copy_(old)

    @torch.no_grad()
    def play(self) -> None:
        for func, args, kwargs, result in self.operations:
            given = storages((args, kwargs))
            again = func(*args, **kwargs)
            for was, now in zip(tensors(result), tensors(again), strict=True):
                if not storages(was) & given:  # neither in place nor a view
                    was.detach().copy_(now)


@dataclass
class Tape:
    """A recorder of `graph.Replay`. `seen` are the addresses and shapes of what was played on, a row a step."""

    asides: int = 0
    recorded: int = 0
    seen: list[list[tuple[int, torch.Size]]] = field(default_factory=list)

    def aside(self, work: Work) -> Tensor:
        self.asides += 1
        return work()

    def record(self, work: Work) -> Work:
        self.recorded += 1
        recording, random = _Recording(), torch.get_rng_state()
        with recording:
            found = work()
        recording.undo()
        torch.set_rng_state(random)

        def play() -> Tensor:
            recording.play()
            self.seen.append([(value.data_ptr(), value.shape) for value, _ in recording.before])
            return found

        return play


class Aside(Tape):
    """Records nothing: every step is taken as the first ones are."""

    def record(self, work: Work) -> Work:
        return lambda: self.aside(work)
