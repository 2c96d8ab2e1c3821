"""timm: its loader, its optimizer and its meters, in a step like its training script's.

https://huggingface.co/docs/timm/reference/data, https://huggingface.co/docs/timm/reference/optimizers,
https://huggingface.co/docs/timm/training_script (--amp --amp-dtype bfloat16 --channels-last).
"""

from typing import Any

import timm.data
import timm.optim
import timm.utils
import torch

from benchmarks.peers.pictures import Pictures, augmentation
from benchmarks.peers.task import LR, MOMENTUM, WEIGHT_DECAY, Task, endless

# What timm exports has types, but not all that it is given here has those.
data: Any = timm.data
optim: Any = timm.optim
utils: Any = timm.utils


def _loader(task: Task, *, training: bool) -> Any:  # noqa: ANN401 - timm has no types
    exact, ours = task.order is not None, task.way.augment == "ours"
    pictures = Pictures(task.images, tensors=False, transform=None, order=task.order)
    size = pictures.pixels.shape[1]
    found = data.create_loader(
        pictures,
        input_size=(3, size, size),
        batch_size=task.batch_size if training else task.way.eval_batch,
        is_training=training and not exact,  # else it would shuffle
        crop_pct=1.0,
        mean=task.images.mean,
        std=task.images.std,
        num_workers=task.workers,
        device=torch.device("cpu"),
    )
    if training and not exact and ours:  # the loader's own way from pixels to batches, with other transforms in it
        tensors = task.way.pictures == "tensor"
        steps = augmentation(task)
        pictures.tensors = tensors

        def transform(image: Any) -> Any:  # noqa: ANN401 - whatever the step before gives
            for step in steps:
                image = step(image)
            return image

        pictures.transform = transform
    return found


def train(task: Task) -> None:
    """Take the steps."""
    net = task.net.to(memory_format=task.memory_format).train()
    options = {"fused": True} if task.way.fused else {}
    optimizer = optim.create_optimizer_v2(
        net, opt="sgd", lr=LR, weight_decay=WEIGHT_DECAY, momentum=MOMENTUM, filter_bias_and_bn=False, **options
    )
    losses = utils.AverageMeter()
    for x, labels in endless(_loader(task, training=True), task.steps):
        x = task.laid_out(x)
        with task.autocast():
            loss = task.loss(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.update(loss.item(), len(x))


def evaluate(task: Task) -> float:
    """Return top-1."""
    net, losses, top1 = task.net.to(memory_format=task.memory_format).eval(), utils.AverageMeter(), utils.AverageMeter()
    with torch.inference_mode():
        for x, labels in _loader(task, training=False):
            with task.autocast():
                logits = net(task.laid_out(x))
                loss = task.loss(logits, labels)
            first, _ = utils.accuracy(logits, labels, topk=(1, 5))
            losses.update(loss.item(), len(x))
            top1.update(first.item(), len(x))
    return float(top1.avg) / 100
