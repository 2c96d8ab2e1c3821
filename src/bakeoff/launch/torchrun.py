"""A command started again as several ranks on this machine, by torch's own agent, which ends all when one dies."""

import logging
import os
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from bakeoff.errors import BakeoffError
from bakeoff.training.ranks import DEVICES, LOSS

LAST_WORDS = 600  # characters of what a rank said that stand in a message


def launch(num: int, arguments: Sequence[str]) -> int:
    """Run `bakeoff` with these arguments as `num` ranks, and return the exit code of the first that failed, or 0.

    The first rank speaks to the terminal; what the others say is kept, and shown if one of them fails.

    Raises:
        BakeoffError: a rank died without a word of the first.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ[DEVICES] = str(num)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # one message is enough, and it is ours
    with tempfile.TemporaryDirectory(prefix="bakeoff-ranks-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=num,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder, redirects=dict.fromkeys(range(1, num), Std.ALL)),
        )
        try:
            elastic_launch(config, sys.executable)("-P", "-m", "bakeoff", *arguments)
        except ChildFailedError as error:
            # Those that noticed may be listed before the one that died: times are in whole seconds.
            found = sorted(error.failures.items(), key=lambda item: (item[1].exitcode == LOSS, item[1].timestamp))
            rank, code = found[0][0], found[0][1].exitcode
            if rank == 0 and 0 < code != LOSS:
                return int(code)
            raise _died(rank, code, Path(folder)) from None
        except SignalException as stopped:
            return 128 + int(stopped.sigval)
    return 0


def _died(rank: int, code: int, folder: Path) -> BakeoffError:
    """Say which rank died, of what, and what it said last."""
    logs = sorted(folder.rglob(f"{rank}/stderr.log"))
    last = logs[-1].read_text(errors="replace").strip()[-LAST_WORDS:] if logs else ""
    found = f"killed by signal {-code}" if code < 0 else f"ended with {code}"
    hint = f"The others were stopped. {last}" if last else "The others were stopped."
    return BakeoffError(f"rank {rank}", found=found, expected="all ranks to reach the end", hint=hint)
