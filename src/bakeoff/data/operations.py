"""What augmentation policies are made of: operations on many images at once, each with its own strength.

All take `pixels` uint8 [b h w c] with 1 or 3 channels and `strength` float32 [b 6], of which most read the first
column, and return new pixels. What an image becomes does not depend on its neighbours. Sums of whole numbers are
done in whole numbers and nothing is fused, so that any device gives the same bytes.

Checked: against torchvision 0.29 transforms.v2.functional. Equal, but for one grey level where a product rounds
        across a whole number (fewer than 1 value in 1,000), and the choice of pixel where a warped point falls
        between two (within 0.001 px).
"""

import torch
from torch import Tensor

from bakeoff.data.pixels import take

GREY = (2989, 5870, 1140)  # ten-thousandths of red, green and blue: luma of ITU-R 601


def identity(pixels: Tensor, strength: Tensor) -> Tensor:
    """Return the pixels as they are. No strength."""
    return pixels


def warp(pixels: Tensor, strength: Tensor) -> Tensor:
    """Move each pixel's source by an affine map; the nearest pixel counts, and outside the image is black.

    Args:
        pixels: uint8 [b h w c].
        strength: float32 [b 6], rows of the map from places in the result to places in the source, in pixels
            from the image's centre: x' = s0 x + s1 y + s2, y' = s3 x + s4 y + s5.
    """
    num, height, width, channels = pixels.shape
    device = pixels.device
    x = torch.arange(width, device=device) - (width - 1) / 2
    y = torch.arange(height, device=device) - (height - 1) / 2
    s = strength[:, :, None]
    column = ((s[:, 0] * x)[:, None, :] + (s[:, 1] * y + (s[:, 2] + width / 2))[:, :, None]).floor_()
    row = ((s[:, 3] * x)[:, None, :] + (s[:, 4] * y + (s[:, 5] + height / 2))[:, :, None]).floor_()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    first = torch.arange(num, device=device)[:, None, None] * (height * width)
    source = row.mul_(width).add_(column).long().add_(first)  # exact in float32 up to 2**24 pixels an image
    source.masked_fill_(~inside, num * height * width)  # the black pixel behind the last image
    flat = torch.cat([pixels.reshape(-1, channels), pixels.new_zeros(1, channels)])
    return take(flat, source)


def brightness(pixels: Tensor, strength: Tensor) -> Tensor:
    """Multiply by 1 + strength."""
    return _to_bytes(pixels * _factor(strength))


def colour(pixels: Tensor, strength: Tensor) -> Tensor:
    """Move away from grey (strength > 0) or towards it; a grey image stays as it is."""
    return pixels if pixels.shape[3] == 1 else _blend(pixels, _grey(pixels), strength)


def contrast(pixels: Tensor, strength: Tensor) -> Tensor:
    """Move away from the image's mean grey (strength > 0) or towards it."""
    grey = _grey(pixels)
    total = grey.sum(dim=(1, 2, 3), keepdim=True)
    return _blend(pixels, total / grey[0].numel(), strength)


def sharpness(pixels: Tensor, strength: Tensor) -> Tensor:
    """Move away from the smoothed image (strength > 0) or towards it; the outermost pixels stay."""
    if min(pixels.shape[1:3]) < 3:
        return pixels
    wide = pixels.to(torch.int32)
    rows = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    centre = wide[:, 1:-1, 1:-1]
    # (the nine + 4 centres) / 13, rounded; 13 is odd, so there are no halves
    weighted = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * centre
    smooth = torch.div(weighted + 6, 13, rounding_mode="floor")
    result = pixels.clone()
    result[:, 1:-1, 1:-1] = _to_bytes(centre + (smooth - centre) * (1 - _factor(strength)))
    return result


def posterize(pixels: Tensor, strength: Tensor) -> Tensor:
    """Keep of each value the bits that are set in `strength`, 0 to 255."""
    return pixels & strength[:, 0].to(torch.uint8)[:, None, None, None]


def solarize(pixels: Tensor, strength: Tensor) -> Tensor:
    """Invert the values from `strength`, 0 to 255, on."""
    at_least = strength[:, 0].ceil().to(torch.uint8)[:, None, None, None]
    return torch.where(pixels >= at_least, ~pixels, pixels)


def autocontrast(pixels: Tensor, strength: Tensor) -> Tensor:
    """Stretch each channel to 0..255; a channel of one value stays. No strength."""
    values = pixels.to(torch.float32)
    low, high = values.amin(dim=(1, 2), keepdim=True), values.amax(dim=(1, 2), keepdim=True)
    flat = low == high
    scale = ((high - low) * (1 / 255)).masked_fill_(flat, 1.0)
    return _to_bytes((values - low.masked_fill_(flat, 0.0)) / scale)


def equalize(pixels: Tensor, strength: Tensor) -> Tensor:
    """Flatten the histogram of each channel, by Pillow's rule. No strength.

    With `step` = (pixels below the channel's largest value) // 255, a value v becomes
    (pixels below v + step // 2) // step; a channel whose step is 0 stays.
    """
    num, height, width, channels = pixels.shape
    histogram = torch.arange(num * channels, device=pixels.device).mul_(256).view(num, 1, 1, channels)
    bins = histogram + pixels
    ones = torch.ones((), dtype=torch.int64, device=pixels.device).expand(bins.numel())
    counts = torch.zeros(num * channels * 256, dtype=torch.int64, device=pixels.device)
    counts = counts.scatter_add_(0, bins.flatten(), ones).view(-1, 256)
    up_to = counts.cumsum(1)
    below = up_to - counts
    step = (up_to * (up_to < height * width)).amax(1, keepdim=True) // 255
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step == 0, torch.arange(256, device=pixels.device), table)
    return table.to(torch.uint8).view(-1)[bins]


def _factor(strength: Tensor) -> Tensor:
    """Return 1 + strength, float32 [b 1 1 1]."""
    return (strength[:, :1] + 1.0)[:, :, None, None]


def _grey(pixels: Tensor) -> Tensor:
    """Return the luma, int32 [b h w 1], rounded down."""
    wide = pixels.to(torch.int32)
    if pixels.shape[3] == 1:
        return wide
    red, green, blue = wide.unbind(3)
    weighted = red * GREY[0] + green * GREY[1] + blue * GREY[2]
    return torch.div(weighted, 10_000, rounding_mode="floor")[..., None]


def _blend(pixels: Tensor, other: Tensor, strength: Tensor) -> Tensor:
    """Return factor * pixels + (1 - factor) * other, where factor = 1 + strength."""
    factor = _factor(strength)
    return _to_bytes((pixels * factor).add_(other * (1.0 - factor)))


def _to_bytes(values: Tensor) -> Tensor:
    """Cut to 0..255 and drop the fraction."""
    return values.clamp_(0, 255).to(torch.uint8)
