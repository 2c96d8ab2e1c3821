"""Relative attention: every pixel asks every other, and a learned bias tells how far apart the two are.

Paper:   Dai et al., "CoAtNet: Marrying Convolution and Attention for All Data Sizes", 2021.
         https://arxiv.org/abs/2106.04803
Follows: equation 3 with the bias before the softmax; appendix A.1 for the table in two dimensions.
Differs: nothing. It has to know the size of its map, so it is no plug-in of the table: networks make it themselves.
Checked: with the network, logits and gradients against timm 1.0.31 coatnet_0_224.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RelativeAttention(nn.Module):
    """Attention over all pixels of a map, with a bias for each head and each offset between two pixels.

    The table and its offsets belong to one size of map: another size is another table.

    Args:
        in_width: channels that come in.
        width: channels that go out; a head has `width / num_heads` of them.
        num_heads: heads.
        side: height and width of the map; the table has (2*side - 1)^2 offsets.
        qkv_bias: whether queries, keys and values have a bias.
        position_bias: without it, attention does not see where a pixel is.
    """

    def __init__(
        self,
        in_width: int,
        width: int,
        *,
        num_heads: int,
        side: int,
        qkv_bias: bool = True,
        position_bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(in_width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)
        # The name ends in "bias", so that weight decay spares it.
        self.position_bias: nn.Parameter | None = None
        if position_bias:
            self.position_bias = nn.Parameter(torch.empty((2 * side - 1) ** 2, num_heads))
            nn.init.trunc_normal_(self.position_bias, std=0.02)
            self.register_buffer("offsets", number_offsets(side), persistent=False)
        self.offsets: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Map [b in h w] to [b width h w], in channels-last memory, where the permutations move nothing."""
        x = x.permute(0, 2, 3, 1)
        b, h, w, _ = x.shape
        # Head by head its queries, keys and values, as timm has them: three times [b heads h*w width/heads].
        q, k, v = self.qkv(x).view(b, h * w, self.num_heads, 3, -1).permute(3, 0, 2, 1, 4).unbind(0)
        bias = None
        if self.position_bias is not None:  # [1 heads h*w h*w]
            bias = self.position_bias.t()[None, :, self.offsets].to(q.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(b, h, w, -1))
        return out.permute(0, 3, 1, 2)


def number_offsets(side: int) -> Tensor:
    """Return, for each two pixels of a square map, which offset leads from one to the other [side^2 side^2]."""
    rows, columns = torch.arange(side).repeat_interleave(side), torch.arange(side).repeat(side)
    down, right = (at[:, None] - at + side - 1 for at in (rows, columns))
    return down * (2 * side - 1) + right
