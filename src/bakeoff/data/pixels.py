"""Moving pixels: crop, flip, normalise and blank a whole batch on its device, each image in its own way.

Everything is decided by arguments, nothing is random, and nothing waits for a device. `pixels` are uint8 [b h w c],
channels last, until `Normalise` makes them the model's x float32 [b c h w], in the layout asked for. A CPU and other
devices take different routes to the same bytes.
"""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CropMode = Literal["reflect", "zero"]


def on_host(values: Tensor) -> bool:
    """Whether numpy can be asked to work on these values."""
    return values.device.type == "cpu"


def bring(values: Tensor, device: torch.device) -> Tensor:
    """Bring what was made on the host to a device, without waiting for what the device is at."""
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)


def crop(pixels: Tensor, corner: Tensor, *, padding: int, mode: CropMode) -> Tensor:
    """Pad each image on all sides and cut a window of its old size.

    Args:
        pixels: uint8 [b h w c].
        corner: int64 [b 2], top and left of the window in the padded image, 0 to 2 * padding.
        padding: in pixels.
        mode: "reflect" mirrors the image about its outermost pixels, which are not doubled; "zero" is black.
    """
    route = crop_by_window if on_host(pixels) else crop_by_gather
    return route(pixels, corner, padding=padding, mode=mode)


def crop_by_window(pixels: Tensor, corner: Tensor, *, padding: int, mode: CropMode) -> Tensor:
    """Crop by copying rows out of the padded images, through numpy; on a CPU ten times as fast."""
    num, height, width, channels = pixels.shape
    p = padding
    padded = (np.zeros if mode == "zero" else np.empty)((num, height + 2 * p, width + 2 * p, channels), np.uint8)
    padded[:, p:-p, p:-p] = pixels.numpy()
    if mode == "reflect":
        items = padded.view(f"V{channels}")[..., 0]  # a pixel is one item: mirroring moves whole pixels
        items[:, p:-p, :p] = items[:, p:-p, 2 * p : p : -1]
        items[:, p:-p, -p:] = items[:, p:-p, -p - 2 : -2 * p - 2 : -1]
        padded[:, :p] = padded[:, 2 * p : p : -1]
        padded[:, -p:] = padded[:, -p - 2 : -2 * p - 2 : -1]
    image, row, pixel, byte = padded.strides
    windows = np.lib.stride_tricks.as_strided(  # [b, top, left, h, w * c]: rows are copied in one go
        padded, (num, 2 * p + 1, 2 * p + 1, height, width * channels), (image, row, pixel, row, byte)
    )
    top, left = corner.numpy().T
    return torch.from_numpy(windows[np.arange(num), top, left].reshape(pixels.shape))


def crop_by_gather(pixels: Tensor, corner: Tensor, *, padding: int, mode: CropMode) -> Tensor:
    """Crop by computing where each pixel comes from: for any device, and nothing waits for it."""
    num, height, width, channels = pixels.shape
    device = pixels.device
    row = corner[:, :1] + torch.arange(-padding, height - padding, device=device)
    column = corner[:, 1:] + torch.arange(-padding, width - padding, device=device)
    first = torch.arange(num, device=device)[:, None, None] * (height * width)
    if mode == "reflect":
        row = (height - 1) - ((height - 1) - row.abs()).abs()
        column = (width - 1) - ((width - 1) - column.abs()).abs()
        return take(pixels.reshape(-1, channels), first + row[:, :, None] * width + column[:, None, :])
    inside = ((row >= 0) & (row < height))[:, :, None] & ((column >= 0) & (column < width))[:, None, :]
    source = (first + row[:, :, None] * width + column[:, None, :]).masked_fill(~inside, num * height * width)
    return take(torch.cat([pixels.reshape(-1, channels), pixels.new_zeros(1, channels)]), source)


def flip(pixels: Tensor, which: Tensor) -> Tensor:
    """Mirror the images for which `which` bool [b] is true, left to right; on a CPU in place."""
    if not on_host(pixels):
        return torch.where(which[:, None, None, None], pixels.flip(2), pixels)
    images, rows = pixels.numpy(), which.numpy().nonzero()[0]
    # torch mirrors three-byte pixels by vector instructions if shown a channels-last view; numpy gathers faster
    mirrored = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).flip(3).permute(0, 2, 3, 1)
    images[rows] = mirrored.numpy()
    return pixels


def blank(x: Tensor, box: Tensor) -> Tensor:
    """Set a box of each image to 0, in place: after `Normalise` that is the mean colour.

    Args:
        x: float [b c h w].
        box: int64 [b 4], top, bottom, left, right, inside the image; bottom and right are excluded.
    """
    if on_host(x):  # a slice an image is ten times as fast as a mask
        for image, (top, bottom, left, right) in zip(x.permute(0, 2, 3, 1).numpy(), box.tolist(), strict=True):
            image[top:bottom, left:right] = 0.0
        return x
    top, bottom, left, right = box[:, :, None].unbind(1)
    row, column = (torch.arange(size, device=x.device) for size in x.shape[2:])
    rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
    return x.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def shrink(x: Tensor, side: int) -> Tensor:
    """Resize x float [b c h w] to `side` x `side` pixels, each the weighted mean of what it covers; in its layout."""
    small = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    is_last = x.is_contiguous(memory_format=torch.channels_last)
    return small.contiguous(memory_format=torch.channels_last if is_last else torch.contiguous_format)


def take(flat: Tensor, source: Tensor) -> Tensor:
    """Return uint8 [... c], the rows of `flat` uint8 [m c] at `source` int64 [...]."""
    if not on_host(flat):
        return flat[source]
    # numpy moves a pixel as one item; torch would move its bytes one at a time (six times slower)
    items = flat.numpy().view(f"V{flat.shape[1]}")[:, 0]
    taken = items.take(source.numpy())
    return torch.from_numpy(taken[..., None].view("u1"))


class Normalise:
    """Turn pixels uint8 [b h w c] into x float32 [b c h w], mean 0 and deviation 1.

    Args:
        mean: of each channel, in units of [0, 1].
        std: of each channel, in units of [0, 1].
        height: of the images, in pixels.
        width: of the images, in pixels.
        device: where the pixels are.
        layout: of x in memory; channels-last is that of the pixels, another costs a copy.
    """

    def __init__(
        self,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        height: int,
        width: int,
        device: torch.device,
        layout: torch.memory_format = torch.channels_last,
    ) -> None:
        self.layout = layout
        # written out for a whole image: a product along three channels only would be four times as slow
        self.scale, self.shift = (
            torch.tensor(values, device=device).expand(height, width, -1).contiguous()
            for values in ([1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)])
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return (pixels / 255 - mean) / std."""
        # product and sum apart: fused, they round once, and not every device fuses
        x = pixels.to(torch.float32).mul_(self.scale).add_(self.shift)
        return x.permute(0, 3, 1, 2).contiguous(memory_format=self.layout)
