"""The teacher of a distillation: found, compared with the student's data, measured, and only then believed.

A teacher that knows nothing distils noise, and a comparison of ways to distil it says nothing. So its accuracy on
images of the student's data is measured before the first step, and one near chance is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff import catalogue, models, objectives
from bakeoff.data import images as splits
from bakeoff.data.images import ImageSet
from bakeoff.errors import DataError, RecipeError, ResumeRefused
from bakeoff.models import stages, timm
from bakeoff.objectives import Taught
from bakeoff.recipe import Recipe
from bakeoff.results import teachers
from bakeoff.results.store import Run
from bakeoff.training import teacher_check, weights
from bakeoff.training.device import Device
from bakeoff.training.evaluate import evaluate

MOST_IMAGES = 5_000  # of the training images that it is measured on where none are held out


@dataclass(frozen=True, kw_only=True, slots=True)
class Teacher:
    """A measured teacher. Called with what the student sees, it says what it makes of it.

    Args:
        seen: as called in training: on its device, compiled or not, in evaluation mode.
        tapped: whether it puts out the maps of its stages too.
        shapes: of these maps.
        figures: of its measuring, for the record.
        answers: the class that it takes each of the student's validation images for; None where there are none.
    """

    seen: nn.Module
    tapped: bool
    shapes: Sequence[stages.Shape]
    figures: Mapping[str, Any]
    answers: np.ndarray | None

    def __call__(self, x: Tensor) -> Taught:
        """Look at a batch [b c h w], as the student is shown it."""
        with torch.inference_mode():
            out = self.seen(x)
        logits, maps = out if self.tapped else (out, ())
        # Copies, made outside: what is made in inference mode may not be kept for the student's backward pass.
        return Taught(logits=logits.to(torch.float32, copy=True), maps=tuple(map_.clone() for map_ in maps))

    def agreement(self, logits: np.ndarray) -> float | None:
        """Return the share of the validation images that a student [n classes] takes for the same class."""
        return None if self.answers is None else float((logits.argmax(1) == self.answers).mean())


class View(nn.Module):
    """A network behind what another is shown: its own normalisation of the pictures, and its own size.

    Args:
        network: the teacher's.
        shown: mean and standard deviation a channel, by which the pictures were normalised.
        own: those that it was trained with.
        size: pixels to which pictures are resized; None leaves them.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(
        self, network: nn.Module, *, shown: Sequence[Sequence[float]], own: Sequence[Sequence[float]], size: int | None
    ) -> None:
        super().__init__()
        (mean, std), (own_mean, own_std) = (
            [torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in pair] for pair in (shown, own)
        )
        same = torch.equal(mean, own_mean) and torch.equal(std, own_std)
        self.register_buffer("scale", None if same else (std / own_std).float())
        self.register_buffer("shift", None if same else ((mean - own_mean) / own_std).float())
        self.size = size
        self.network = network

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - what the network gives
        """Map pictures [b c h w] to what the network makes of them."""
        if self.scale is not None and self.shift is not None:
            x = x * self.scale + self.shift
        if self.size is not None:
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True)
        return self.network(x)


def load(
    recipe: Recipe,
    *,
    images: ImageSet,
    val: ImageSet | None,
    index: np.ndarray,
    device: Device,
    root: Path,
    key: int,
) -> Teacher:
    """Find the recipe's teacher, compare it with the data, and measure it.

    Args:
        recipe: of the student.
        images: what the student trains on.
        val: what it is chosen on; None where nothing is held out.
        index: in the source, of what it is chosen on, or else of what it trains on.
        device: of the run.
        root: the folder of all runs, where a teacher is looked for.
        key: the seed of a random teacher's weights.

    Raises:
        RecipeError: no such teacher, or no stages where the objective looks at them.
        DataError: it was trained on other classes, another order of them or another size of pictures; its logits are
            not finite; it is no better than chance.
    """
    assert recipe.teacher is not None
    name = recipe.teacher.name
    network, card = _network(recipe, images, root=root, key=key)
    size = teacher_check.compare(card, images, name=name, resize=recipe.teacher.resize)
    network = device.place(network.requires_grad_(False).eval())
    shapes = _shapes(network, card, name=name) if recipe.objective.name in objectives.TAPS else []

    def behind_view(network: nn.Module) -> nn.Module:
        shown, own = (images.mean, images.std), (card["mean"], card["std"])
        return View(network, shown=shown, own=own, size=size).to(device.kind).eval()

    view = behind_view(network)
    measured = val if val is not None else _sample(images, seed=recipe.seed)
    said = evaluate(view, measured, device=device)
    temperature = getattr(recipe.objective, "temperature", 1.0)
    standardise = getattr(recipe.objective, "standardise", False)
    figures = teacher_check.measure(
        said.logits, said.label, temperature=temperature, name=name, standardise=standardise
    )
    seen = behind_view(stages.Tapped(network, stages.names(network))) if shapes else view
    origin = {
        "name": name,
        "digest": recipe.teacher.digest,
        "model": card["model"],
        "sha256": weights.digest(network.state_dict()),
        "measured_on": "validation" if val is not None else "training",
        "seen": teacher_check.share_seen(recipe.teacher, index, root=root),
    }
    return Teacher(
        seen=device.compile(seen),
        tapped=bool(shapes),
        shapes=shapes,
        figures=origin | figures,
        answers=said.logits.argmax(1) if val is not None else None,
    )


