"""Evaluation: logits of every image, each index once. Metrics are computed from them, torch-free."""

import numpy as np
import torch
from torch import nn

from bakeoff.data.batches import plain
from bakeoff.data.images import ImageSet
from bakeoff.results import predictions
from bakeoff.results.predictions import Predictions
from bakeoff.training.device import Device

BATCH = 500  # images; large enough to keep two cores or a GPU busy, small beside a training step's memory


def evaluate(model: nn.Module, images: ImageSet, *, device: Device) -> Predictions:
    """Predict every image once, in order, in eval mode; the model's mode is left as it was found.

    Raises:
        VerificationFailed: an index is missing or doubled.
    """
    was_training = model.training
    model.eval()
    logits, index = [], []
    with torch.inference_mode(), device.autocast():
        for x, positions in plain(images, batch_size=BATCH, device=device.kind):
            logits.append(model(x).float())
            index.append(positions)
    model.train(was_training)
    outcome = Predictions(
        index=torch.cat(index).cpu().numpy(),
        label=np.asarray(images.labels),
        logits=torch.cat(logits).cpu().numpy(),
        classes=images.classes,
        superclasses=images.superclasses,
        superclass_of=images.superclass_of,
    )
    predictions.verify(outcome, len(images))
    return outcome
