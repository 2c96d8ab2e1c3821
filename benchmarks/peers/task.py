"""What every contestant is asked to do, and how a class of comparison sets it."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from bakeoff import models

CLASSES = ("shipped", "best", "same")
MODULES = {  # contestant -> its file here
    "bakeoff": "bakeoff_trainer",
    "torchvision": "torch_loop",
    "lightning": "lightning_trainer",
    "ignite": "ignite_engine",
    "accelerate": "accelerate_loop",
    "transformers": "transformers_trainer",
    "timm": "timm_loop",
}
OURS = "bakeoff"
SEED = 0
LR, MOMENTUM, WEIGHT_DECAY = 0.001, 0.9, 5e-4  # a rate at which 20 steps magnify rounding little


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How a class of comparison sets a library.

    Args:
        bf16: autocast of the forward pass.
        channels_last: layout of weights and pictures.
        quiet: no bars, logs, checkpoints.
        fused: the optimizer that moves all weights in one call.
        pictures: Pillow's, one after another, or uint8 tensors.
        augment: the crop and flip of most examples, or bakeoff's own.
        eval_batch: pictures at a time without gradients.
    """

    bf16: bool
    channels_last: bool
    quiet: bool
    fused: bool
    pictures: Literal["pillow", "tensor"]
    augment: Literal["usual", "ours"]
    eval_batch: int


# Worker processes, channels-last and bf16 on CPUs: https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide
# fused=True "is typically faster" than a loop: https://docs.pytorch.org/docs/stable/optim.html
# uint8 tensors and the second interface of transforms: https://docs.pytorch.org/vision/stable/transforms.html
WAYS = {
    "shipped": Way(
        bf16=False, channels_last=False, quiet=False, fused=False, pictures="pillow", augment="usual", eval_batch=128
    ),
    "best": Way(
        bf16=True, channels_last=True, quiet=True, fused=True, pictures="tensor", augment="usual", eval_batch=500
    ),
    "same": Way(
        bf16=True, channels_last=True, quiet=True, fused=True, pictures="tensor", augment="ours", eval_batch=500
    ),
}


@dataclass(frozen=True, eq=False, slots=True)
class Stored:
    """Pictures as torchvision's data sets hold them.

    Args:
        pixels: uint8 [n h w c].
        labels: int64 [n].
        mean: of each channel, in units of [0, 1].
        std: of each channel, in units of [0, 1].
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def paths(folder: Path, part: str) -> tuple[Path, Path]:
    """Return where the pixels and the labels of a part are."""
    return folder / f"{part}.pixels.npy", folder / f"{part}.labels.npy"


def stored(folder: Path, part: str, *, mapped: bool = False) -> Stored:
    """Return a part that the command has laid out; peers hold it in memory, as torchvision does."""
    pixels, labels = paths(folder, part)
    mean, std = np.load(folder / "statistics.npy")
    return Stored(
        np.load(pixels, mmap_mode="r" if mapped else None), np.load(labels), tuple(mean.tolist()), tuple(std.tolist())
    )


@dataclass(kw_only=True, slots=True)
class Stopwatch:
    """Notes when a network is called, and with how many pictures."""

    times: list[float] = field(default_factory=list)
    images: list[int] = field(default_factory=list)

    def note(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Note a call: a forward pre-hook."""
        self.times.append(time.perf_counter())
        self.images.append(len(inputs[0]))

    def seconds_a_step(self, first: int) -> float:
        """Return the seconds of a step from call number `first`, counted from 0, to the last call."""
        return (self.times[-1] - self.times[first]) / (len(self.times) - 1 - first)

    def seconds_an_image(self) -> float:
        """Return the seconds of a picture from the first call to the last."""
        return (self.times[-1] - self.times[0]) / sum(self.images[:-1])


@dataclass(kw_only=True)
class Task:
    """What to train or to evaluate.

    Args:
        model: its name.
        net: the network itself, to be changed freely.
        images: to train on, or to evaluate.
        way: how the library is set.
        batch_size: pictures a step.
        steps: optimizer steps to take.
        folder: where the library may write.
        workers: processes that make batches.
        order: places of pictures, in the order to train on them without augmentation; None: any, augmented.
        losses: of every step, where they are wanted.
        watch: on the network.
        threads: of the process.
        momentum: Nesterov's; with another one, it is another training.
    """

    model: str
    net: nn.Module
    images: Stored
    way: Way
    batch_size: int
    folder: Path
    steps: int = 0
    workers: int = 0
    order: NDArray[np.int64] | None = None
    losses: list[Tensor] | None = None
    watch: Stopwatch = field(default_factory=Stopwatch)
    threads: int = 1
    momentum: float = MOMENTUM

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of weights and pictures."""
        return torch.channels_last if self.way.channels_last else torch.contiguous_format

    def laid_out(self, x: Tensor) -> Tensor:
        """Return a batch in the layout."""
        return x.contiguous(memory_format=self.memory_format) if self.way.channels_last else x

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass, for libraries that have none of their own."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.way.bf16)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, and keep it where it is wanted."""
        found = F.cross_entropy(logits.float(), labels)
        if self.losses is not None and found.requires_grad:
            self.losses.append(found.detach().clone())
        return found

    def sgd(self, net: nn.Module) -> torch.optim.SGD:
        """Return the optimizer, for libraries that bring none."""
        fused = True if self.way.fused else None
        options = {"momentum": self.momentum, "nesterov": self.momentum > 0, "weight_decay": WEIGHT_DECAY}
        return torch.optim.SGD(net.parameters(), lr=LR, fused=fused, **options)  # type: ignore[arg-type]


class Library(Protocol):
    """What each contestant's file offers."""

    train: Callable[[Task], None]
    evaluate: Callable[[Task], float]  # returns top-1, a fraction


def network(model: str, *, num_classes: int = 100) -> nn.Module:
    """Build a network, the same every time; the global stream is left alone."""
    options = {"drop_path": 0.0} if model.startswith("convnext") else {}  # or weights would not suffice to be the same
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return models.build(model, num_classes=num_classes, **options)


def endless(loader: Any, steps: int) -> Iterator[Any]:  # noqa: ANN401 - each library's loader is of its own kind
    """Yield so many batches, epoch after epoch."""
    done = 0
    while True:
        for batch in loader:
            yield batch
            done += 1
            if done == steps:
                return