def write(teacher: Teacher, run: Run) -> None:
    """Write the figures into the run's folder; where they stand already, hold the teacher to them.

    Raises:
        ResumeRefused: the weights are not those that the run began with.
    """
    before = run.read_json(run.teacher_path)
    if before and before.get("sha256") != teacher.figures["sha256"]:
        raise ResumeRefused(
            str(run.teacher_path),
            found=f"a teacher with other weights ({str(teacher.figures['sha256'])[:12]})",
            expected=f"{str(before.get('sha256'))[:12]}, which the run began with",
            hint="The teacher has changed since. Train anew under another name.",
        )
    run.write_json(run.teacher_path, teacher.figures)


def _network(recipe: Recipe, images: ImageSet, *, root: Path, key: int) -> tuple[nn.Module, Mapping[str, Any]]:
    """Return the teacher's network and its card."""
    assert recipe.teacher is not None
    name, (channels, size, _) = recipe.teacher.name, images.shape
    num_classes = len(images.classes)
    if name.startswith(catalogue.RANDOM):
        model = name.removeprefix(catalogue.RANDOM)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key)
            network = models.build(model, num_classes=num_classes, in_channels=channels, image_size=size)
        same = {"classes": list(images.classes), "image_shape": list(images.shape)}
        return network, {"model": model, "mean": images.mean, "std": images.std, **same}
    if name.startswith(catalogue.TIMM):
        return timm.pretrained(name.removeprefix(catalogue.TIMM))
    path = teachers.weights(recipe.teacher, root=root)
    state, card = weights.read(path, device=torch.device("cpu"))
    teacher_check.check_card(card, where=f"teacher {path}")
    return _rebuild(card, state, path=path), card


def _rebuild(card: Mapping[str, Any], state: Mapping[str, Tensor], *, path: Path) -> nn.Module:
    """Build the network that a card names and give it its weights. A plug-in is refused: a file would run code."""
    expected = "weights of a network of the catalogue, whose card describes it"
    try:
        channels, size, _ = card["image_shape"]
        model, options = str(card["model"]), dict(card["options"])
        if catalogue.is_plugin(model):
            raise DataError(f"teacher {path}", found=f"a plug-in ('{model}'), which would run code", expected=expected)
        network = models.build(
            model, num_classes=len(card["classes"]), in_channels=channels, image_size=size, **options
        )
        network.load_state_dict(state)
    except (RecipeError, RuntimeError, LookupError, TypeError, ValueError) as error:
        found = f"a card or weights that do not fit ({' '.join(str(error).split())[:200]})"
        raise DataError(f"teacher {path}", found=found, expected=expected) from None
    return network


def _shapes(network: nn.Module, card: Mapping[str, Any], *, name: str) -> list[stages.Shape]:
    channels, height, width = card["image_shape"]
    return stages.shapes(network, (channels, height, width), where=f"teacher {name}")


def _sample(images: ImageSet, *, seed: int) -> ImageSet:
    """Return training images to measure a teacher on: some of each class."""
    if len(images) <= MOST_IMAGES:
        return images
    return images.take(splits.limit(images.labels, num_images=MOST_IMAGES, seed=seed))
