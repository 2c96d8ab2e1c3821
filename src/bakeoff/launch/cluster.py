"""Nodes of a Ray cluster: Ray knows which there are, what each has, and when one is gone."""

import logging
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bakeoff.errors import RecipeError
from bakeoff.launch import attempts, local

_log = logging.getLogger(__name__)
ANSWER_S = 10.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LOOPBACK = "127.0.0.1"
# Else Ray takes this address for another name of the machine's own, and listens on all. Read when ray is imported.
_STAY_ON_LOOPBACK = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


@dataclass(slots=True)
class RayNodes:
    """Nodes on which one attempt takes so much of what Ray counts.

    Args:
        cpus: cores of an attempt.
        gpus: GPUs of an attempt, a fraction where several share one.
    """

    cpus: float
    gpus: float = 0.0

    @property
    def room(self) -> int:
        """How many attempts fit on the nodes that are alive."""
        import ray

        known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        alive = [node["Resources"] for node in known if node["Alive"]]
        return sum(int(min(_times(node, "CPU", self.cpus), _times(node, "GPU", self.gpus))) for node in alive)

    def require_room(self) -> None:
        """Refuse to wait for ever.

        Raises:
            RecipeError: no node has what a run takes.
        """
        if not self.room:
            takes = f"{self.cpus:g} cores" + (f" and {self.gpus:g} GPU" if self.gpus else "")
            found = f"no node that has {takes}"
            raise RecipeError("Ray cluster", found=found, expected="at least one", hint="threads= sets a run's cores.")

    def submit(self, order: Mapping[str, Any]) -> Any:  # noqa: ANN401 - Ray's reference
        """Have an attempt made; Ray never repeats it: what becomes of a lost one is the driver's to decide."""
        import ray

        task = ray.remote(max_retries=0)(attempts.work)
        return task.options(num_cpus=self.cpus, num_gpus=self.gpus, name=order["attempt"]).remote(dict(order))

    def ended(self, tasks: Sequence[Any], *, timeout_s: float) -> list[tuple[Any, str]]:
        """Return the tasks that have ended, well or not, and what is said of it."""
        import ray

        if not tasks:
            time.sleep(timeout_s)
            return []
        over, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=timeout_s, fetch_local=False)
        return [(task, _said_of(task)) for task in over]

    def kill(self, task: Any) -> None:  # noqa: ANN401
        """End a task at once, or take it out of the queue."""
        import ray

        ray.cancel(task, force=True)


def connect(address: str | None) -> None:
    """Join a cluster, or without an address start one of this machine alone, which listens on loopback only.

    It is left, or ends, with this process.

    Raises:
        RecipeError: ray is not installed; nobody answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None or address.startswith(LOOPBACK):
        os.environ.setdefault(*_STAY_ON_LOOPBACK)
    try:
        import ray
    except ImportError:
        found, expected = "no module named ray", "the extra: pip install 'bakeoff[cluster]'"
        raise RecipeError("--executor ray", found=found, expected=expected) from None
    if ray.is_initialized():
        return
    # What Ray has to say of its nodes, it prints to stdout, where our results go; what matters of it we say ourselves.
    ray._private.worker.print_to_stdstream = lambda data, **_: _log.debug("%s", data)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init("local", num_cpus=local.cores(), include_dashboard=False, _node_ip_address=LOOPBACK, **quiet)
        return
    try:
        _knock(address)
        ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        found = f"'{address}' ({' '.join(str(error).split())[:200]})"
        raise RecipeError("--address", found=found, expected="the address of a Ray cluster that answers") from None


def _knock(address: str) -> None:
    """Find out in seconds that nobody is there: Ray would go on trying for many minutes.

    Raises:
        OSError: nobody answers at HOST:PORT; what has another form is left to Ray.
    """
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()


def _times(node: Mapping[str, float], what: str, each: float) -> float:
    """Return how many attempts a node's cores or GPUs are enough for."""
    return node.get(what, 0.0) / each + 1e-9 if each else float("inf")


def _said_of(task: Any) -> str:  # noqa: ANN401
    """Return what Ray says of a task that has ended; nothing of one that ended well."""
    import ray

    try:
        ray.get(task)
    except ray.exceptions.RayError as error:
        said = repr(cause) if (cause := getattr(error, "cause", None)) else str(error)
        return " ".join(_COLOUR.sub("", said).split())[: local.LAST_WORDS]
    return ""


def has_gpus() -> bool:
    """Tell whether any node has a GPU."""
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return bool(resources.get("GPU"))
