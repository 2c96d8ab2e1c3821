"""Accelerate: the loop of its examples, everything through `prepare`.

https://huggingface.co/docs/accelerate/quicktour, https://huggingface.co/docs/accelerate/usage_guides/mixed_precision
"""

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from benchmarks.peers.pictures import loader
from benchmarks.peers.task import Task, endless


def _accelerator(task: Task) -> Accelerator:
    AcceleratorState._reset_state(reset_partial_state=True)  # as in a new process
    return Accelerator(cpu=True, mixed_precision="bf16" if task.way.bf16 else "no")


def train(task: Task) -> None:
    """Take the steps."""
    accelerator, running = _accelerator(task), 0.0
    net = task.net.to(memory_format=task.memory_format).train()
    net, optimizer, batches = accelerator.prepare(net, task.sgd(net), loader(task, training=True))
    for x, labels in endless(batches, task.steps):
        optimizer.zero_grad()
        loss = task.loss(net(task.laid_out(x)), labels)
        accelerator.backward(loss)
        optimizer.step()
        if not task.way.quiet:
            running += loss.item()


def evaluate(task: Task) -> float:
    """Return top-1."""
    accelerator, correct, total = _accelerator(task), 0, 0
    net = task.net.to(memory_format=task.memory_format).eval()
    net, batches = accelerator.prepare(net, loader(task, training=False))
    for x, labels in batches:
        with torch.no_grad():
            logits = net(task.laid_out(x))
        predictions, truth = accelerator.gather_for_metrics((logits.argmax(1), labels))
        correct += int((predictions == truth).sum())
        total += len(truth)
    return correct / total
