"""Kill runs with SIGKILL at random points, resume them, and compare every byte with an undisturbed run.

    python -m tests.training.kills --points 200 --seed 1     the long proof
    python -m tests.training.kills --points 160 --distillation
    python -m tests.training.kills --controls 21             resumes with a part left out: all must differ
    python -m tests.training.kills --every-operation         each file operation of a save interrupted once

A third of the runs are killed again when resumed.

The parent imports torch once and forks: a child is a real process that a real signal kills. Each point
comes from a printed seed. The last line is JSON; the exit code is 0 only if all came out as they must.
"""

import argparse
import importlib
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from bakeoff.data.batches import Batches
from bakeoff.recipe import Recipe, resolve
from bakeoff.results import store
from bakeoff.results.metric_log import MetricLog
from bakeoff.results.store import Run
from bakeoff.training import assembly, checkpoint, loop, provenance, trainer, weights
from bakeoff.training import run as training
from tests.training import tiny

BASE = (
    "data=digits",
    "data.limit=288",
    "epochs=3",
    "batch_size=32",
    "checkpoint_steps=3",
    "threads=1",
    "device=cpu",
    "augment.crop_padding=1",
)
# One feature or more each; together all that the state has to carry.
CASES: dict[str, tuple[str, ...]] = {
    "sgd": ("optimizer=sgd", "schedule=onecycle", "precision=float32"),
    "adamw, ema, cosine": ("optimizer=adamw", "ema_decay=0.9", "schedule=cosine", "schedule.warmup=0.1"),
    "adam, mixup, cutmix": ("optimizer=adam", "mixup=0.4", "cutmix=1.0", "precision=float32"),
    "muon, sgd for the rest": ("optimizer=muon", "optimizer.rest=sgd", "schedule=polynomial"),
    "muon, adamw for the rest": ("optimizer=muon", "precision=float32", "ema_decay=0.95"),
    "adagrad, accumulation, clipping": ("optimizer=adagrad", "accumulate=2", "clip_norm=0.5", "schedule=constant"),
    "rmsprop, bf16, multistep": ("optimizer=rmsprop", "precision=bf16", "schedule=multistep"),
    "policy, erase, alternate flip": ("augment.policy=trivial", "augment.erase=0.3", "augment.flip=alternate"),
    "paper protocol, smoothing": ("protocol=paper", "label_smoothing=0.1", "augment.cutout=3"),
    "classes of unequal size": ("data.balance=true", "objective.class_weights=balanced", "objective.focal_gamma=2"),
    "saves at epoch ends": ("checkpoint_steps=null", "ema_decay=0.9", "mixup=0.2", "eval_every=2"),
}
TAUGHT = "teacher=random:resnet_20"  # what a teacher knows is nothing to a resume
DISTILLATIONS: dict[str, tuple[str, ...]] = {
    "kd": ("objective=kd", "ema_decay=0.9"),
    "kd, standardised, mixup": ("objective=kd", "objective.standardise=true", "mixup=0.4", "cutmix=1.0"),
    "dkd": ("objective=dkd", "objective.warmup=0.5", "precision=bf16"),
    "dist": ("objective=dist", "optimizer=adamw"),
    "logits, accumulation": ("objective=logits", "objective.teacher_weight=0.1", "accumulate=2"),
    "fitnets": ("objective=fitnets", "objective.teacher_weight=1", "clip_norm=0.5"),
    "fitnets, muon": ("objective=fitnets", "objective.teacher_weight=1", "objective.stage=3", "optimizer=muon"),
    "attention transfer": ("objective=attention_transfer", "optimizer=adam"),
}
CASES |= {case: DISTILLATIONS[case] for case in ("dkd", "fitnets")}
PHASES = (
    "data", "forward", "optimizer", "weights written", "row written", "during save", "during write", "after save",
    "before summary",
)  # fmt: skip
TIMES = ("seconds", "images_per_s", "training_seconds", "run")


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """Where a process dies: in `phase` of optimizer step `step`, or in the first save at that step or later.

    Args:
        operation: before which operation on files of that save (`during save`), or before which piece of the
            state's bytes (`during write`); counted from 0, and beyond the last one is just after the save.
    """

    step: int
    phase: str
    operation: int = 0


