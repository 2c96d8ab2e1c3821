"""Every operation at every strength of both policies against torchvision, image by image."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from bakeoff.data import operations
from bakeoff.data.policies import NUM_BINS, OPERATIONS, Choice, Policy, apply

REFERENCES: dict[str, Any] = {"trivial": v2.TrivialAugmentWide(), "rand": v2.RandAugment()}
THEIR_NAME = {
    name: "".join(word.capitalize() for word in name.split("_"))
    for name in OPERATIONS
    if name not in ("colour", "autocontrast")
} | {"colour": "Color", "autocontrast": "AutoContrast"}
SIGNED = [*list(OPERATIONS)[1:10]]
WARPS = ["shear_x", "shear_y", "translate_x", "translate_y", "rotate"]
ENHANCERS = ["brightness", "colour", "contrast", "sharpness"]
BETWEEN_PX = 1e-3  # a warped point so near to the border of two pixels may fall on either
WHOLE = 1e-4  # a value so near to a whole number may be rounded down to it or to the one below


def some_images(channels: int, height: int, width: int) -> Tensor:
    """Noise, a smooth picture, a faint one, a dark one, one value only, two values: uint8 [6 h w c]."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (height, width, channels))
    y, x = np.mgrid[:height, :width] / 8.0
    waves = np.stack([np.sin(x + i) * np.cos(y - i) for i in range(channels)], axis=2)
    smooth = 128 + 90 * waves + random.normal(0, 6, waves.shape)
    flat = np.full_like(noise, 77)
    two = np.where(noise < 30, 10, 200)
    images = np.stack([noise, smooth, 100 + smooth / 16, smooth / 5, flat, two])
    return torch.from_numpy(images.clip(0, 255).astype(np.uint8))


def ours(kind: str, name: str, level: int, sign: int, pixels: Tensor) -> Tensor:
    num, height, width, _ = pixels.shape
    policy = Policy(kind=kind, height=height, width=width)  # type: ignore[arg-type]
    operation = list(OPERATIONS).index(name)
    strength = torch.from_numpy(policy.strengths[operation, level, sign]).expand(num, 6)
    return OPERATIONS[name](pixels, strength)


def theirs(kind: str, name: str, level: int, sign: int, pixels: Tensor) -> Tensor:
    reference, (height, width) = REFERENCES[kind], pixels.shape[1:3]
    magnitudes, signed = reference._AUGMENTATION_SPACE[THEIR_NAME[name]]
    assert signed == (name in SIGNED)
    strengths = magnitudes(NUM_BINS, height, width)
    strength = 0.0 if strengths is None else float(strengths[level])
    changed = [
        reference._apply_image_or_video_transform(
            image.permute(2, 0, 1),
            THEIR_NAME[name],
            -strength if sign else strength,
            interpolation=InterpolationMode.NEAREST,
            fill=reference._fill,
        )
        for image in pixels
    ]
    return torch.stack(changed).permute(0, 2, 3, 1)


def between(kind: str, name: str, level: int, sign: int, height: int, width: int) -> np.ndarray:
    """Mark, bool [h w], the points whose source is too near to a border of pixels to tell which one it is."""
    policy = Policy(kind=kind, height=height, width=width)  # type: ignore[arg-type]
    s = policy.strengths[list(OPERATIONS).index(name), level, sign].astype(float)
    y, x = np.mgrid[:height, :width].astype(float)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    column = s[0] * x + s[1] * y + s[2] + width / 2
    row = s[3] * x + s[4] * y + s[5] + height / 2
    return (abs(column - column.round()) < BETWEEN_PX) | (abs(row - row.round()) < BETWEEN_PX)


def enhanced(name: str, pixels: np.ndarray, strength: float) -> np.ndarray:
    """Compute what an enhancer gives before the fraction is dropped, float64 [b h w c]."""
    image = pixels.astype(float)
    grey = image
    if image.shape[3] == 3:
        grey = np.floor((image @ [2989, 5870, 1140])[..., None] / 10_000 + 1e-9)
    other = np.zeros_like(image)
    if name == "colour":
        other = grey
    elif name == "contrast":
        other = grey.mean(axis=(1, 2, 3), keepdims=True)
    elif name == "sharpness":
        other = image.copy()
        nine = sum(
            image[:, 1 + y : image.shape[1] - 1 + y, 1 + x : image.shape[2] - 1 + x]
            for y in (-1, 0, 1)
            for x in (-1, 0, 1)
        )
        other[:, 1:-1, 1:-1] = np.round((nine + 4 * image[:, 1:-1, 1:-1]) / 13)
    return (image + (image - other) * float(strength)).clip(0, 255)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", list(OPERATIONS))
