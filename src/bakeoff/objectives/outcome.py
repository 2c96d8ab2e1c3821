"""What every objective takes and gives, and what a distillation is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from bakeoff.errors import RecipeError

Shape = tuple[int, int, int]  # of one picture's maps: channels, height, width


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The result of one forward pass in training.

    Attributes:
        logits: [b classes], in the precision of the targets.
        loss: [], the mean over the batch; what the step descends.
        terms: what each term adds to the loss, [] each and without gradient: weighted, so that they sum to it.
            Empty where the loss has one term.
    """

    logits: Tensor
    loss: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Taught:
    """What a teacher says of a batch, without gradient.

    Not from under `torch.inference_mode`: the student's gradient is computed with these tensors.

    Attributes:
        logits: [b classes], in float32.
        maps: of the tapped stages, [b c h w] each, in the order of the student's.
    """

    logits: Tensor
    maps: tuple[Tensor, ...] = ()


Teacher = Callable[[Tensor], Taught]


class Objective(Protocol):
    """What a run minimises: the same loop for plain classification and for every distillation."""

    def __call__(self, model: nn.Module, x: Tensor, targets: Tensor, *, progress: float = 0.0) -> Outcome:
        """Run the model on x [b c h w] and compare with the soft targets [b classes].

        Args:
            model: what is trained.
            x: a batch of pictures.
            targets: one row a picture, which sums to one.
            progress: the share of the run that is done, in [0, 1).
        """
        ...


def adapter(objective: Objective) -> nn.Module | None:
    """Return the objective's own small modules, which are trained and then dropped; None where it has none."""
    return objective if isinstance(objective, nn.Module) and any(True for _ in objective.parameters()) else None


class LogitTerm(Protocol):
    """A loss between the logits of a student and of its teacher."""

    @property
    def names(self) -> tuple[str, ...]:
        """What its parts are called."""
        ...

    def __call__(self, logits: Tensor, taught: Tensor, targets: Tensor, *, progress: float) -> dict[str, Tensor]:
        """Return each part, [], by its name, weighted among themselves as the paper has them.

        Args:
            logits: [b classes], the student's, in the precision of the targets, as are the teacher's.
            taught: [b classes], the teacher's.
            targets: [b classes], soft.
            progress: the share of the run that is done, in [0, 1).
        """
        ...


class MapTerm(Protocol):
    """A loss between the maps of a student's stages and of its teacher's; a module, that may have weights."""

    @property
    def names(self) -> tuple[str, ...]:
        """What its parts are called."""
        ...

    def __call__(self, maps: tuple[Tensor, ...], taught_maps: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Return each part, [], by its name, from the maps [b c h w] of all stages."""
        ...


def require(option: str, value: float, *, fits: bool, expected: str) -> None:
    """Refuse the value of an option that does not fit.

    Raises:
        RecipeError: it does not.
    """
    if not fits:
        raise RecipeError(f"objective.{option}", found=f"{value}", expected=expected)
