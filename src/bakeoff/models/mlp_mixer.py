"""MLP-Mixer: matrices over the tokens and matrices over the channels, in turns.

Paper:   Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision", 2021. https://arxiv.org/abs/2105.01601
Follows: section 2 and the official Flax code: LayerNorm eps 1e-6, filters and matrices start normal with variance
         1 / fan_in. With 768 channels, patches of 16 and 224-pixel pictures it is table 1's Mixer-B/16: 59,188,372
         parameters at 100 classes.
Differs: below 128 pixels patches are 4x4, so that 32-pixel pictures give 64 tokens, not 4 (57,417,316 parameters:
         the matrices over tokens follow the number of tokens, so weights of the two forms do not fit each other);
         the last matrix starts small, not at zero, so that the first step trains every layer. `mlp_mixer_tiny` is ours:
         192 channels and 12 blocks by the paper's ratios (tokens 1/2, channels 4), 3,738,148 parameters.
Checked: logits and gradients against timm 1.0.31: mlp_mixer_tiny; mlp_mixer_b16 at patch 4, and at patch 16 and 64
         pixels, both with the first two of its blocks; names and shapes of all its weights at 224 pixels.
"""

from collections.abc import Sequence
from typing import Final

import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.frames import TokenNet
from bakeoff.models.layers import DropPath, Mlp, TokenLinear, choose_patch, drop_path_rates, refuse_below_one

# Renames a key of timm's state dict to ours.
FROM_TIMM: Final = ((r"^stem\.proj\.", "stem."),)


class TokenMlp(nn.Module):
    """Two matrices with a GELU between them, over the token axis."""

    def __init__(self, num_tokens: int, hidden_width: int) -> None:
        super().__init__()
        self.fc1 = TokenLinear(num_tokens, hidden_width)
        self.fc2 = TokenLinear(hidden_width, num_tokens)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b tokens c] to the same shape."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Mix the tokens of each channel, then the channels of each token (figure 1, equation 1).

    The bias of `mlp_tokens.fc2` adds one number to all channels of a token, which every norm takes out again: it
    changes nothing and gets no gradient but rounding. It stays, as all counts and weights of Mixers have it.
    """

    def __init__(self, width: int, num_tokens: int, *, hidden_widths: Sequence[int], drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.mlp_tokens = TokenMlp(num_tokens, hidden_widths[0])
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp_channels = Mlp(width, hidden_widths[1])
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b tokens width] to the same shape."""
        x = x + self.drop_path(self.mlp_tokens(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp_channels(self.norm2(x)))
        return out


def mlp_mixer(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: int = 192,
    depth: int = 12,
    patch_size: int | str = "auto",
    mlp_ratio: Sequence[float] = (0.5, 4.0),
    drop_path: float = 0.0,
) -> TokenNet:
    """Build an MLP-Mixer; the default is our `mlp_mixer_tiny`.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: height and width of a picture in pixels, a multiple of the patch.
        width: channels of a token.
        depth: blocks.
        patch_size: height and width of a patch in pixels; "auto" is 4 below 128-pixel pictures, else the paper's 16.
        mlp_ratio: hidden widths of the MLPs over tokens and over channels, both as multiples of `width`.
        drop_path: chance of the last block's branches to be dropped, linearly less before.

    Raises:
        RecipeError: an option out of range, a patch that does not divide the picture.
    """
    refuse_below_one(width=width, depth=depth)
    hidden_widths = [round(width * ratio) for ratio in mlp_ratio]
    if len(hidden_widths) != 2 or min(hidden_widths) < 1:
        expected = "two ratios, for tokens and for channels, each of 1/width or more"
        raise RecipeError("model.mlp_ratio", found=f"{list(mlp_ratio)}", expected=expected)
    patch = choose_patch(patch_size, image_size)
    return TokenNet(
        num_classes=num_classes,
        in_channels=in_channels,
        patch_size=patch,
        width=width,
        blocks=[
            Block(width, (image_size // patch) ** 2, hidden_widths=hidden_widths, drop_path=rate)
            for rate in drop_path_rates(drop_path, depth)
        ],
    )
