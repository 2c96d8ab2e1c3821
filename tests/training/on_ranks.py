"""What several ranks do in tests: each task is a function of this file, run by all of them at once.

    torchrun --standalone --nproc-per-node 2 -m tests.training.on_ranks TASK OUT [ARGUMENT]...

The first rank writes what the task returns to OUT.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bakeoff.data.images import ImageSet
from bakeoff.errors import DataError, Interrupted
from bakeoff.models import stages
from bakeoff.recipe import resolve
from bakeoff.training import assembly, autotune, loop
from bakeoff.training.autotune import Timing
from bakeoff.training.device import LONG_RUN_MACS, Way
from bakeoff.training.evaluate import evaluate
from bakeoff.training.loop import Position
from bakeoff.training.ranks import join, leave
from bakeoff.training.sync_norms import SyncedBatchNorm2d
from tests.training import runs, tiny

NUM_IMAGES = 10_007  # a prime: no number of ranks divides it


def launch(num: int, task: str, out: Path, *arguments: str, seconds: float = 240) -> Any:
    """Run a task on so many ranks, or here in a process alone, and return what the first one wrote."""
    alone = [sys.executable]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num)]
    command = [*(torchrun if num > 1 else alone), "-m", "tests.training.on_ranks", task, str(out), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


def losses(model: str, num_steps: str, *settings: str) -> list[float]:
    """Return the losses of the first steps of a run."""
    recipe = resolve(model, overrides=settings, plugins=True)
    parts = assembly.assemble(recipe, assembly.load(recipe), plugin=model, root=Path())
    tapped = parts.teacher is not None and parts.teacher.tapped
    seen = stages.Tapped(parts.model, stages.names(parts.model)) if tapped else parts.model
    parts = replace(parts, model=parts.device.compile(seen))  # as `run.new_trainer` does
    torch.manual_seed(0)
    position, found = Position.at_start(parts), []
    while len(found) < int(num_steps):
        for _ in loop.epoch(parts, position):
            found.append(float(position.losses[position.step_in_epoch - 1]))
            if len(found) == int(num_steps):
                break
        position.epoch += 1
    weights = torch.cat([weight.detach().reshape(-1) for weight in parts.trained])
    assert all(torch.equal(weights, of_rank) for of_rank in join().gather(weights))  # or the ranks drift apart
    return found


def evaluation() -> dict[str, Any]:
    """Return how a network of random weights does on many random images, with a digest of all logits."""
    source = np.random.default_rng(0)
    images = ImageSet(
        images=source.integers(0, 256, (NUM_IMAGES, 8, 8, 1), dtype=np.uint8).transpose(0, 3, 1, 2),
        labels=source.integers(0, 10, NUM_IMAGES),
        classes=tuple("abcdefghij"),
        mean=(0.5,),
        std=(0.2,),
        fingerprint="",
    )
    torch.manual_seed(0)
    network = tiny.network(num_classes=10, in_channels=1)
    device = assembly.place(resolve(tiny.NAME, overrides=["device=cpu", "threads=1"], plugins=True))
    outcome = evaluate(network, images, device=device)
    ranks = device.ranks.gather(outcome.logits.tobytes())
    return {
        "index": bool((outcome.index == np.arange(NUM_IMAGES)).all()),
        "correct": int((outcome.logits.argmax(1) == outcome.label).sum()),
        "sum": float(outcome.logits.astype(np.float64).sum()),
        "same": len(set(ranks)) == 1,
    }


def norms() -> dict[str, float]:
    """Return how far synchronised batch norm is from torch's on the whole batch: values, gradients, statistics."""
    ranks = join()
    torch.manual_seed(0)
    x, upstream = torch.randn(24, 5, 4, 3) * 3 + 100, torch.randn(24, 5, 4, 3)
    plain, synced = nn.BatchNorm2d(5), SyncedBatchNorm2d(5)
    for norm in (plain, synced):
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(1))
        nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(2))
    share = ranks.share(len(x))
    whole, own = x.clone().requires_grad_(), x[share].clone().requires_grad_()
    expected, found = plain(whole), synced(own)
    (expected * upstream).sum().backward()
    (found * upstream[share]).sum().backward()
    assert whole.grad is not None
    assert own.grad is not None
    gradients = [torch.stack(ranks.gather(parameter.grad)).sum(0) for parameter in synced.parameters()]
    pairs = {
        "values": (found, expected[share]),
        "inputs": (own.grad, whole.grad[share]),
        "weight": (gradients[0], plain.weight.grad),
        "bias": (gradients[1], plain.bias.grad),
        "mean": (synced.running_mean, plain.running_mean),
        "var": (synced.running_var, plain.running_var),
    }
    return {name: float((one - other).abs().max()) for name, (one, other) in pairs.items()}


def messages() -> dict[str, Any]:
    """Return what comes of what ranks tell each other."""
    ranks = join()
    told = ranks.first(lambda: {"by": join().index, "array": torch.arange(3)})
    met = []
    for error in (DataError("file", found="a", expected="b", hint="c"), Interrupted(15, where="here", hint="go on")):
        try:
            ranks.first(lambda error=error: _throw(error))
        except (DataError, Interrupted) as raised:
            met.append((type(raised).__name__, str(raised), raised.exit_code))
    return {
        "told": (told["by"], told["array"].tolist()),
        "met": [found[0] == found[-1] for found in zip(*ranks.gather(met), strict=True)],
        "any": [ranks.any(False), ranks.any(ranks.index == ranks.size - 1)],
        "gather": ranks.gather(ranks.index),
        "shares": ranks.gather(str(ranks.share(12))),
    }


def tuned() -> dict[str, Any]:
    """Return which way all ranks go, of two that there are, and how many each had tried after one run and after two."""
    ranks, asked = join(), 0

    def trial(_: autotune.Trial, way: Way, __: float) -> Timing:
        nonlocal asked
        asked += 1
        return Timing(step_s=1.0 + ranks.index - 0.5 * (way.layout == "contiguous"))

    autotune.Trial.__call__ = trial  # type: ignore[method-assign]
    autotune.LEAST_STEPS, LONG_RUN_MACS["cpu"] = 1, 0.0  # type: ignore[misc]
    recipe, devices, counts = runs.recipe(), [], []
    share = assembly.load(recipe)
    for _ in range(2):
        parts = assembly.assemble(recipe, share, plugin=tiny.NAME, root=Path(), tune=True)
        devices += ranks.gather((str(parts.device.way), parts.device.ranks.size, parts.device.tried))
        counts.append(ranks.gather(asked))
    assert all(device == devices[0] for device in devices)
    way, size, tried = devices[0]
    return {"way": way, "ranks": size, "ms_per_step": [found["ms_per_step"] for found in tried], "asked": counts}


def _throw(error: Exception) -> None:
    raise error


TASKS = {f.__name__: f for f in (losses, evaluation, norms, messages, tuned)}


def main() -> None:
    """Run the task that the command line names."""
    _, task, out, *arguments = sys.argv
    ranks = join()
    found = TASKS[task](*arguments)  # type: ignore[operator]
    if ranks.is_first:
        Path(out).write_text(json.dumps(found))
    ranks.any(False)  # all have ended
    leave(0)


if __name__ == "__main__":
    main()
