"""Pictures as torchvision's data sets give them, one by one, and the usual ways to augment them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from benchmarks.peers.task import Stored, Task

Transform = Callable[[Any], Any]


class Pictures(Dataset[tuple[Any, int]]):
    """All pictures in one array; each is made a Pillow picture, or a tensor, when it is asked for, and transformed.

    Args:
        stored: the pictures.
        tensors: give uint8 tensors [c h w].
        transform: of each picture.
        order: places of the pictures to give, instead of all.
    """

    def __init__(
        self, stored: Stored, *, tensors: bool, transform: Transform | None, order: NDArray[np.int64] | None = None
    ) -> None:
        self.pixels, self.labels, self.order = stored.pixels, stored.labels.tolist(), order
        self.tensors, self.transform = tensors, transform

    def __len__(self) -> int:
        return len(self.labels) if self.order is None else len(self.order)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        index = place if self.order is None else int(self.order[place])
        pixels = self.pixels[index]
        image: Any = torch.from_numpy(pixels).permute(2, 0, 1) if self.tensors else Image.fromarray(pixels)
        return (self.transform(image) if self.transform else image), self.labels[index]


def augmentation(task: Task) -> list[Transform]:
    """Return the crop and the flip of a class of comparison."""
    size, padding = task.images.pixels.shape[1], 4
    mode = "reflect" if task.way.augment == "ours" else "constant"
    if task.way.pictures == "pillow":
        crop: Transform = transforms.RandomCrop(size, padding=padding, padding_mode=mode)
        return [crop, transforms.RandomHorizontalFlip()]
    return [v2.RandomCrop(size, padding=padding, padding_mode=mode), v2.RandomHorizontalFlip()]


def transform(task: Task, *, training: bool) -> Transform:
    """Return what turns a picture into x float32 [c h w]; augmented where it trains, in no order that is given."""
    stored = task.images
    augment = augmentation(task) if training and task.order is None else []
    if task.way.pictures == "pillow":
        usual = [transforms.ToTensor(), transforms.Normalize(stored.mean, stored.std)]
        return transforms.Compose([*augment, *usual])  # type: ignore[no-any-return]
    to_float = v2.ToDtype(torch.float32, scale=True)
    return v2.Compose([*augment, to_float, v2.Normalize(stored.mean, stored.std)])  # type: ignore[no-any-return]


def dataset(task: Task, *, training: bool) -> Pictures:
    """Return the pictures of a task as its class of comparison gives them."""
    tensors = task.way.pictures == "tensor"
    return Pictures(task.images, tensors=tensors, transform=transform(task, training=training), order=task.order)


def loader(task: Task, *, training: bool) -> DataLoader[tuple[Any, int]]:
    """Return torch's own loader: batches of x and labels."""
    return DataLoader(
        dataset(task, training=training),
        batch_size=task.batch_size if training else task.way.eval_batch,
        shuffle=training and task.order is None,
        drop_last=training,
        num_workers=task.workers,
        persistent_workers=task.workers > 0,
    )
