"""What augmentation policies are made of: operations on many images at once, each with its own strength.

All take `pixels` uint8 [b h w c] with 1 or 3 channels and `strength` float32 [b 6], of which most read the first
column, and return new pixels. What an image becomes does not depend on its neighbours. Sums of whole numbers are
exact and no product is fused with a sum, so that any device gives the same bytes. Most operations need no more than
a table, per image and channel, of what each of the 256 values becomes.

Checked: every operation, strength and sign against torchvision 0.29 transforms.v2. Equal, but where a result is a
        whole number to within 1e-4 (there torchvision may come out one grey level below it), and where a warped
        point falls on the border of two pixels to within 0.001 px (there it is a matter of rounding which one).
"""

import torch
from torch import Tensor

from bakeoff.data.pixels import take

GREY = (2989.0, 5870.0, 1140.0)  # ten-thousandths of red, green and blue: luma of ITU-R 601


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
    # + 1 for a black border: what falls outside falls on it
    bordered = torch.nn.functional.pad(pixels, (0, 0, 1, 1, 1, 1))
    s = strength[:, :, None]
    column = (s[:, 0] * x)[:, None, :] + (s[:, 1] * y + (s[:, 2] + (width / 2 + 1)))[:, :, None]
    row = (s[:, 3] * x)[:, None, :] + (s[:, 4] * y + (s[:, 5] + (height / 2 + 1)))[:, :, None]
    column, row = column.floor_().clamp_(0, width + 1), row.floor_().clamp_(0, height + 1)
    place = row.mul_(width + 2).add_(column).long()  # exact in float32 up to 2**24 pixels an image
    first = torch.arange(num, device=device)[:, None, None] * ((height + 2) * (width + 2))
    return take(bordered.view(-1, channels), place.add_(first))


def brightness(pixels: Tensor, strength: Tensor) -> Tensor:
    """Multiply by 1 + strength."""
    return _look_up(pixels, _to_bytes(_values(pixels) * (strength[:, :1, None] + 1)))


def colour(pixels: Tensor, strength: Tensor) -> Tensor:
    """Move away from grey (strength > 0) or towards it; a grey image stays as it is."""
    if pixels.shape[3] == 1:
        return pixels
    planes = pixels.permute(3, 0, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    away = (planes - _grey(planes)).mul_(strength[:, :1, None])
    return _to_bytes(planes.add_(away)).permute(1, 2, 3, 0).contiguous()


def contrast(pixels: Tensor, strength: Tensor) -> Tensor:
    """Move away from the image's mean grey (strength > 0) or towards it."""
    planes = pixels.permute(3, 0, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    grey = _grey(planes).flatten(1)
    mean = grey.sum(1, dtype=torch.int64)[:, None, None] * (1 / grey.shape[1])
    values = _values(pixels)
    return _look_up(pixels, _to_bytes(values + (values - mean) * strength[:, :1, None]))


def sharpness(pixels: Tensor, strength: Tensor) -> Tensor:
    """Move away from the smoothed image (strength > 0) or towards it; the outermost pixels stay."""
    if min(pixels.shape[1:3]) < 3:
        return pixels
    values = pixels.to(torch.float32)
    rows = values[:, :-2] + values[:, 1:-1] + values[:, 2:]
    centre = values[:, 1:-1, 1:-1]
    # (the nine + 4 centres) / 13, rounded; 13 is odd, so there are no halves
    weighted = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * centre
    smooth = ((weighted + 6.5) * (1 / 13)).floor_()
    result = pixels.clone()
    result[:, 1:-1, 1:-1] = _to_bytes((smooth - centre).mul_(-strength[:, :1, None, None]).add_(centre))
    return result


def posterize(pixels: Tensor, strength: Tensor) -> Tensor:
    """Keep of each value the bits that are set in `strength`, 0 to 255."""
    return pixels & strength[:, 0].to(torch.uint8)[:, None, None, None]


def solarize(pixels: Tensor, strength: Tensor) -> Tensor:
    """Invert the values from `strength`, 0 to 255, on."""
    values = _values(pixels)
    return _look_up(pixels, _to_bytes(torch.where(values >= strength[:, :1, None], 255 - values, values)))


def autocontrast(pixels: Tensor, strength: Tensor) -> Tensor:
    """Stretch each channel to 0..255; a channel of one value stays. No strength."""
    num, height, width, channels = pixels.shape
    rows = pixels.reshape(num, height, width * channels)  # rows first: short last axes are slow to reduce
    low = rows.amin(1).view(num, width, channels).amin(1).to(torch.float32)[..., None]
    high = rows.amax(1).view(num, width, channels).amax(1).to(torch.float32)[..., None]
    single = low == high
    scale = ((high - low) * (1 / 255)).masked_fill_(single, 1.0)
    return _look_up(pixels, _to_bytes((_values(pixels) - low.masked_fill_(single, 0.0)) / scale))


def equalize(pixels: Tensor, strength: Tensor) -> Tensor:
    """Flatten the histogram of each channel, by Pillow's rule. No strength.

    With `step` = (pixels below the channel's largest value) // 255, a value v becomes
    (pixels below v + step // 2) // step; a channel whose step is 0 stays.
    """
    num, height, width, channels = pixels.shape
    places = _places(pixels).long()
    counts = torch.zeros(num * channels * 256, dtype=torch.int64, device=pixels.device)
    counts = counts.scatter_add_(0, places, torch.ones_like(places)).view(num, channels, 256)
    up_to = counts.cumsum(2)
    step = (up_to * (up_to < height * width)).amax(2, keepdim=True) // 255
    table = ((up_to - counts + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step == 0, torch.arange(256, device=pixels.device), table)
    return _look_up(pixels, table.to(torch.uint8))


def _values(pixels: Tensor) -> Tensor:
    """Return 0 to 255, float32 [256]."""
    return torch.arange(256, dtype=torch.float32, device=pixels.device)


def _look_up(pixels: Tensor, table: Tensor) -> Tensor:
    """Exchange each value by `table` uint8 [b c 256], or [b 1 256] for all channels alike."""
    table = table.expand(-1, pixels.shape[3], -1).reshape(-1)
    return table.index_select(0, _places(pixels)).view(pixels.shape)


def _places(pixels: Tensor) -> Tensor:
    """Return where each value stands in tables [b c 256] behind one another: int32 [b * h * w * c]."""
    num, height, width, channels = pixels.shape
    first = torch.arange(num * channels, dtype=torch.int32, device=pixels.device).view(num, 1, channels) * 256
    rows = pixels.reshape(num, height, width * channels).to(torch.int32)
    return rows.add_(first.repeat(1, 1, width)).view(-1)


def _grey(planes: Tensor) -> Tensor:
    """Return the luma of whole numbers float32 [c b h w], rounded down: float32 [b h w]."""
    if planes.shape[0] == 1:
        return planes[0]
    red, green, blue = planes.unbind(0)
    # sums are exact below 2**24; the half keeps exact quotients clear of the rounding of 1e-4
    return (red * GREY[0] + green * GREY[1] + blue * GREY[2]).add_(0.5).mul_(1e-4).floor_()


def _to_bytes(values: Tensor) -> Tensor:
    """Cut to 0..255 and drop the fraction."""
    return values.clamp_(0, 255).to(torch.uint8)
