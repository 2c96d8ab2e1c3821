"""Lightning: a LightningModule, and the Trainer's fit and validate.

Defaults: https://lightning.ai/docs/pytorch/stable/starter/introduction.html
bf16:     precision="bf16-mixed", https://lightning.ai/docs/pytorch/stable/common/precision.html
Speed:    https://lightning.ai/docs/pytorch/stable/advanced/speed.html
Bars, loggers, checkpoints, summary off: https://lightning.ai/docs/pytorch/stable/common/trainer.html; its `barebones`
mode is for the study of overhead and "discouraged during regular training runs", so it is not used.
"""

from typing import Any

import lightning
from torch import Tensor
from torch.optim import Optimizer

from benchmarks.peers.pictures import loader
from benchmarks.peers.task import Task


class Module(lightning.LightningModule):  # type: ignore[misc, unused-ignore] # without types where it is not installed
    """A classifier as in the library's introduction."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.net = task, task.net

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        x, labels = batch
        loss = self.task.loss(self.net(self.task.laid_out(x)), labels)
        if not self.task.way.quiet:
            self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log the accuracy of a batch."""
        x, labels = batch
        logits = self.net(self.task.laid_out(x))
        self.log("top1", (logits.argmax(1) == labels).float().mean(), batch_size=len(labels))

    def configure_optimizers(self) -> Optimizer:
        """Return the optimizer."""
        return self.task.sgd(self.net)


def _trainer(task: Task, **options: object) -> Any:  # noqa: ANN401 - its class has no types where it is not installed
    if task.way.quiet:
        options |= {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        options |= {"enable_model_summary": False}
    if task.way.bf16:
        options |= {"precision": "bf16-mixed"}
    return lightning.Trainer(accelerator="cpu", default_root_dir=task.folder, **options)  # type: ignore[arg-type, unused-ignore]


def train(task: Task) -> None:
    """Take the steps."""
    task.net.to(memory_format=task.memory_format)
    _trainer(task, max_steps=task.steps, max_epochs=-1).fit(Module(task), loader(task, training=True))


def evaluate(task: Task) -> float:
    """Return top-1."""
    task.net.to(memory_format=task.memory_format)
    (found,) = _trainer(task).validate(Module(task), loader(task, training=False), verbose=False)
    return float(found["top1"])
