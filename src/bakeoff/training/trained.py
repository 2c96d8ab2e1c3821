"""A finished run as something to use: its chosen weights, and what they need to be shown a picture."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bakeoff.data.decode import Fit
from bakeoff.data.images import ImageSet
from bakeoff.errors import DataError, RecipeError, nearest
from bakeoff.recipe import Recipe
from bakeoff.results.predictions import Predictions
from bakeoff.results.store import Run
from bakeoff.training import assembly, autotune, weights
from bakeoff.training.device import Device, Way
from bakeoff.training.evaluate import evaluate

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in grey: ITU-R BT.601, as Pillow's


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A network that was trained, with all that its pictures go through.

    Args:
        run: whose chosen weights these are.
        recipe: of the run.
        network: on its device, in evaluation mode; maps x float32 [b c h w], normalised, to logits [b classes].
        device: where it is.
        card: what stands beside the weights.
    """

    run: Run
    recipe: Recipe
    network: nn.Module
    device: Device
    card: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """A name a logit."""
        return tuple(self.card["classes"])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the pictures that it takes."""
        channels, height, width = self.card["image_shape"]
        return channels, height, width

    @property
    def mean(self) -> tuple[float, ...]:
        """What is taken from each channel, in units of [0, 1]."""
        return tuple(self.card["mean"])

    @property
    def std(self) -> tuple[float, ...]:
        """What each channel is then divided by, likewise."""
        return tuple(self.card["std"])

    @property
    def fit(self) -> Fit:
        """How a picture of another shape becomes a square."""
        fit: Fit = self.card.get("fit", "squash")
        return fit

    @property
    def shown(self) -> dict[str, Any]:
        """How own pictures are brought to its size, as `data.load` is told."""
        return {"size": self.image_shape[1], "fit": self.fit}

    def matched(self, images: ImageSet) -> ImageSet:
        """Return pictures with labels in the order of the network's classes, matched by name.

        Raises:
            DataError: classes that it was not trained on.
        """
        index = {name: number for number, name in enumerate(self.classes)}
        if strangers := [name for name in images.classes if name not in index]:
            found = f"classes that it was not trained on ({', '.join(strangers[:5])})"
            hint = nearest(strangers[0], index)
            raise DataError(str(self.run.folder), found=found, expected="pictures of its own classes", hint=hint)
        number_of = np.array([index[name] for name in images.classes], dtype=np.int64)
        return replace(images, labels=number_of[images.labels], classes=self.classes, superclasses=(), superclass_of=())

    def pictures(self, pixels: NDArray[np.uint8]) -> ImageSet:
        """Return decoded pictures, uint8 [n h w 3], as a set that the network can be shown; grey where it is.

        The labels are none: all are of the first class.
        """
        if self.image_shape[0] == 1:
            pixels = np.rint(pixels @ LUMA).astype(np.uint8)[..., np.newaxis]
        return ImageSet(
            images=pixels.transpose(0, 3, 1, 2),
            labels=np.zeros(len(pixels), dtype=np.int64),
            classes=self.classes,
            mean=self.mean,
            std=self.std,
            fingerprint="",
        )

    def evaluate(self, images: ImageSet) -> Predictions:
        """Return the logits of every picture of the network's size, normalised as its own were.

        Raises:
            DataError: pictures of another size.
        """
        if images.shape != self.image_shape:
            found, expected = ("x".join(map(str, shape)) for shape in (images.shape, self.image_shape))
            raise DataError(str(self.run.folder), found=f"pictures of {found}", expected=expected)
        return evaluate(self.network, replace(images, mean=self.mean, std=self.std), device=self.device)


def load(run: Run, *, plugin: str | None = None, device: str | None = None) -> Trained:
    """Load the chosen weights of a finished run.

    Args:
        run: finished.
        plugin: the `package.module:function` that may be imported as its network.
        device: auto, cpu, cuda or mps; None is that of its recipe.

    Raises:
        RecipeError: the run is not finished, or a device that is not there.
        DataError: its weights are missing, damaged or of another network.
    """
    recipe = run.recipe()
    if run.read_json(run.summary_path).get("epochs") != recipe.epochs:
        raise RecipeError(
            str(run.folder),
            found="a run that is not finished",
            expected="a finished run",
            hint=f"Go on by: bakeoff resume {run.folder}",
        )
    began = autotune.recorded(run.read_json(run.environment_path), num_ranks=1)
    there = recipe if device is None else recipe.model_copy(update={"device": device})
    place = assembly.place(there, decided=Way(precision=began.precision))  # what was trained in float32 answers in it
    path = run.weights("best")
    state, card = weights.read(path, device=place.kind)
    shape = tuple(card["image_shape"])
    network = assembly.build(recipe, num_classes=card["num_classes"], image_shape=shape, plugin=plugin)
    network = place.place(network)
    _fill(network, state, where=path)
    return Trained(run=run, recipe=recipe, network=network.eval(), device=place, card=card)


def _fill(network: nn.Module, state: Mapping[str, torch.Tensor], *, where: Path) -> None:
    """Put weights into a network, which may be a plug-in that has changed since.

    Raises:
        DataError: they do not fit.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        found = f"weights of another network ({' '.join(str(error).split())[:200]})"
        raise DataError(str(where), found=found, expected="the weights of the network as it is built now") from None
