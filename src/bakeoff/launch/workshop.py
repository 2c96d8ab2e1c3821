"""What a study's runs are made of, each part built once: networks without numbers, optimizers, objectives."""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from bakeoff import catalogue, objectives, optim
from bakeoff.data.augment import Augment
from bakeoff.data.mix import Mix
from bakeoff.errors import RecipeError
from bakeoff.models import cost, stages
from bakeoff.models.cost import Cost
from bakeoff.objectives import Taught
from bakeoff.optim import schedules
from bakeoff.recipe import Recipe
from bakeoff.results import store
from bakeoff.training import assembly, checkpoint

FREE = {"drop_path", "dropout", "attention_dropout"}  # options of networks that cost nothing: they act in training


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A network on the meta device, and what was read off it; `price` is None where it cannot be followed."""

    module: nn.Module
    price: Cost | None

    @property
    def params(self) -> int:
        """Return the number of trainable parameters."""
        return sum(p.numel() for p in self.module.parameters() if p.requires_grad)

    @property
    def size(self) -> int:
        """Its activations, or where they cannot be counted its weights."""
        return self.price.activations if self.price else self.params

    @property
    def num_bytes(self) -> int:
        """Return what its weights take on the disk."""
        return _bytes_of(self.module.state_dict().values())


@dataclass(slots=True)
class Workshop:
    """Every distinct network, and what every distinct optimizer keeps a byte of weights; each found out once.

    Args:
        root: the folder of all runs, where teachers are looked for.
        teachers: recipes of those that the study trains itself, by digest.
        networks: built so far.
        kept: bytes of state that an optimizer keeps for a byte of weights.
        devices: that were found to be there.
    """

    root: Path
    teachers: Mapping[str | None, Recipe]
    networks: dict[str, Network] = field(default_factory=dict)
    kept: dict[str, float] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)

    def network(self, recipe: Recipe) -> Network:
        """Return the network of a recipe.

        Raises:
            RecipeError: an unknown name or option, or pictures that it cannot take.
        """
        key = identity(recipe.model, recipe.data.source, min(2, recipe.batch_size // recipe.accumulate))
        if key not in self.networks:
            module = assembly.outline(recipe, plugin=None)
            self.networks[key] = Network(module=module, price=_price(recipe, module))
        return self.networks[key]

    def build(self, recipe: Recipe) -> None:
        """Build all parts of a run but its data.

        Raises:
            RecipeError: one of them cannot be built, or does not suit the others.
        """
        if recipe.device not in self.devices:
            assembly.place(recipe.model_copy(update={"compile": False}))
            self.devices.add(recipe.device)
        channels, height, width = assembly.dataset(recipe).image_shape
        num_images(recipe)
        optim.build(model=self.network(recipe).module, **recipe.optimizer.model_dump())
        schedules.build(**recipe.schedule.model_dump())
        self.build_objective(recipe)
        Augment(**recipe.augment.model_dump()).check(height=height, width=width, channels=channels)
        Mix(**recipe.mix.model_dump())
        if (key := identity(recipe.optimizer)) not in self.kept:
            self.kept[key] = _kept(recipe)

    def build_objective(self, recipe: Recipe) -> None:
        """Build what the run minimises; a teacher is outlined as well, where its recipe is known."""
        dataset = assembly.dataset(recipe)
        shapes, of = None, self.teacher_of(recipe)
        if of is not None and of.data.source != recipe.data.source:
            found, expected = f"one of {of.data.name}", f"one of {recipe.data.name}, as its student"
            raise RecipeError("teacher", found=found, expected=expected)
        if recipe.objective.name in objectives.TAPS:
            taught = stages.shapes(self.network(recipe).module, dataset.image_shape, where="model")
            theirs = stages.shapes(self.network(of).module, dataset.image_shape, where="teacher") if of else taught
            shapes = (taught, theirs)
        teacher = _unasked if recipe.teacher is not None else None
        with torch.device("meta"):
            options = recipe.objective.model_dump(exclude={"class_weights"})  # which need the pictures' labels
            objectives.build(teacher=teacher, shapes=shapes, **options)

    def teacher_of(self, recipe: Recipe) -> Recipe | None:
        """Return the recipe of the network that it learns from, where one is known.

        Raises:
            RecipeError: there is no such teacher.
        """
        if recipe.teacher is None:
            return None
        name = recipe.teacher.name
        if name.startswith(catalogue.RANDOM):
            model = recipe.model.model_validate({"name": name.removeprefix(catalogue.RANDOM)})
            return recipe.model_copy(update={"model": model})
        if recipe.teacher.digest in self.teachers:
            return self.teachers[recipe.teacher.digest]
        if name.startswith(catalogue.TIMM) or os.path.isfile(name):
            return None
        return store.find(name, root=self.root).recipe()

    def run_bytes(self, recipe: Recipe) -> int:
        """Estimate what a run leaves on the disk: two sets of weights, two checkpoints, predictions."""
        weights = self.network(recipe).num_bytes
        state = weights * (1 + bool(recipe.ema_decay) + self.kept[identity(recipe.optimizer)])
        _, val, test = num_images(recipe)
        row = 4 * assembly.dataset(recipe).num_classes + 16  # logits, index, label
        return int(2 * weights + checkpoint.KEEP * state + (val + test) * row)


def _unasked(x: torch.Tensor) -> Taught:
    """Stand for a teacher where objectives are built and none is asked."""
    raise AssertionError(x.shape)


def _price(recipe: Recipe, module: nn.Module) -> Cost | None:
    """Return what a network costs: looked up where that was counted before."""
    dataset = assembly.dataset(recipe)
    known = catalogue.costs().get(recipe.model.name)
    if (
        known
        and FREE.issuperset(recipe.model.options)
        and (dataset.num_classes, dataset.image_shape) == (100, (3, 32, 32))
    ):
        return Cost(**dataclasses.asdict(known))
    return assembly.followed(cost.cost, module, dataset.image_shape)


def _kept(recipe: Recipe) -> float:
    """Return what an optimizer keeps between steps, for a byte of weights: by one step of a small network."""
    small = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 64, 3), nn.Conv2d(64, 8, 3))
    optimizer = optim.build(model=small, **recipe.optimizer.model_dump())
    for p in small.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    return _bytes_of(v for state in optimizer.state.values() for v in state.values()) / _bytes_of(small.parameters())


def _bytes_of(values: Iterable[object]) -> int:
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, torch.Tensor))


def num_images(recipe: Recipe) -> tuple[int, int, int]:
    """Return how many images train, validate and test.

    Raises:
        RecipeError: more images are asked for than there are, fewer than fill a batch, none to validate on.
    """
    dataset = assembly.dataset(recipe)
    apart = dataset.num_val if recipe.protocol == "dev" else 0
    there, test = dataset.num_train - apart, dataset.num_test
    limit = recipe.data.limit or there
    if limit > there:
        raise RecipeError("data.limit", found=f"{limit}", expected=f"1 to the {there} that {recipe.data.name} has")
    rest = limit - min(limit, dataset.num_classes)  # one of each class is trained on
    val = min(round(recipe.data.val_fraction * limit), rest) if recipe.protocol == "dev" else 0
    if apart:
        val, limit = apart, limit + apart
    if recipe.protocol == "dev" and not val:
        found = f"{recipe.data.val_fraction}, which leaves none of {limit} images for validation"
        raise RecipeError("data.val_fraction", found=found, expected="at least one validation image in protocol dev")
    if recipe.batch_size > limit - val:
        expected = f"1 to {limit - val}, the number of training images"
        raise RecipeError("batch_size", found=f"{recipe.batch_size}", expected=expected)
    return limit - val, val, test


def identity(*parts: object) -> str:
    """Return equal texts for equal parts of recipes."""
    return json.dumps([part.model_dump(mode="json") if hasattr(part, "model_dump") else part for part in parts])
