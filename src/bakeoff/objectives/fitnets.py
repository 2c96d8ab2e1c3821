"""Hints: a stage of the student learns to foretell the maps of the teacher's stage.

Paper:   Romero et al., "FitNets: Hints for Thin Deep Nets", 2014. https://arxiv.org/abs/1412.6550
Follows: section 2.2: a convolution without padding, as wide as the maps differ, takes the student's maps
         to the teacher's size; RepDistiller and mdistiller for the rest: where the teacher's are half or twice as
         large, a 3x3 convolution or a 4x4 transposed one at stride 2; then batch norm and ReLU; the mean over all
         numbers; the second stage, and a weight of 100 (CIFAR-100).
Differs: hints and labels from the first step to the last, as in those two; the paper trains up to the hint first,
         then all by distillation. As in those two the regressor ends in a ReLU, which suits stages that do: of maps
         with both signs it foretells the positive part.
Checked: by hand; in float64 with the same weights against mdistiller and RepDistiller: values, gradients (the
         student's and the regressor's) and the statistics of the norm, for six pairs of sizes, the same to the bit.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.objectives.outcome import Shape


class Hints(nn.Module):
    """The squared difference of the teacher's maps and what the regressor makes of the student's.

    The regressor's first weights come from torch's global generator, which the caller seeds. It is trained with the
    student, and dropped after.

    Args:
        stage: which, counted from 1.
        student: the shapes of the maps of the student's stages.
        teacher: the shapes of the teacher's.

    Raises:
        RecipeError: a stage that one of them lacks; maps that no convolution takes to the teacher's size.
    """

    names: tuple[str, ...] = ("hints",)

    def __init__(self, *, stage: int, student: Sequence[Shape], teacher: Sequence[Shape]) -> None:
        super().__init__()
        num_stages = min(len(student), len(teacher))
        if not 1 <= stage <= num_stages:
            expected = f"1 to {num_stages}, the stages that both have"
            raise RecipeError("objective.stage", found=f"{stage}", expected=expected)
        self.index = stage - 1
        width = teacher[self.index][0]
        conv = _convolution(student[self.index], teacher[self.index])
        self.regressor = nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))

    def forward(self, maps: tuple[Tensor, ...], taught_maps: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Compare the maps [b c h w] of that stage."""
        taught = taught_maps[self.index]
        foretold = self.regressor(maps[self.index])
        # Under autocast the regressor, as any network, puts out bfloat16.
        return {"hints": F.mse_loss(foretold.to(taught.dtype), taught)}


def _convolution(student: Shape, teacher: Shape) -> nn.Module:
    """Make what takes [b c h w] of the student's shape to the teacher's."""
    (in_width, *size), (width, *wanted) = student, teacher
    if size == [2 * pixels for pixels in wanted]:
        return nn.Conv2d(in_width, width, kernel_size=3, stride=2, padding=1)
    if [2 * pixels for pixels in size] == wanted:
        return nn.ConvTranspose2d(in_width, width, kernel_size=4, stride=2, padding=1)
    if size[0] < wanted[0] or size[1] < wanted[1]:
        shapes = ["x".join(map(str, shape)) for shape in (student, teacher)]
        found = f"a student whose maps are {shapes[0]}, and a teacher's of {shapes[1]}"
        raise RecipeError(
            "objective.stage", found=found, expected="a teacher's maps that are twice as large or no larger"
        )
    return nn.Conv2d(in_width, width, kernel_size=(1 + size[0] - wanted[0], 1 + size[1] - wanted[1]))
