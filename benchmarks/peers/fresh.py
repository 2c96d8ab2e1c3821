"""One contestant in a new process: until its first optimizer step, for some steps, or for a whole run.

    python -m benchmarks.peers.fresh PEER --class shipped --model resnet_20 --steps 20 --folder DIR [--evaluate]

The command reads `1` from the file descriptor `--tell` when the first optimizer step is done.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


def count(steps: int, *, tell: int | None, leave: bool) -> None:
    """Tell of the first optimizer step, whoever takes it; leave after so many."""
    done = 0

    def after_step(*_: Any) -> None:  # noqa: ANN401 - the optimizer and its arguments
        nonlocal done
        done += 1
        if done == 1 and tell is not None:
            os.write(tell, b"1")
        if done == steps and leave:
            os._exit(0)

    register_optimizer_step_post_hook(after_step)


def ours(model: str, *, folder: Path, batch_size: int) -> None:
    """Run the command as a person would."""
    from bakeoff import cli

    settings = [f"batch_size={batch_size}", "compile=false", "protocol=paper", "--root", str(folder)]
    sys.exit(cli.run(["train", model, *settings, "--name", f"fresh-{os.getpid()}"]))


def theirs(chosen: argparse.Namespace) -> None:
    """Train, and evaluate where that was asked for, as a script of the library would."""
    from bakeoff.models import native
    from benchmarks.peers.task import MODULES, WAYS, Task, network, stored

    os.environ[native.SWITCH] = "off"
    library = importlib.import_module(f"benchmarks.peers.{MODULES[chosen.peer]}")
    images = stored(chosen.folder, "train")
    task = Task(
        model=chosen.model,
        net=network(chosen.model),
        images=images,
        way=WAYS[chosen.way],
        batch_size=chosen.batch,
        steps=chosen.steps,
        folder=chosen.scratch,
        threads=torch.get_num_threads(),
    )
    library.train(task)
    if chosen.evaluate:
        task.images, task.steps = stored(chosen.folder, "test"), 0
        library.evaluate(task)


def main(arguments: Sequence[str]) -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer")
    parser.add_argument("--class", dest="way", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--folder", type=Path, required=True, help="where the pictures are")
    parser.add_argument("--scratch", type=Path, required=True, help="where it may write")
    parser.add_argument("--tell", type=int)
    parser.add_argument("--evaluate", action="store_true", help="evaluate too, and end as a script does")
    chosen = parser.parse_args(arguments)
    count(chosen.steps, tell=chosen.tell, leave=not chosen.evaluate)
    if chosen.peer == "bakeoff":
        ours(chosen.model, folder=chosen.scratch, batch_size=chosen.batch)
    else:
        theirs(chosen)


if __name__ == "__main__":
    main(sys.argv[1:])
