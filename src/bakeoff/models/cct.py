"""Compact convolutional transformers.

Paper:   Hassani et al., "Escaping the Big Data Paradigm with Compact Transformers", 2021.
         https://arxiv.org/abs/2104.05704
Follows: section 3: a convolutional tokenizer, a transformer without class token, its tokens pooled by attention; and
         the official code: CCT-7 with the tokenizer 3x1 for CIFAR (3,760,138 parameters at 10 classes) and 7x2 for
         224 pixels. As that code does, and unlike a usual transformer, a block normalises the stream itself between
         attention and MLP, so that the MLP adds to its own normed input; filters start with He's variance 2 / fan_in,
         matrices with a deviation of 0.02, the table of positions with 0.2.
Differs: no dropout and no drop-path unless asked for (the official code drops 0.1 of the attention's weights, and up to
         0.1 of the paths); the tokenizer pools before its ReLU: the same numbers with a quarter of the work; the
         pooling of the tokens has no bias, which its softmax would take out again (one parameter less).
Checked: logits and gradients, evaluating and training, against answers recorded from the official class: 3x1 with
         learnt and with sine positions, 7x2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.layers import DropPath, choose_stem, conv, drop_path_rates, refuse_below_one, refuse_smaller

# A tokenizer: size and stride of its filters, and the widths before its last convolution.
TOKENIZERS: dict[str, tuple[int, int, tuple[int, ...]]] = {"small": (3, 1, ()), "imagenet": (7, 2, (64,))}
POSITIONS = ("learnable", "sine", "none")


class Tokenizer(nn.Sequential):
    """Convolutions, each with pooling and ReLU, whose pixels become the tokens (equation 1)."""

    def __init__(self, in_channels: int, width: int, *, stem: str) -> None:
        super().__init__()
        kernel_size, stride, widths = TOKENIZERS[stem]
        for out_channels in (*widths, width):
            self.append(conv(in_channels, out_channels, kernel_size=kernel_size, stride=stride))
            # The largest of a window, then ReLU, is ReLU, then the largest: in this order on a quarter of the pixels.
            self.append(nn.MaxPool2d(3, stride=2, padding=1))
            self.append(nn.ReLU(inplace=True))
            in_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures [b c h w] to tokens [b n width], row by row."""
        for layer in self:
            x = layer(x)
        # In channels-last memory this is a view; in the other a copy here saves one in every block.
        return x.flatten(2).transpose(1, 2).contiguous()


class Attention(nn.Module):
    """Self-attention of several heads; queries, keys and values without bias."""

    def __init__(self, width: int, num_heads: int, *, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout, self.attention_dropout = num_heads, dropout, attention_dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b n width] to the same shape."""
        b, n, width = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.num_heads, width // self.num_heads).permute(2, 0, 3, 1, 4).unbind()
        heads = F.scaled_dot_product_attention(q, k, v, dropout_p=self.attention_dropout if self.training else 0.0)
        out = self.proj(heads.transpose(1, 2).reshape(b, n, width))
        return F.dropout(out, self.dropout, training=self.training)


class Block(nn.Module):
    """Norm, attention, add; norm of the sum, which is what goes on; MLP, add."""

    def __init__(
        self,
        width: int,
        *,
        num_heads: int,
        hidden_width: int,
        dropout: float,
        attention_dropout: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.pre_norm = nn.LayerNorm(width)
        self.self_attn = Attention(width, num_heads, dropout=dropout, attention_dropout=attention_dropout)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, hidden_width)
        self.linear2 = nn.Linear(hidden_width, width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b n width] to the same shape."""
        x = self.norm1(x + self.drop_path(self.self_attn(self.pre_norm(x))))
        hidden = F.dropout(F.gelu(self.linear1(x)), self.dropout, training=self.training)
        out: Tensor = x + self.drop_path(F.dropout(self.linear2(hidden), self.dropout, training=self.training))
        return out


