"""gMLP: an MLP per token, half of whose hidden channels is gated by the other half, mixed over the tokens.

Paper:   Liu et al., "Pay Attention to MLPs", 2021. https://arxiv.org/abs/2105.08050
Follows: section 2 and its pseudo-code; table 1 for gMLP-Ti (30 blocks, 128 channels, 768 hidden; 5,867,328 parameters
         with patches of 16, 224-pixel pictures and 1000 classes). Matrices over tokens start near zero with biases of
         one, so that each block starts as a plain MLP (section 2.1).
Differs: below 128 pixels patches are 4x4, so that 32-pixel pictures give 64 tokens, not 4 (the matrices over tokens
         follow the number of tokens, so weights of the two forms do not fit each other). What the paper leaves open:
         the head is norm, mean over the tokens, matrix, and eps is 1e-6 (1e-5 in the gate), as in timm; filters and
         matrices start normal with variance 1 / fan_in, as in the official code of MLP-Mixer, the last matrix small.
Checked: logits and gradients against timm 1.0.31: gMLP-Ti at patch 4, and gmlp_ti16_224 at 64 pixels.
"""

from typing import Final

import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.frames import TokenNet
from bakeoff.models.layers import DropPath, TokenLinear, choose_patch, drop_path_rates, refuse_below_one

# Renames a key of timm's state dict to ours.
FROM_TIMM: Final = ((r"^stem\.proj\.", "stem."), (r"\.mlp_channels\.", "."))


class SpatialGate(nn.Module):
    """Multiply one half of the channels by the other, normalised and mixed over the tokens (equations 2 to 4)."""

    def __init__(self, width: int, num_tokens: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width // 2)
        self.proj = TokenLinear(num_tokens, num_tokens)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b tokens width] to [b tokens width/2]."""
        passed, gate = x.chunk(2, dim=-1)
        out: Tensor = passed * self.proj(self.norm(gate))
        return out


class Block(nn.Module):
    """Norm, matrix up, GELU, gate, matrix down (equation 1); and the input added."""

    def __init__(self, width: int, num_tokens: int, *, hidden_width: int, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.fc1 = nn.Linear(width, hidden_width)
        self.gate = SpatialGate(hidden_width, num_tokens)
        self.fc2 = nn.Linear(hidden_width // 2, width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b tokens width] to the same shape."""
        out: Tensor = x + self.drop_path(self.fc2(self.gate(F.gelu(self.fc1(self.norm(x))))))
        return out


def gmlp(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: int = 128,
    depth: int = 30,
    patch_size: int | str = "auto",
    mlp_ratio: float = 6.0,
    drop_path: float = 0.0,
) -> TokenNet:
    """Build a gMLP; the default is the paper's gMLP-Ti.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: height and width of a picture in pixels, a multiple of the patch.
        width: channels of a token.
        depth: blocks.
        patch_size: height and width of a patch in pixels; "auto" is 4 below 128-pixel pictures, else the paper's 16.
        mlp_ratio: hidden width of a block over `width`; the gate halves it.
        drop_path: chance of the last block's branch to be dropped, linearly less before.

    Raises:
        RecipeError: an option out of range, a patch that does not divide the picture, a hidden width that is odd.
    """
    refuse_below_one(width=width, depth=depth)
    hidden_width = round(width * mlp_ratio)
    if hidden_width < 2 or hidden_width % 2:
        expected = f"a ratio that makes {width} channels an even number, 2 or more: a gate halves it"
        raise RecipeError("model.mlp_ratio", found=f"{mlp_ratio}", expected=expected)
    patch = choose_patch(patch_size, image_size)
    network = TokenNet(
        num_classes=num_classes,
        in_channels=in_channels,
        patch_size=patch,
        width=width,
        blocks=[
            Block(width, (image_size // patch) ** 2, hidden_width=hidden_width, drop_path=rate)
            for rate in drop_path_rates(drop_path, depth)
        ],
    )
    for module in network.modules():
        if isinstance(module, TokenLinear):
            nn.init.normal_(module.weight, std=1e-6)
            nn.init.ones_(module.bias)
    return network
