"""Jobs of Slurm, by submitit: each attempt is one, queued, run and accounted for like any other."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bakeoff.errors import BakeoffError, RecipeError
from bakeoff.launch import attempts

IN_QUEUE = 64  # attempts handed over at once where nobody says how many: what waits in Slurm's queue costs nothing
ACCOUNTS_EVERY_S = 15.0  # Slurm's accounts are asked for jobs that died without a word
_OURS = frozenset({"nodes", "ntasks_per_node", "ntasks", "array", "map_count", "additional_parameters"})
_A_DAY = 24 * 60  # minutes


@dataclass(slots=True)
class SlurmNodes:
    """Whatever nodes Slurm gives.

    Args:
        folder: of submitit's files and the jobs' output, which every node sees.
        cpus: cores of an attempt.
        parameters: of sbatch, such as partition, account, gpus_per_node, mem, and time in minutes (else a day).
    """

    folder: Path
    cpus: int
    parameters: Mapping[str, str]
    _executor: Any = field(init=False)
    _asked_at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        try:
            from submitit import SlurmExecutor
        except ImportError:
            found, expected = "no module named submitit", "the extra: pip install 'bakeoff[cluster]'"
            raise RecipeError("--executor slurm", found=found, expected=expected) from None
        try:
            self._executor = SlurmExecutor(folder=self.folder)
        except RuntimeError:
            found, expected = "no program srun", "a machine from which Slurm is reached"
            raise RecipeError("--executor slurm", found=found, expected=expected) from None
        for name in _OURS.intersection(self.parameters):
            found, expected = f"--slurm {name}", "nothing that starts an attempt more than once"
            raise RecipeError("command line", found=found, expected=expected)
        typed: dict[str, Any] = {k: int(v) if v.isdigit() else v for k, v in self.parameters.items()}
        named: dict[str, Any] = {"job_name": "bakeoff", "cpus_per_task": self.cpus, "time": _A_DAY} | typed
        known = SlurmExecutor._valid_parameters()
        # A lost attempt is the driver's to repeat: Slurm would do it again under the same name.
        others = {"no-requeue": True} | {name: value for name, value in named.items() if name not in known}
        named = {name: value for name, value in named.items() if name in known}
        self._executor.update_parameters(additional_parameters=others, **named)

    @property
    def room(self) -> int:
        """How many attempts are handed over at once."""
        return IN_QUEUE

    def submit(self, order: Mapping[str, Any]) -> Any:  # noqa: ANN401 - submitit's job
        """Queue an attempt.

        Raises:
            BakeoffError: sbatch refuses it.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            return self._executor.submit(attempts.work, dict(order))
        except (FailedJobError, FailedSubmissionError) as error:
            found = " ".join(str(error).split())[-300:]
            raise BakeoffError("sbatch", found=found, expected="a job that Slurm accepts") from None

    def ended(self, tasks: Sequence[Any], *, timeout_s: float) -> list[tuple[Any, str]]:
        """Return the jobs that have left their result, or of which Slurm's accounts say that they are over."""
        time.sleep(timeout_s)
        if tasks and time.monotonic() - self._asked_at > ACCOUNTS_EVERY_S:
            tasks[0].watcher.update()
            self._asked_at = time.monotonic()
        over = [task for task in tasks if task.paths.result_pickle.exists() or _is_over(task)]
        return [(task, _said_of(task)) for task in over]

    def kill(self, task: Any) -> None:  # noqa: ANN401
        """Cancel a job, at work or in the queue."""
        task.cancel(check=False)
        self._asked_at = 0.0


def _said_of(task: Any) -> str:  # noqa: ANN401
    """Return what Slurm says of a job that is over, and the last line of what it said itself."""
    said = str(task.stderr() or "").strip().splitlines()
    return f"Slurm says {task.watcher.get_state(task.job_id, mode='cache')}. {said[-1] if said else ''}".strip()


def _is_over(task: Any) -> bool:  # noqa: ANN401
    return bool(task.watcher.is_done(task.job_id, mode="cache"))