def recipe_of(case: str) -> Recipe:
    if case in DISTILLATIONS:
        return resolve(tiny.STAGED, overrides=[*BASE, "lr=0.01", TAUGHT, *DISTILLATIONS[case]], plugins=True)
    return resolve(tiny.NAME, overrides=[*BASE, *CASES[case]], plugins=True)


def in_child(work: Callable[[], object], *, log: Path) -> int:
    """Run `work` in a forked process and return its exit status, negative for a signal."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:  # whatever it was, the parent must hear of it by the exit code
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            code = int(getattr(error, "exit_code", 1))
        os._exit(code)
    status = os.waitpid(child, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def arm(point: Point) -> None:
    """Patch this process so that it dies at the point."""
    position = {"step": 0}
    real_epoch, real_gradients, real_save = Batches.epoch, loop._gradients, checkpoint.save

    def epoch(self: Batches, number: int, *, first_step: int = 0) -> Iterator[Any]:
        for i, batch in enumerate(real_epoch(self, number, first_step=first_step), start=first_step):
            position["step"] = number * self.steps_per_epoch + i
            if point.phase == "data" and position["step"] == point.step:
                die()
            yield batch

    def gradients(*arguments: Any, **named: Any) -> Any:
        total = real_gradients(*arguments, **named)
        if point.phase == "forward" and position["step"] == point.step:
            die()
        return total

    def save(*arguments: Any, step: int, **others: Any) -> None:
        due = step >= point.step and point.phase in (*WATCHED, "after save")
        if due and point.phase in WATCHED:
            numbers = itertools.count()
            WATCHED[point.phase](lambda: die() if next(numbers) == point.operation else None)
        real_save(*arguments, step=step, **others)
        if due:
            die()

    Batches.epoch = epoch  # type: ignore[method-assign]
    loop._gradients = gradients
    checkpoint.save = trainer.checkpoint.save = save
    arm_files(point, position)
    if point.phase == "optimizer":
        register_optimizer_step_post_hook(lambda *_: die() if position["step"] == point.step else None)


def arm_files(point: Point, position: dict[str, int]) -> None:
    """Patch this process so that it dies at a point between the files that a run writes beside its checkpoints."""
    real_write_json = Run.write_json

    def after(real: Callable[..., None], phase: str) -> Callable[..., None]:
        def wrapped(*arguments: Any, **others: Any) -> None:
            real(*arguments, **others)
            if point.phase == phase and position["step"] >= point.step:
                die()

        return wrapped

    def write_json(self: Run, path: Path, content: Any) -> None:
        if point.phase == "before summary" and path == self.summary_path:
            die()
        real_write_json(self, path, content)

    weights.write = after(weights.write, "weights written")
    MetricLog.append = after(MetricLog.append, "row written")  # type: ignore[method-assign]
    Run.write_json = write_json  # type: ignore[method-assign]


def on_each_operation(call: Callable[[], object]) -> None:
    """Call back before every operation on files, but for plain writes, that this process makes from now on."""
    events = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}
    sys.addaudithook(lambda event, _: call() if event in events else None)  # type: ignore[func-returns-value]
    real = os.fsync

    def fsync(descriptor: int) -> None:
        call()
        real(descriptor)

    os.fsync = fsync  # type: ignore[assignment]


def on_each_write(call: Callable[[], object]) -> None:
    """Call back before every piece of a state that this process writes from now on; what was written is on the disk."""
    real = checkpoint._HashingFile.write

    def write(self: Any, data: bytes) -> int:
        self.flush()
        call()
        return real(self, data)

    checkpoint._HashingFile.write = write  # type: ignore[method-assign]


WATCHED: dict[str, Callable[[Callable[[], object]], None]] = {
    "during save": on_each_operation,
    "during write": on_each_write,
}


def count_in_last_save(recipe: Recipe, run: Run, phase: str, answer: Path) -> None:
    """Train a run and write how many times its last save, which also discards an old one, could be killed."""
    counts: list[int] = []
    real_save = checkpoint.save
    WATCHED[phase](lambda: counts.append(counts.pop() + 1) if counts else None)

    def save(*arguments: Any, **others: Any) -> None:
        counts.append(0)
        real_save(*arguments, **others)
        answer.write_text(str(counts.pop()))

    checkpoint.save = trainer.checkpoint.save = save
    training.start(recipe, run.folder)


def outcome_of(run: Run) -> dict[str, Any]:
    """Return all that must be equal, without the clock."""
    summary = {key: value for key, value in run.read_json(run.summary_path).items() if key not in TIMES}
    rows = [{key: value for key, value in row.items() if key not in TIMES} for row in run.metrics.rows()]
    newest = checkpoint.newest(run.checkpoints, device=torch.device("cpu"))
    assert newest is not None
    weights = [run.weights("best"), run.weights("last")]
    others = [run.split_path, run.teacher_path, run.predictions("val")]
    state = {key: value for key, value in newest.state.items() if key != "seconds"}
    return {
        "summary": summary,
        "rows": rows,
        "step": newest.step,
        "state": state,
        "weights": [path.read_bytes() for path in weights],
        "files": [path.read_bytes() if path.exists() else None for path in others],
    }


def same(left: Any, right: Any) -> bool:
    """Compare nested values; tensors bit for bit, NaN equal to itself."""
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right or (left != left and right != right))


def differences(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    return [key for key in left if not same(left[key], right[key])]


class Bench:
    """A folder of runs, with one undisturbed run a case to compare with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.references: dict[str, dict[str, Any]] = {}
        self.counts: dict[tuple[str, str], int] = {}
        self.count = 0

    def new_run(self, case: str) -> tuple[Recipe, Run]:
        self.count += 1
        recipe = recipe_of(case)
        return recipe, Run(store.new_folder(recipe, root=self.folder, name=f"run-{self.count}"))

    def reference(self, case: str) -> dict[str, Any]:
        if case not in self.references:
            recipe, run = self.new_run(case)
            code = in_child(lambda: training.start(recipe, run.folder), log=self.log)
            assert code == 0, self.log.read_text()
            self.references[case] = outcome_of(run)
        return self.references[case]

    def operations(self, case: str, phase: str) -> int:
        """Return how many places to die a save of this case has: counted, not assumed."""
        if (case, phase) not in self.counts:
            recipe, run = self.new_run(case)
            answer = self.folder / "count"
            code = in_child(lambda: count_in_last_save(recipe, run, phase, answer), log=self.log)
            assert code == 0, self.log.read_text()
            self.counts[case, phase] = int(answer.read_text())
        return self.counts[case, phase]

    def kill_and_resume(self, case: str, *points: Point, left_out: str = "") -> list[str]:
        """Kill a run at each point in turn, let it end, and return what differs from the undisturbed run."""
        reference, (recipe, run) = self.reference(case), self.new_run(case)

        def go_on() -> None:
            if left_out:
                forget(left_out)
            training.resume(run, plugin=recipe.model.name) if run.folder.exists() else training.start(
                recipe, run.folder
            )

        for i, point in enumerate(points):
            code = in_child(lambda point=point: (arm(point), go_on()), log=self.log)  # type: ignore[misc]
            passed = i > 0 and code == 0  # a later point can lie behind the checkpoint of the one before
            if code != -signal.SIGKILL and not passed:
                return [f"not killed: exit {code}: {self.log.read_text()[-300:]}"]
        code = in_child(go_on, log=self.log)
        if code != 0:
            return [f"resume: exit {code}: {self.log.read_text()[-300:]}"]
        return differences(reference, outcome_of(run))


