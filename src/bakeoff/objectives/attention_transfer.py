"""Attention transfer: at each stage the student learns where the teacher's maps are large.

Paper:   Zagoruyko and Komodakis, "Paying More Attention to Attention", 2016. https://arxiv.org/abs/1612.03928
Follows: section 3.1, activations, p = 2, and the authors' code: the mean over batch and positions of the squared
         difference of unit vectors (the paper writes their distance, unsquared), summed over the stages, times 1000.
Differs: maps of different sizes are averaged to the smaller, as in RepDistiller and mdistiller; the authors had
         none. There torch's adaptive pooling does it, which has no deterministic gradient on a GPU; here the same
         windows.
Checked: by hand; values and gradients in float64 against the authors' attention-transfer, the same to the bit, and
         with unequal sizes against mdistiller and RepDistiller, to 1e-15.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.objectives.outcome import Shape


class AttentionTransfer(nn.Module):
    """The squared difference of the attention maps of all stages. It has no weights.

    Args:
        student: the shapes of the maps of the student's stages.
        teacher: the shapes of the teacher's.

    Raises:
        RecipeError: the two have different numbers of stages.
    """

    names: tuple[str, ...] = ("attention",)

    def __init__(self, *, student: Sequence[Shape], teacher: Sequence[Shape]) -> None:
        super().__init__()
        if len(student) != len(teacher):
            found = f"a student of {len(student)} stages and a teacher of {len(teacher)}"
            raise RecipeError("objective", found=found, expected="attention_transfer between as many stages")
        self.sizes = [(min(s[1], t[1]), min(s[2], t[2])) for s, t in zip(student, teacher, strict=True)]

    def forward(self, maps: tuple[Tensor, ...], taught_maps: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Compare the maps [b c h w] of all stages."""
        differences = [
            (attention(pool(student, size)) - attention(pool(teacher, size))).square().mean()
            for student, teacher, size in zip(maps, taught_maps, self.sizes, strict=True)
        ]
        return {"attention": torch.stack(differences).sum()}


def attention(maps: Tensor) -> Tensor:
    """Return where maps [b c h w] are large: their squares, the mean over channels, as unit vectors [b h*w]."""
    return F.normalize(maps.square().mean(1).flatten(1))


def pool(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Average maps [b c h w] to [b c *size], no larger, by the windows of torch's adaptive pooling."""
    height, width = maps.shape[2:]
    if (height, width) == size:
        return maps
    if height % size[0] == 0 and width % size[1] == 0:
        return F.avg_pool2d(maps, (height // size[0], width // size[1]))
    return _average(_average(maps, size[0], dim=2), size[1], dim=3)


def _average(maps: Tensor, num: int, *, dim: int) -> Tensor:
    """Average a dimension to `num` windows, which overlap where `num` does not divide it."""
    length = maps.size(dim)
    bounds = [(i * length // num, -(-(i + 1) * length // num)) for i in range(num)]
    return torch.cat([maps.narrow(dim, a, b - a).mean(dim, keepdim=True) for a, b in bounds], dim=dim)
