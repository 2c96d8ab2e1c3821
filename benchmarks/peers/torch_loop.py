"""The plain loop of torch's own tutorials, with torchvision's pictures.

https://docs.pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html
"""

import torch

from benchmarks.peers.pictures import loader
from benchmarks.peers.task import Task, endless


def train(task: Task) -> None:
    """Take the steps."""
    net = task.net.to(memory_format=task.memory_format).train()
    optimizer, running = task.sgd(net), 0.0
    for x, labels in endless(loader(task, training=True), task.steps):
        optimizer.zero_grad()
        with task.autocast():
            logits = net(task.laid_out(x))
        loss = task.loss(logits, labels)
        loss.backward()
        optimizer.step()
        if not task.way.quiet:
            running += loss.item()


def evaluate(task: Task) -> float:
    """Return top-1."""
    net, correct, total = task.net.to(memory_format=task.memory_format).eval(), 0, 0
    with torch.inference_mode():
        for x, labels in loader(task, training=False):
            with task.autocast():
                logits = net(task.laid_out(x))
            correct += int((logits.argmax(1) == labels).sum())
            total += len(labels)
    return correct / total
