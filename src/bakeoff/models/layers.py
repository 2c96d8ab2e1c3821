"""Layers that have no paper, or more than one: what the networks of this room share; their frames are in frames.py."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.convolution import Convolution
from bakeoff.models.depthwise import Depthwise

# Pictures below this size get the small form of a network: the strides of its beginning are left out.
SMALL_BELOW_PX = 128


def conv(in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Make a convolution without bias (a normalisation follows) that keeps the size at stride 1."""
    if groups == in_channels == out_channels:
        return Depthwise(in_channels, kernel_size, stride=stride, bias=False)
    padding = kernel_size // 2
    kind = Convolution if groups == 1 else nn.Conv2d
    return kind(in_channels, out_channels, kernel_size, stride=stride, padding=padding, groups=groups, bias=False)


class LayerNorm2d(nn.LayerNorm):
    """Normalise over the channels of each pixel; in channels-last memory the permutations move nothing."""

    def __init__(self, width: int, *, eps: float = 1e-6) -> None:
        super().__init__(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b c h w] to the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TokenLinear(nn.Linear):
    """A matrix with bias over the token axis, where `nn.Linear` has one over the last."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in c] to [b out c]; without transposing, which would copy the pictures both ways."""
        # Not matmul: with a weight that is trained it transposes and copies all the same.
        return torch.baddbmm(self.bias[:, None], self.weight.expand(x.shape[0], -1, -1), x)


class Mlp(nn.Module):
    """Two matrices with a GELU between them, over the last axis."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden_width)
        self.fc2 = nn.Linear(hidden_width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [... width] to the same shape."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class DropPath(nn.Module):
    """While training, drop a residual branch per picture, and scale the others so that the mean stays.

    Source: Huang et al., "Deep Networks with Stochastic Depth", 2016, https://arxiv.org/abs/1603.09382,
    section 3; the chance grows linearly with depth, see `drop_path_rates`.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Map [b ...] to the same shape."""
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        kept = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * (kept / keep)

    def extra_repr(self) -> str:
        """Show the rate where the network is printed."""
        return f"rate={self.rate:g}"


def drop_path_rates(drop_path: float, num_blocks: int) -> list[float]:
    """Return the chance of each block to be dropped: 0 for the first, linearly up to `drop_path` for the last.

    Raises:
        RecipeError: a chance outside [0, 1).
    """
    if not 0 <= drop_path < 1:
        raise RecipeError("model.drop_path", found=f"{drop_path}", expected="a chance in [0, 1)")
    return [drop_path * i / max(num_blocks - 1, 1) for i in range(num_blocks)]


def choose_stem(stem: str, image_size: int, *, known: Sequence[str] = ("small", "imagenet")) -> str:
    """Return which beginning a network gets: what was asked for, or for "auto" what suits the picture's size.

    Raises:
        RecipeError: a stem that is neither "auto" nor known.
    """
    if stem == "auto":
        return "small" if image_size < SMALL_BELOW_PX else "imagenet"
    if stem not in known:
        raise RecipeError("model.stem", found=f"{stem!r}", expected=f"auto, {' or '.join(known)}")
    return stem


def choose_patch(patch_size: int | str, image_size: int) -> int:
    """Return the height and width of a patch in pixels: what was asked for, or for "auto" what suits the size.

    Raises:
        RecipeError: a patch that does not divide the picture.
    """
    if patch_size == "auto":
        patch_size = 4 if image_size < SMALL_BELOW_PX else 16
    if isinstance(patch_size, str) or patch_size < 1 or image_size % patch_size:
        expected = f"auto, or a divisor of the picture's {image_size} px"
        raise RecipeError("model.patch_size", found=f"{patch_size!r}", expected=expected)
    return patch_size


def refuse_smaller(image_size: int, *, than: int) -> None:
    """Refuse pictures that the strides of a network would divide to nothing.

    Raises:
        RecipeError: `image_size` is below `than` pixels.
    """
    if image_size < than:
        raise RecipeError(
            "model",
            found=f"pictures of {image_size} px",
            expected=f"{than} px or more for this network, whose strides divide the picture",
            hint="Larger pictures, or a network with fewer stages, such as resnet_20.",
        )


def refuse_below_one(**options: int) -> None:
    """Refuse counts that count nothing.

    Raises:
        RecipeError: naming the first option below 1.
    """
    for key, count in options.items():
        if count < 1:
            raise RecipeError(f"model.{key}", found=f"{count}", expected="1 or more")


def refuse_even(kernel_size: int) -> None:
    """Refuse filters without a middle.

    Raises:
        RecipeError: `kernel_size` is not an odd number of 1 or more.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise RecipeError("model.kernel_size", found=f"{kernel_size}", expected="an odd number, such as 3, 5 or 7")


def _small(weight: Tensor) -> Tensor:
    return nn.init.normal_(weight, std=0.01)


def initialise(network: nn.Module, *, matrices: Callable[[Tensor], Tensor] = _small) -> None:
    """Draw the first weights of a convolutional network from torch's global generator, which the caller seeds.

    Filters: normal with variance 2 / fan_out, so that the gradient keeps its size through ReLUs; a filter of a
    group is counted with its own group only, which torch's own function does not see. Matrices: by default normal
    with standard deviation 0.01, so that the first loss is the logarithm of the number of classes at any depth;
    torch's own default starts a 110-layer net above it. Biases: zero.

    Source: He et al. 2015, https://arxiv.org/abs/1502.01852, section 2.2, backward case; Goyal et al.
    2017, https://arxiv.org/abs/1706.02677, section 5.1, for the last layer.
    """
    for module in network.modules():
        match module:
            case nn.Conv2d():
                fan_out = module.out_channels // module.groups * module.weight[0, 0].numel()
                nn.init.normal_(module.weight, std=2**0.5 / fan_out**0.5)
            case nn.Linear():
                matrices(module.weight)
            case _:
                continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
