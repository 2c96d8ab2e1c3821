"""Batches for training and for evaluation.

A batch is a function of (data, settings, seed, epoch, step) and of nothing else: not of the device, not of where
the images are kept, not of the batches before it. So a run resumes inside an epoch by its step number.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from bakeoff.data.augment import Augment, Plan
from bakeoff.data.draws import Draws, balanced, permutation
from bakeoff.data.images import ImageSet
from bakeoff.data.mix import Mix
from bakeoff.data.pixels import Normalise, blank, shrink
from bakeoff.errors import RecipeError

T = TypeVar("T")

AHEAD = 2  # batches, or groups of small ones, that are read ahead of the step that is running
# Of pictures that are made at a time: on a CPU a call costs as much as some fifty pictures of 32 px, and more than its
# cache holds would be slow; on a GPU a launch costs as much as thousands. By arithmetic there, not yet measured.
TOGETHER_BYTES = {"cpu": 2 * 2**20, "mps": 2 * 2**20, "cuda": 16 * 2**20}  # elsewhere one batch
CHUNK_BYTES = 64 * 2**20  # copied to a device at a time, to need little memory on the way


class Batch(NamedTuple):
    """What one training step sees.

    Args:
        x: float32 [b c h w], in the layout asked for, normalised.
        targets: float32 [b classes], rows summing to 1.
        labels: int64 [b], of the images before they were mixed.
    """

    x: Tensor
    targets: Tensor
    labels: Tensor


class Batches:
    """The training batches of a run.

    Images that do not fill a last batch are left out of the epoch; the order differs in every epoch.

    Args:
        data: what to train on.
        batch_size: images a step.
        augment: what happens to each image.
        mix: what happens between the images of a batch.
        seed: of the run.
        device: where batches are made and handed out.
        resident: keep all images on the device (a CPU reads them where they are, which may be a memory-map);
            otherwise a thread reads them two batches ahead. None: if there is room. The batches are the same.
        balance: show each class as often as any other.
        epochs: of the whole run, where the augmentation changes over it.
        share: which images of each batch are handed out, in pieces; the others are another process's. None: all.
        layout: of x in memory.

    Raises:
        RecipeError: fewer images than one batch, or settings that do not suit the images.
    """

    def __init__(
        self,
        data: ImageSet,
        *,
        batch_size: int,
        augment: Augment,
        mix: Mix,
        seed: int,
        device: torch.device,
        resident: bool | None = None,
        balance: bool = False,
        epochs: int = 1,
        share: Sequence[slice] | None = None,
        layout: torch.memory_format = torch.channels_last,
    ) -> None:
        if not 1 <= batch_size <= len(data):
            raise RecipeError(
                "batch_size",
                found=f"{batch_size}",
                expected=f"1 to {len(data)}, the number of training images",
            )
        channels, height, width = data.shape
        augment.check(height=height, width=width, channels=channels)
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.augment, self.mix = augment, mix
        self._balance, self._epochs = balance, epochs
        self._share = None if share is None else _Share.of(share, batch_size, mixes=bool(mix.mixup or mix.cutmix))
        self.steps_per_epoch = len(data) // batch_size
        self._height, self._width, self._data = height, width, data
        self._normalise = Normalise(data.mean, data.std, height=height, width=width, device=device, layout=layout)
        self._labels = torch.from_numpy(np.array(data.labels)).to(device)
        self._one_hot = torch.eye(len(data.classes), device=device)
        num_bytes = len(data) * channels * height * width
        # What is done to each picture by itself is done to several batches at once, where they are small.
        of_batch = batch_size * channels * height * width
        self._together = max(1, TOGETHER_BYTES.get(device.type, 0) // of_batch) if share is None else 1
        self._resident = fits(num_bytes, device) if resident is None else resident
        on_device = self._resident and device.type != "cpu"
        self._pixels_on_device = copy_to(device, data) if on_device else None

    def epoch(self, epoch: int, *, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, counted from 0, from a step on."""
        if self._balance:
            order, showing = balanced(self._data.labels, seed=self.seed, epoch=epoch)
            # Each showing of a picture is cut and turned in a way of its own.
            draws = Draws(seed=self.seed, epoch=epoch, index=order + len(self._data) * showing)
        else:
            order = permutation(len(self._data), seed=self.seed, epoch=epoch)
            draws = Draws(seed=self.seed, epoch=epoch, index=order)
        plan = self.augment.plan(draws, height=self._height, width=self._width).to(self.device)
        order_on_device = order.to(self.device)
        starts = range(first_step, self.steps_per_epoch, self._together)
        groups = [range(start, min(start + self._together, self.steps_per_epoch)) for start in starts]

        def rows(group: range) -> slice | Tensor:
            first, last = group.start * self.batch_size, group.stop * self.batch_size
            return slice(first, last) if self._share is None else first + self._share.made

        def read(number: int) -> Tensor:
            here = rows(groups[number])
            if self._pixels_on_device is not None:
                return self._pixels_on_device[order_on_device[here]]
            pixels = torch.from_numpy(self._data.pixels(order[here].numpy()))
            return pixels.pin_memory() if self.device.type == "cuda" else pixels

        with closing(read_ahead(read, range(len(groups)), num=0 if self._resident else AHEAD)) as pixels:
            for group, here in zip(groups, pixels, strict=True):
                x = self._pictures(here, plan[rows(group)], epoch=epoch)
                labels = self._labels[order_on_device[rows(group)]]
                targets = self._one_hot[labels]
                for step, part in zip(group, range(0, len(x), len(x) // len(group)), strict=True):
                    one = slice(part, part + len(x) // len(group))
                    yield self._batch(x[one], targets[one], labels[one], epoch=epoch, step=step)

    def _pictures(self, pixels: Tensor, plan: Plan, *, epoch: int) -> Tensor:
        """Turn pixels uint8 [n h w c] into what a network sees of them before they are mixed."""
        x = self._normalise(self.augment(pixels.to(self.device, non_blocking=True), plan))
        for box in plan.boxes:
            x = blank(x, box)
        side = self.augment.side(epoch / self._epochs)
        return x if side is None else shrink(x, side)

    def _batch(self, x: Tensor, targets: Tensor, labels: Tensor, *, epoch: int, step: int) -> Batch:
        x, targets = self.mix(x, targets, seed=self.seed, epoch=epoch, step=step)
        if self._share is None:
            return Batch(x, targets, labels)
        own = self._share.own.to(self.device)
        return Batch(x[own], targets[own], labels[own])


class _Share(NamedTuple):
    """What a process makes of each batch, and what of it is its own.

    Images are mixed with the one before them, which can be another process's: it is made here as well.

    Args:
        made: int64 [m], places in the batch.
        own: int64 [n], places among those that are made.
    """

    made: Tensor
    own: Tensor

    @classmethod
    def of(cls, pieces: Sequence[slice], batch_size: int, *, mixes: bool) -> "_Share":
        """Return the share that consists of these pieces of a batch."""
        made = [np.arange(piece.start - mixes, piece.stop) for piece in pieces]
        is_own = np.concatenate([np.arange(len(rows)) >= mixes for rows in made])
        return cls(torch.from_numpy(np.concatenate(made) % batch_size), torch.from_numpy(np.flatnonzero(is_own)))


def plain(
    data: ImageSet,
    *,
    batch_size: int,
    device: torch.device,
    take: slice = slice(None),
    layout: torch.memory_format = torch.channels_last,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every image once, in order, normalised and nothing else; the last batch may be smaller.

    Args:
        data: what to show.
        batch_size: images at a time.
        device: where batches are handed out.
        take: which of the batches, counted from 0.
        layout: of x in memory.

    Returns:
        Pairs of x float32 [b c h w] on the device, and the images' places int64 [b] on the host.
    """
    _, height, width = data.shape
    normalise = Normalise(data.mean, data.std, height=height, width=width, device=device, layout=layout)
    for first in range(0, len(data), batch_size)[take]:
        index = np.arange(first, min(first + batch_size, len(data)))
        yield normalise(torch.from_numpy(data.pixels(index)).to(device)), torch.from_numpy(index)


def copy_to(device: torch.device, data: ImageSet) -> Tensor:
    """Copy all pictures to a device, piece by piece: uint8 [n h w c]."""
    channels, height, width = data.shape
    result = torch.empty((len(data), height, width, channels), dtype=torch.uint8, device=device)
    step = max(1, CHUNK_BYTES // (channels * height * width))
    for first in range(0, len(data), step):
        index = np.arange(first, min(first + step, len(data)))
        result[index[0] : index[-1] + 1] = torch.from_numpy(data.pixels(index))
    return result


def fits(num_bytes: int, device: torch.device) -> bool:
    """Whether data would take less than half of a GPU's free memory, or of the machine's memory."""
    if device.type == "cuda":
        return num_bytes < torch.cuda.mem_get_info(device)[0] / 2
    return num_bytes < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2


def read_ahead(read: Callable[[int], T], steps: range, *, num: int) -> Generator[T, None, None]:
    """Yield read(step) for each step, reading up to `num` steps further in a thread; with 0 there is no thread.

    An error in the thread is raised here, in its turn. The thread ends with the generator, however that ends.
    """
    if num == 0:
        yield from map(read, steps)
        return
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bakeoff-read")
    pending: deque[Future[T]] = deque()
    try:
        for step in steps:
            pending.append(pool.submit(read, step))
            if len(pending) > num:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
