"""transformers: its Trainer, around a wrapper that returns loss and logits.

https://huggingface.co/docs/transformers/main_classes/trainer; bf16 on CPUs:
https://huggingface.co/docs/transformers/perf_train_cpu. The clipping of gradients, on by default, is off in all
classes, and the rate constant: it would train something else.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from benchmarks.peers.pictures import dataset
from benchmarks.peers.task import Task


class Wrapper(nn.Module):
    """The network as the Trainer calls it."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.net = task, task.net

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(self.task.laid_out(pixel_values))
        return {"loss": self.task.loss(logits, labels), "logits": logits}


def _collated(samples: list[tuple[Tensor, int]]) -> dict[str, Tensor]:
    return {
        "pixel_values": torch.stack([x for x, _ in samples]),
        "labels": torch.tensor([label for _, label in samples]),
    }


def _top1(found: Any) -> dict[str, float]:  # noqa: ANN401 - the library's own class
    return {"top1": float((found.predictions.argmax(1) == found.label_ids).mean())}


def _trainer(task: Task, **data: Any) -> Trainer:  # noqa: ANN401 - handed on
    quiet = {"disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no", "report_to": "none"}
    net = task.net.to(memory_format=task.memory_format)
    arguments = TrainingArguments(
        output_dir=str(task.folder),
        use_cpu=True,
        bf16=task.way.bf16,
        max_steps=task.steps or -1,
        per_device_train_batch_size=task.batch_size,
        per_device_eval_batch_size=task.way.eval_batch,
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        dataloader_num_workers=task.workers,
        dataloader_persistent_workers=task.workers > 0,
        dataloader_drop_last=bool(task.steps),
        train_sampling_strategy="random" if task.order is None else "sequential",
        **(quiet if task.way.quiet else {}),
    )
    return Trainer(
        model=Wrapper(task),
        args=arguments,
        data_collator=_collated,
        optimizers=(task.sgd(net), None),
        compute_metrics=_top1,
        **data,
    )


def train(task: Task) -> None:
    """Take the steps."""
    _trainer(task, train_dataset=dataset(task, training=True)).train()


def evaluate(task: Task) -> float:
    """Return top-1."""
    return float(_trainer(task, eval_dataset=dataset(task, training=False)).evaluate()["eval_top1"])
