"""bakeoff itself: the trainer's own epoch and the evaluation of its runs, as they are by default."""

import tempfile
from functools import cache
from pathlib import Path

from bakeoff.data.images import ImageSet
from bakeoff.results import metrics
from bakeoff.training import evaluate as evaluation
from bakeoff.training.trainer import Trainer
from benchmarks import loop
from benchmarks.peers.task import LR, MOMENTUM, SEED, WEIGHT_DECAY, Stored, Task

# What the peers do as well: where a model's card says otherwise, it stands back.
AGREED = (
    *("optimizer.name=sgd", f"optimizer.lr={LR}", f"optimizer.momentum={MOMENTUM}", "optimizer.nesterov=true"),
    *(f"optimizer.weight_decay={WEIGHT_DECAY}", "optimizer.decay_norms_and_biases=true", "schedule.name=constant"),
    *("mix.mixup=0", "mix.cutmix=0", "objective.label_smoothing=0", "ema_decay=0", f"seed={SEED}"),
    *("augment.policy=none", "augment.erase=0", "augment.cutout=0"),
)
PLAIN = ("augment.crop_padding=0", "augment.flip=none")


def image_set(stored: Stored) -> ImageSet:
    """Return pictures as bakeoff holds them, left where they are."""
    return ImageSet(
        images=stored.pixels.transpose(0, 3, 1, 2),
        labels=stored.labels,
        classes=tuple(map(str, range(100))),
        mean=stored.mean,
        std=stored.std,
        fingerprint="laid out by benchmarks.peers",
    )


@cache
def _trainer(stored: Stored, *, model: str, batch_size: int, threads: int, bf16: bool, augmented: bool) -> Trainer:
    """Return a trainer; Stored is compared by identity."""
    kept = ("model.drop_path=0",) if model.startswith("convnext") else ()
    precision = f"precision={'bf16' if bf16 else 'float32'}"
    return loop.set_up(
        model,
        steps=1,
        batch_size=batch_size,
        folder=Path(tempfile.gettempdir(), "a", "run", "that", "is", "never", "saved"),
        threads=threads,
        compile=False,
        other=(*AGREED, *kept, precision, *(() if augmented else PLAIN)),
        images=image_set(stored),
    )


def _ready(task: Task) -> Trainer:
    trainer = _trainer(
        task.images,
        model=task.model,
        batch_size=task.batch_size,
        threads=task.threads,
        bf16=task.way.bf16,
        augmented=task.order is None,
    )
    trainer.network.load_state_dict(task.net.state_dict())
    trainer.parts.optimizer.state.clear()
    return trainer


def train(task: Task) -> None:
    """Take the last steps of an epoch, and whole epochs before them where that is not enough."""
    trainer = _ready(task)
    position = trainer.position
    per_epoch, left = len(position.losses), task.steps
    with trainer.network.register_forward_pre_hook(task.watch.note):
        while left:
            steps = left % per_epoch or per_epoch
            position.epoch, position.step = 0, per_epoch - steps
            trainer.train_epoch()
            left -= steps
    if task.losses is not None:
        task.losses.extend(position.losses[-task.steps :])


def evaluate(task: Task) -> float:
    """Return top-1."""
    trainer = _ready(task)
    with trainer.network.register_forward_pre_hook(task.watch.note):
        outcome = evaluation.evaluate(trainer.network, image_set(task.images), device=trainer.parts.device)
    return float(metrics.summarise(outcome)["top1"])
