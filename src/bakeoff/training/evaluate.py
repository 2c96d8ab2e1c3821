"""Evaluation: logits of every image, each index once, by however many ranks. Metrics come from them, without torch.

Ranks take turns at batches, which are the same however many there are: so are the logits, to the last bit.
"""

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

    All ranks of a run take part, and all have the whole answer.

    Raises:
        VerificationFailed: an index is missing or doubled.
    """
    was_training = model.training
    model.eval()
    logits, index = [torch.empty(0, len(images.classes), device=device.kind)], [torch.empty(0, dtype=torch.int64)]
    with torch.inference_mode(), device.autocast():
        turns, layout = device.ranks.turns, device.memory_format
        for x, positions in plain(images, batch_size=BATCH, device=device.kind, take=turns, layout=layout):
            logits.append(model(x).float())
            index.append(positions)
    model.train(was_training)
    found = device.ranks.gather((torch.cat(index).numpy(), torch.cat(logits).cpu().numpy()))
    places = np.concatenate([of_rank for of_rank, _ in found])
    order = np.argsort(places, kind="stable")
    outcome = Predictions(
        index=places[order],
        label=np.asarray(images.labels),
        logits=np.concatenate([of_rank for _, of_rank in found])[order],
        classes=images.classes,
        superclasses=images.superclasses,
        superclass_of=images.superclass_of,
    )
    predictions.verify(outcome, len(images))
    return outcome
