"""Ignite: create_supervised_trainer and create_supervised_evaluator.

https://docs.pytorch.org/ignite/generated/ignite.engine.create_supervised_trainer.html: its `amp_mode` is for CUDA, so
bf16 goes through `model_fn`, channels-last through `prepare_batch`, and a quiet loop keeps the loss a tensor by
`output_transform`.
"""

from typing import Any

import torch
from ignite.engine import create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Accuracy
from torch import Tensor, nn

from benchmarks.peers.pictures import loader
from benchmarks.peers.task import Task


def _options(task: Task) -> dict[str, Any]:
    def in_bf16(net: nn.Module, x: Tensor) -> Tensor:
        with task.autocast():
            logits: Tensor = net(x)
        return logits

    def prepare(batch: list[Tensor], device: object, non_blocking: bool) -> tuple[Tensor, Tensor]:
        x, labels = batch
        return task.laid_out(x), labels

    options: dict[str, Any] = {"model_fn": in_bf16} if task.way.bf16 else {}
    return options | ({"prepare_batch": prepare} if task.way.channels_last else {})


def train(task: Task) -> None:
    """Take the steps."""
    net = task.net.to(memory_format=task.memory_format)
    options = _options(task)
    if task.way.quiet:
        options["output_transform"] = lambda x, y, y_pred, loss: loss.detach()
    engine = create_supervised_trainer(net, task.sgd(net), task.loss, device=torch.device("cpu"), **options)
    engine.run(loader(task, training=True), max_epochs=1, epoch_length=task.steps)


def evaluate(task: Task) -> float:
    """Return top-1."""
    net = task.net.to(memory_format=task.memory_format)
    metrics = {"top1": Accuracy()}
    engine = create_supervised_evaluator(net, metrics=metrics, device=torch.device("cpu"), **_options(task))
    return float(engine.run(loader(task, training=False)).metrics["top1"])
