import numpy as np
import pytest
import torch
from torch import Tensor

from bakeoff.data import pixels as room
from bakeoff.data.pixels import Normalise, blank, crop, flip, take

SHAPES = [(5, 32, 32, 3), (4, 8, 8, 1), (3, 9, 14, 3), (1, 6, 5, 4)]


@pytest.fixture(params=["numpy", "torch"])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test on the CPU's own route and, still on the CPU, on the one that other devices take."""
    if request.param == "torch":
        monkeypatch.setattr(room, "on_host", lambda values: False)
    return str(request.param)


def random_pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", ["reflect", "zero"])
@pytest.mark.parametrize("padding", [1, 2, 4])
def test_crop_is_a_window_of_the_padded_image(shape: tuple[int, ...], mode: str, padding: int) -> None:
    pixels = random_pixels(*shape)
    num, height, width, _ = shape
    border = ((padding, padding), (padding, padding), (0, 0))
    for top in range(2 * padding + 1):
        corner = torch.tensor([(top, (2 * top + i) % (2 * padding + 1)) for i in range(num)])
        cropped = crop(pixels, corner, padding=padding, mode=mode)
        for image, result, (y, x) in zip(pixels.numpy(), cropped.numpy(), corner.tolist(), strict=True):
            padded = np.pad(image, border, mode="reflect" if mode == "reflect" else "constant")
            np.testing.assert_array_equal(result, padded[y : y + height, x : x + width])


@pytest.mark.usefixtures("route")
def test_crop_can_reflect_all_but_one_pixel() -> None:
    pixels = random_pixels(4, 5, 5, 3)
    corner = torch.tensor([(0, 0), (8, 8), (0, 8), (4, 4)])
    cropped = crop(pixels, corner, padding=4, mode="reflect")
    assert torch.equal(cropped[3], pixels[3])
    assert torch.equal(cropped[0], pixels[0].flip(0, 1))
    assert torch.equal(cropped[1], pixels[1].flip(0, 1))


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["some", "none", "all"])
def test_flip_mirrors_those_it_is_told(shape: tuple[int, ...], kind: str) -> None:
    pixels = random_pixels(*shape)
    which = {"some": torch.arange(shape[0]) % 2 == 0, "none": torch.zeros(shape[0]).bool()}.get(
        kind, torch.ones(shape[0]).bool()
    )
    expected = [image[:, ::-1] if turned else image for image, turned in zip(pixels.numpy(), which, strict=True)]
    np.testing.assert_array_equal(flip(pixels.clone(), which).numpy(), np.stack(expected))


@pytest.mark.usefixtures("route")
def test_blank_clears_a_box_of_each_image() -> None:
    x = torch.rand(4, 3, 6, 9).add_(1).contiguous(memory_format=torch.channels_last)
    boxes = [(0, 6, 0, 9), (2, 2, 0, 9), (1, 4, 3, 4), (5, 6, 8, 9)]
    expected = x.clone()
    for image, (top, bottom, left, right) in zip(expected, boxes, strict=True):
        for row in range(top, bottom):
            for column in range(left, right):
                image[:, row, column] = 0.0
    result = blank(x, torch.tensor(boxes))
    assert torch.equal(result, expected)
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("channels", [1, 3])
def test_take_moves_whole_pixels(channels: int) -> None:
    flat = random_pixels(50, channels)
    source = torch.tensor([[3, 3, 49], [0, 7, 1]])
    assert torch.equal(take(flat, source), flat[source])


@pytest.mark.parametrize("channels", [1, 3])
def test_normalise_is_the_formula(channels: int) -> None:
    mean, std = (0.4914, 0.4822, 0.1)[:channels], (0.2470, 0.2435, 0.2616)[:channels]
    pixels = torch.arange(256, dtype=torch.uint8)[:, None].expand(256, channels).reshape(2, 8, 16, channels)
    x = Normalise(mean, std, height=8, width=16, device=torch.device("cpu"))(pixels.contiguous())
    expected = (pixels.double() / 255 - torch.tensor(mean, dtype=torch.float64)) / torch.tensor(std).double()
    assert x.dtype == torch.float32
    assert x.shape == (2, channels, 8, 16)
    assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x.permute(0, 2, 3, 1).double(), expected, atol=1e-6, rtol=1e-6)


def test_normalise_gives_the_same_bits_wherever_a_value_stands() -> None:
    normalise = Normalise((0.5,) * 3, (0.25, 0.2, 0.3), height=7, width=5, device=torch.device("cpu"))
    for num in (1, 2, 13):
        x = normalise(torch.full((num, 7, 5, 3), 77, dtype=torch.uint8))
        assert len(x.permute(1, 0, 2, 3).flatten(1)[0].unique()) == 1
        assert torch.equal(x, x[:1, :, :1, :1].expand_as(x))