def total_steps(case: str) -> int:
    recipe = recipe_of(case)
    images = 288 if recipe.protocol == "paper" else 259
    return recipe.epochs * (images // recipe.batch_size)


def random_points(rng: random.Random, case: str, bench: Bench) -> list[Point]:
    """Draw one point, or a third of the time two, the second in the resumed run."""
    points: list[Point] = []
    for _ in range(rng.choice((1, 1, 2))):
        first, phase = points[-1].step if points else 0, rng.choice(PHASES)
        operation = rng.randint(0, bench.operations(case, phase)) if phase in WATCHED else 0
        points.append(Point(step=rng.randint(first, total_steps(case) - 1), phase=phase, operation=operation))
    return points


def prove(bench: Bench, points: int, seed: int, cases: Mapping[str, object]) -> int:
    """Kill and resume, one case after another; return how many came out equal."""
    good = 0
    for i in range(points):
        rng = random.Random(f"{seed}/{i}")
        case = list(cases)[i % len(cases)]
        drawn = random_points(rng, case, bench)
        wrong = bench.kill_and_resume(case, *drawn)
        good += not wrong
        place = ", then ".join(f"step {p.step}, {p.phase}" + f" {p.operation}" * (p.phase in WATCHED) for p in drawn)
        print(f"{i:4d}  {case:32s} {place:52s} {'equal' if not wrong else f'DIFFERS: {wrong}'}", flush=True)
    return good


def controls(bench: Bench, points: int, seed: int) -> int:
    """Resume with one part of the state left out; return how often the weights differ, as they must always."""
    differing = 0
    for i in range(points):
        rng = random.Random(f"{seed}/control/{i}")
        left_out = ("random state", "data position", "optimizer")[i % 3]
        case = "adamw, ema, cosine"
        # The newest checkpoint before these steps lies inside an epoch, where the random state matters.
        point = Point(step=rng.choice([4, 5, 7, 12, 13, 14, 20, 21, 22]), phase="forward")
        wrong = bench.kill_and_resume(case, point, left_out=left_out)
        real = {"weights", "rows"} <= set(wrong)
        differing += real
        answer = "differs" if real else "EQUAL"
        print(f"{i:4d}  without {left_out:14s} step {point.step:2d}  {answer}: {wrong}", flush=True)
    return differing


def forget(part: str) -> None:
    """Patch this process so that its resume leaves one part out.

    Each part shows: dropout draws from the random state, AdamW's moments are half of its step, and the
    rest of an epoch is made of other pictures than its start.
    """
    if part == "random state":
        mock.patch("torch.set_rng_state", return_value=None).start()
    elif part == "optimizer":
        mock.patch("torch.optim.Optimizer.load_state_dict", return_value=None).start()
    else:
        real = Batches.epoch

        def from_its_start(self: Batches, number: int, *, first_step: int = 0) -> Iterator[Any]:
            for i, batch in enumerate(real(self, number)):
                if i < self.steps_per_epoch - first_step:
                    yield batch

        mock.patch.object(Batches, "epoch", from_its_start).start()


def every_operation(bench: Bench) -> tuple[int, int]:
    """Interrupt a save before each of its operations on files, and just after it; return how many, how many equal."""
    case, good = "adamw, ema, cosine", 0
    count = bench.operations(case, "during save") + 1
    for operation in range(count):
        # Step 9 is the fifth save: by then there are old checkpoints to discard as well.
        wrong = bench.kill_and_resume(case, Point(step=9, phase="during save", operation=operation))
        good += not wrong
        print(f"{operation:4d}  operation of the save  {'equal' if not wrong else f'DIFFERS: {wrong}'}", flush=True)
    return count, good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=0, help="kill points")
    parser.add_argument(
        "--distillation", action="store_true", help="kill points of every objective with a teacher alone"
    )
    parser.add_argument("--controls", type=int, default=0, help="negative controls")
    parser.add_argument("--every-operation", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="write the figures, with machine and versions, to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for module in ("torch._dynamo", "sklearn.datasets", "scipy.stats"):  # once here, not in each child
        importlib.import_module(module)
    started, result, ok = time.monotonic(), {"seed": arguments.seed, "torch": torch.__version__}, True
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        if arguments.points:
            cases = DISTILLATIONS if arguments.distillation else CASES
            equal = prove(bench, arguments.points, arguments.seed, cases)
            result |= {"points": arguments.points, "equal": equal}
            ok &= equal == arguments.points
        if arguments.controls:
            differing = controls(bench, arguments.controls, arguments.seed)
            result |= {"controls": arguments.controls, "differing": differing}
            ok &= differing == arguments.controls
        if arguments.every_operation:
            operations, equal = every_operation(bench)
            result |= {"operations": operations, "operations_equal": equal}
            ok &= operations == equal
    result["seconds"] = round(time.monotonic() - started)
    if arguments.report:
        device = assembly.place(recipe_of("sgd"))
        about = provenance.collect(device, command=["python", "-m", "tests.training.kills", *sys.argv[1:]])
        arguments.report.write_text(json.dumps({"about": about, "measured": result}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