class CompactTransformer(nn.Module):
    """Tokenizer, positions, blocks, norm, mean of the tokens weighed by attention, one matrix.

    Args:
        num_classes: the width of the logits.
        tokenizer: maps pictures [b c h w] to tokens [b n width].
        num_tokens: n.
        width: channels of a token.
        blocks: map [b n width] to the same shape.
        positions: "learnable" or "sine" adds a table to the tokens, "none" does not.
        dropout: chance of a number of the tokens to be dropped, after the positions.
    """

    position_table: Tensor | None

    def __init__(
        self,
        *,
        num_classes: int,
        tokenizer: nn.Module,
        num_tokens: int,
        width: int,
        blocks: nn.Sequential,
        positions: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.tokenizer = tokenizer
        if positions == "learnable":
            self.position_table = nn.Parameter(torch.empty(1, num_tokens, width))
        else:
            table = sine_positions(num_tokens, width) if positions == "sine" else None
            self.register_buffer("position_table", table, persistent=False)
        self.blocks = blocks
        self.norm = nn.LayerNorm(width)
        self.attention_pool = nn.Linear(width, 1, bias=False)
        self.fc = nn.Linear(width, num_classes)
        self.stages = ["blocks"]
        self._draw_weights()

    def _draw_weights(self) -> None:
        """Draw the first weights as the official code does."""
        for module in self.modules():
            match module:
                case nn.Conv2d():
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                case nn.Linear():
                    nn.init.trunc_normal_(module.weight, std=0.02)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        if isinstance(self.position_table, nn.Parameter):
            nn.init.trunc_normal_(self.position_table, std=0.2)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures [b c h w] to logits [b classes]."""
        x = self.tokenizer(x)
        if self.position_table is not None:
            x = x + self.position_table
        x = self.norm(self.blocks(F.dropout(x, self.dropout, training=self.training)))
        weights = self.attention_pool(x).softmax(1)
        logits: Tensor = self.fc((weights.transpose(1, 2) @ x).squeeze(1))
        return logits


def sine_positions(num_tokens: int, width: int) -> Tensor:
    """Return the fixed table [1 n width] of Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5."""
    channel = torch.arange(width)
    periods = 10_000 ** (2 * (channel // 2).double() / width)
    angles = (torch.arange(num_tokens)[:, None] / periods).float()
    return torch.where(channel % 2 == 0, angles.sin(), angles.cos())[None]


def cct(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: int = 256,
    depth: int = 7,
    num_heads: int = 4,
    mlp_ratio: float = 2.0,
    stem: str = "auto",
    positions: str = "learnable",
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    drop_path: float = 0.0,
) -> CompactTransformer:
    """Build a compact convolutional transformer; the default is CCT-7.

    Args:
        num_classes: the width of the logits.
        in_channels: channels of a picture.
        image_size: height and width of a picture in pixels.
        width: channels of a token.
        depth: blocks.
        num_heads: heads of the attention, a divisor of `width`.
        mlp_ratio: hidden width of the MLPs over `width`.
        stem: "small" is one 3x3 convolution (256 tokens at 32 px); "imagenet" two 7x7 of stride 2 (196 at 224 px).
        positions: what is added to the tokens: a "learnable" table, a fixed one of "sine", or "none".
        dropout: chance of a number to be dropped: of the tokens, and after each matrix of a block.
        attention_dropout: chance of a weight of the attention to be dropped.
        drop_path: chance of the last block's branches to be dropped, linearly less before.

    Raises:
        RecipeError: an option out of range.
    """
    refuse_below_one(width=width, depth=depth, num_heads=num_heads)
    if width % num_heads:
        raise RecipeError("model.num_heads", found=f"{num_heads}", expected=f"a divisor of the width, {width}")
    hidden_width = round(width * mlp_ratio)
    if hidden_width < 1:
        raise RecipeError("model.mlp_ratio", found=f"{mlp_ratio}", expected="1/width or more")
    if positions not in POSITIONS:
        raise RecipeError("model.positions", found=f"{positions!r}", expected=" or ".join(POSITIONS))
    for option, chance in (("dropout", dropout), ("attention_dropout", attention_dropout)):
        if not 0 <= chance < 1:
            raise RecipeError(f"model.{option}", found=f"{chance}", expected="a chance in [0, 1)")
    stem = choose_stem(stem, image_size)
    blocks = nn.Sequential()
    for rate in drop_path_rates(drop_path, depth):
        blocks.append(
            Block(
                width,
                num_heads=num_heads,
                hidden_width=hidden_width,
                dropout=dropout,
                attention_dropout=attention_dropout,
                drop_path=rate,
            )
        )
    return CompactTransformer(
        num_classes=num_classes,
        tokenizer=Tokenizer(in_channels, width, stem=stem),
        num_tokens=_count_tokens(image_size, stem),
        width=width,
        blocks=blocks,
        positions=positions,
        dropout=dropout,
    )


def _count_tokens(image_size: int, stem: str) -> int:
    _, stride, widths = TOKENIZERS[stem]
    num_halvings = (len(widths) + 1) * (2 if stride == 2 else 1)  # the pooling's, and the convolution's
    refuse_smaller(image_size, than=2**num_halvings)
    for _ in range(num_halvings):
        image_size = (image_size + 1) // 2
    return image_size**2