@pytest.mark.parametrize("kind", ["trivial", "rand"])
def test_every_strength_is_torchvisions(kind: str, name: str, channels: int) -> None:
    checked = 0.0
    for height, width in ((32, 32), (20, 28)):
        pixels = some_images(channels, height, width)
        for level in range(NUM_BINS):
            for sign in (0, 1) if name in SIGNED else (0,):
                where = f"{kind} {name} {level=} {sign=} {height}x{width}"
                mine = ours(kind, name, level, sign, pixels).numpy().astype(int)
                other = theirs(kind, name, level, sign, pixels).numpy().astype(int)
                clear = np.ones(mine.shape, dtype=bool)
                if name in WARPS:
                    clear = ~np.broadcast_to(between(kind, name, level, sign, height, width)[..., None], mine.shape)
                elif name in ENHANCERS and (name, channels) != ("colour", 1):
                    strength = Policy(kind=kind, height=height, width=width).strengths  # type: ignore[arg-type]
                    value = enhanced(name, pixels.numpy(), strength[list(OPERATIONS).index(name), level, sign, 0])
                    clear = abs(value - value.round()) > WHOLE
                    assert abs(mine - other).max() <= 1, where
                    np.testing.assert_array_equal(mine[clear], np.floor(value[clear]), err_msg=where)
                np.testing.assert_array_equal(mine[clear], other[clear], err_msg=where)
                checked += clear.mean() / (2 * NUM_BINS * (1 + (name in SIGNED)))
    assert checked > 0.4


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_does_not_depend_on_its_neighbours(channels: int) -> None:
    pixels = some_images(channels, 16, 16)
    policy = Policy(kind="trivial", height=16, width=16)
    for place, (name, operation) in enumerate(OPERATIONS.items()):
        strength = torch.from_numpy(policy.strengths[place, [3, 9, 30, 14, 21, 0], [0, 1, 0, 1, 0, 1]])
        together = operation(pixels, strength)
        alone = [operation(pixels[i : i + 1], strength[i : i + 1]) for i in range(len(pixels))]
        assert torch.equal(together, torch.cat(alone)), name
        assert together.dtype == torch.uint8
        assert together.is_contiguous(), name


@pytest.mark.parametrize("channels", [1, 3])
def test_what_an_enhancer_should_keep_it_keeps_to_the_bit(channels: int) -> None:
    # pixels equal to what they are moved away from, or a strength of nothing
    policy = Policy(kind="trivial", height=16, width=16)
    flat = torch.full((NUM_BINS, 16, 16, channels), 77, dtype=torch.uint8)
    for name in ENHANCERS:
        for strengths in policy.strengths[list(OPERATIONS).index(name)].swapaxes(0, 1):
            pixels = some_images(channels, 16, 16)
            assert torch.equal(OPERATIONS[name](pixels, torch.zeros(6, 6)), pixels), name
            if name == "sharpness" or (name, channels) in (("contrast", 1), ("colour", 1)):
                assert torch.equal(OPERATIONS[name](flat, torch.from_numpy(strengths)), flat), name


def test_every_operation_can_be_seen() -> None:
    # a test against a reference proves nothing where neither does anything
    pixels = some_images(3, 32, 32)[1:3]
    for place, name in enumerate(OPERATIONS):
        policy = Policy(kind="trivial", height=32, width=32)
        strength = policy.strengths[place, [20, 20], [0, 1]]
        choice = Choice(kernel=np.array([KERNEL[name]] * 2), strength=strength)
        assert torch.equal(apply(pixels, choice), pixels) == (name == "identity"), name


KERNEL = {name: list(dict.fromkeys(OPERATIONS.values())).index(kernel) for name, kernel in OPERATIONS.items()}


def test_grey_is_exact_where_it_is_a_whole_number() -> None:
    red, green, blue = (axis.ravel().astype(np.int32) for axis in np.mgrid[:256:8, :256, :256])
    weighted = 2989 * red + 5870 * green + 1140 * blue
    whole = weighted % 10_000 == 0
    pixels = np.stack([red, green, blue], axis=1)[whole].astype(np.uint8)
    assert len(pixels) > 100
    grey = operations.colour(torch.from_numpy(pixels)[None, None], torch.full((1, 6), -1.0))
    assert (grey[0, 0].numpy() == (weighted[whole] // 10_000)[:, None]).all()


def test_tiny_images_are_not_sharpened() -> None:
    pixels = some_images(3, 2, 9)
    assert torch.equal(operations.sharpness(pixels, torch.ones(6, 6)), pixels)
