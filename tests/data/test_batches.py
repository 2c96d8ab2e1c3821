import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from bakeoff.data import pixels as pixels_room
from bakeoff.data.augment import Augment
from bakeoff.data.batches import Batch, Batches, copy_to, fits, plain, read_ahead
from bakeoff.data.draws import Draws, permutation
from bakeoff.data.images import ImageSet
from bakeoff.data.mix import Mix
from bakeoff.data.pixels import CropMode
from bakeoff.data.policies import KERNELS
from bakeoff.errors import RecipeError

CPU = torch.device("cpu")
Kind = Literal["none", "trivial", "rand"]
NUM = 50
EVERYTHING = Augment(crop_padding=3, flip="alternate", cutout=4, erase=0.5, policy="trivial")


def image_set(folder: Path | None = None, *, num: int = NUM, channels: int = 3) -> ImageSet:
    """Make noise of 10 x 12 pixels; with a folder, as a memory-map that cannot be written."""
    random = np.random.default_rng(0)
    stored = random.integers(0, 256, (num, 10, 12, channels), dtype=np.uint8)
    if folder is not None:
        np.save(folder / "images.npy", stored)
        stored = np.load(folder / "images.npy", mmap_mode="r")
    return ImageSet(
        images=stored.transpose(0, 3, 1, 2),
        labels=random.integers(0, 7, num),
        classes=tuple("abcdefg"),
        mean=(0.4, 0.5, 0.6)[:channels],
        std=(0.2, 0.25, 0.3)[:channels],
        fingerprint="test",
    )


def batches(data: ImageSet | None = None, **settings: object) -> Batches:
    chosen = {
        "batch_size": 8,
        "augment": EVERYTHING,
        "mix": Mix(mixup=0.4, cutmix=1.0),
        "seed": 3,
        "device": CPU,
    }
    return Batches(image_set() if data is None else data, **(chosen | settings))


def equal(some: list[Batch], others: list[Batch]) -> bool:
    return len(some) == len(others) and all(
        torch.equal(a, b) for one, other in zip(some, others, strict=True) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("mode", ["reflect", "zero"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("epoch", [0, 3])
def test_batches_are_made_as_if_image_by_image(mode: CropMode, channels: int, epoch: int) -> None:
    data = image_set(channels=channels)
    augment = Augment(
        crop_padding=3,
        crop_mode=mode,
        flip="alternate",
        cutout=4,
        erase=0.5,
        policy="rand",
        rand_magnitude=20,
    )
    order = permutation(NUM, seed=3, epoch=epoch).tolist()
    made = list(batches(data, augment=augment, mix=Mix()).epoch(epoch))
    assert len(made) == 6
    for place, i in enumerate(order[:48]):
        batch, row = made[place // 8], place % 8
        draws = Draws(seed=3, epoch=epoch, index=torch.tensor([i]))
        expected = one_image(data, i, augment, draws, epoch)
        np.testing.assert_allclose(batch.x[row].numpy(), expected, atol=1e-6)
        assert batch.labels[row] == data.labels[i]
        assert batch.targets[row].tolist() == [float(c == data.labels[i]) for c in range(7)]


def one_image(data: ImageSet, i: int, augment: Augment, draws: Draws, epoch: int) -> np.ndarray:
    """Augment one image slowly: float64 [c h w]."""
    image = data.images[i].transpose(1, 2, 0)
    height, width, _ = image.shape
    plan = augment.plan(draws, height=height, width=width)
    p = augment.crop_padding
    top, left = draws.integers("crop", 2 * p + 1, 2)[0].tolist()
    mode: Any = {"reflect": "reflect", "zero": "constant"}[augment.crop_mode]
    image = np.pad(image, ((p, p), (p, p), (0, 0)), mode=mode)[top : top + height, left : left + width]
    lasting = Draws(seed=draws.seed, epoch=None, index=draws.index)
    if (int(lasting.integers("flip", 2)) + epoch) % 2:
        image = np.fliplr(image)
    for choice in plan.rounds:
        changed = KERNELS[choice.kernel[0]](torch.tensor(image.copy())[None], torch.from_numpy(choice.strength))
        image = changed[0].numpy()
    x = (image / 255 - np.array(data.mean)) / np.array(data.std)
    for box in plan.boxes:
        top, bottom, left, right = box[0].tolist()
        for row in range(top, bottom):
            for column in range(left, right):
                x[row, column] = 0.0
    return x.transpose(2, 0, 1)


def test_a_batch_is_what_a_model_expects() -> None:
    for batch in batches().epoch(0):
        assert batch.x.shape == (8, 3, 10, 12)
        assert batch.x.dtype == batch.targets.dtype == torch.float32
        assert batch.x.is_contiguous(memory_format=torch.channels_last)
        assert batch.targets.shape == (8, 7)
        assert batch.labels.dtype == torch.int64
        torch.testing.assert_close(batch.targets.sum(1), torch.ones(8))


@pytest.mark.parametrize("resolution", [[], [(1.0, 8)]])
def test_pictures_lie_in_memory_as_asked(resolution: list[tuple[float, int]]) -> None:
    augment = replace(EVERYTHING, resolution=resolution)
    usual = list(batches(augment=augment).epoch(0))
    for batch, other in zip(batches(augment=augment, layout=torch.contiguous_format).epoch(0), usual, strict=True):
        assert batch.x.is_contiguous()
        assert not other.x.is_contiguous()
        torch.testing.assert_close(batch.x, other.x)
        assert resolution or torch.equal(batch.x, other.x)
    data = image_set()
    for x, _ in plain(data, batch_size=7, device=CPU, layout=torch.contiguous_format):
        assert x.is_contiguous()


def test_an_epoch_shows_different_images_once_in_a_new_order() -> None:
    quiet = batches(augment=Augment(), mix=Mix())
    assert quiet.steps_per_epoch == NUM // 8
    seen = [torch.cat([b.x for b in quiet.epoch(epoch)]).flatten(1) for epoch in range(2)]
    for x in seen:
        assert len(x) == 48
        assert len(x.unique(dim=0)) == 48
    assert not torch.equal(seen[0], seen[1])
    shown = torch.cat([torch.cat([b.x for b in quiet.epoch(epoch)]).flatten(1) for epoch in range(8)])
    assert len(shown.unique(dim=0)) == NUM  # what one epoch leaves out another shows


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("first_step", [0, 1, 4, 6])
def test_an_epoch_goes_on_from_any_step(resident: bool, first_step: int) -> None:
    whole = list(batches(resident=resident).epoch(2))
    rest = list(batches(resident=resident).epoch(2, first_step=first_step))
    assert equal(rest, whole[first_step:])


@pytest.mark.parametrize("policy", ["none", "trivial", "rand"])
@pytest.mark.parametrize("crop_mode", ["reflect", "zero"])
def test_where_images_are_kept_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: Kind, crop_mode: CropMode
) -> None:
    augment = Augment(crop_padding=3, crop_mode=crop_mode, flip="random", erase=0.5, policy=policy)
    expected = list(batches(augment=augment, resident=True).epoch(1))
    mapped = image_set(tmp_path)
    assert equal(list(batches(mapped, augment=augment, resident=True).epoch(1)), expected)
    assert equal(list(batches(mapped, augment=augment, resident=False).epoch(1)), expected)
    monkeypatch.setattr(pixels_room, "on_host", lambda values: False)  # the route of other devices
    assert equal(list(batches(mapped, augment=augment).epoch(1)), expected)


def test_data_is_left_as_it_is() -> None:
    data = image_set()
    before = data.images.copy()
    list(batches(data).epoch(0))
    list(batches(data, augment=Augment(flip="random"), resident=False).epoch(0))
    list(plain(data, batch_size=7, device=CPU))
    np.testing.assert_array_equal(data.images, before)


def test_batches_handed_out_are_not_written_to_again() -> None:
    run = batches().epoch(0)
    first = next(run)
    copy = first.x.clone()
    list(run)
    assert torch.equal(first.x, copy)


def test_mixing_comes_last_and_knows_where_it_is() -> None:
    mix = Mix(mixup=0.4, cutmix=1.0)
    pairs = zip(batches(mix=mix).epoch(2, first_step=1), batches(mix=Mix()).epoch(2, first_step=1), strict=True)
    for step, (mixed, before) in enumerate(pairs, start=1):
        x, targets = mix(before.x, before.targets, seed=3, epoch=2, step=step)
        assert equal([mixed], [Batch(x, targets, before.labels)])


@pytest.mark.parametrize("seed_and_epoch", [(4, 0), (3, 1)])
def test_seed_and_epoch_change_the_batches(seed_and_epoch: tuple[int, int]) -> None:
    seed, epoch = seed_and_epoch
    assert not equal(list(batches().epoch(0)), list(batches(seed=seed).epoch(epoch)))


def test_pictures_grow_over_a_run() -> None:
    made = batches(augment=Augment(resolution=((0.25, 8), (0.75, 9))), mix=Mix(), epochs=4)
    whole = batches(augment=Augment(), mix=Mix())
    sides = []
    for epoch in range(4):
        for batch, full in zip(made.epoch(epoch), whole.epoch(epoch), strict=True):
            sides.append(batch.x.shape[2:])
            assert torch.equal(batch.labels, full.labels)
            assert batch.x.is_contiguous(memory_format=torch.channels_last)
            if batch.x.shape == full.x.shape:
                assert torch.equal(batch.x, full.x)
            else:  # shrinking keeps what is constant, and about the mean
                torch.testing.assert_close(batch.x.mean((2, 3)), full.x.mean((2, 3)), rtol=0, atol=0.25)
    assert list(dict.fromkeys(sides)) == [(8, 8), (9, 9), (10, 12)]
    with pytest.raises(RecipeError, match=r"augment\.resolution.*11 px.*at most the images' 10 px"):
        batches(augment=Augment(resolution=((0.5, 11),)))


def test_global_random_state_is_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    first, state = list(batches().epoch(0)), torch.get_rng_state()
    torch.manual_seed(1)
    assert equal(list(batches().epoch(0)), first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("batch_size", [0, -1, NUM + 1])
def test_a_batch_size_that_cannot_be_names_both_numbers(batch_size: int) -> None:
    with pytest.raises(RecipeError, match=rf"batch_size: found {batch_size}; expected 1 to {NUM}"):
        batches(batch_size=batch_size)


def test_settings_are_checked_against_the_images_at_once() -> None:
    with pytest.raises(RecipeError, match=r"augment\.crop_padding"):
        batches(augment=Augment(crop_padding=10))


@pytest.mark.parametrize("batch_size", [1, 7, 50, 64])
def test_plain_shows_every_image_once_in_order(tmp_path: Path, batch_size: int) -> None:
    data = image_set(tmp_path)
    x, index = (torch.cat(parts) for parts in zip(*plain(data, batch_size=batch_size, device=CPU), strict=True))
    assert index.tolist() == list(range(NUM))
    mean, std = (np.array(values)[:, None, None] for values in (data.mean, data.std))
    np.testing.assert_allclose(x.numpy(), (data.images / 255 - mean) / std, atol=1e-6)


# reading ahead


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("bakeoff-read")]


@pytest.mark.parametrize("num", [0, 1, 2])
def test_reading_ahead_keeps_order_and_distance(num: int) -> None:
    read: list[int] = []

    def note(step: int) -> int:
        read.append(step)
        return step * 10

    taken = []
    for value in read_ahead(note, range(3, 9), num=num):
        taken.append(value)
        assert len(read) <= len(taken) + num + 1
    assert taken == [30, 40, 50, 60, 70, 80]
    assert read == [3, 4, 5, 6, 7, 8]
    assert readers() == []


def test_an_error_in_the_thread_comes_out_in_its_turn() -> None:
    def fail_at_two(step: int) -> int:
        if step == 2:
            raise OSError("the disk is gone")
        return step

    reading = read_ahead(fail_at_two, range(6), num=2)
    assert [next(reading), next(reading)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(reading)
    assert readers() == []


def test_the_thread_ends_when_the_reader_is_left_early() -> None:
    run = batches(resident=False).epoch(0)
    next(run)
    assert readers() != []
    run.close()  # type: ignore[attr-defined]
    assert readers() == []
    for _ in batches(resident=False).epoch(0):
        break
    assert readers() == []

    def interrupted() -> None:
        for _ in batches(resident=False).epoch(0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_copying_in_pieces_copies_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = image_set(tmp_path)
    for chunk in (1, 1000, 2**20):
        monkeypatch.setattr("bakeoff.data.batches.CHUNK_BYTES", chunk)
        assert np.array_equal(copy_to(CPU, data).numpy(), data.pixels(np.arange(len(data))))


def test_batches_of_a_part_are_those_of_its_copy(tmp_path: Path) -> None:
    whole = image_set(tmp_path)
    index = np.arange(len(whole))[::-2]
    part = whole.take(index)
    copy = replace(part, images=part.pixels(np.arange(len(part))).transpose(0, 3, 1, 2), rows=None)
    for ours, theirs in zip(batches(part).epoch(1), batches(copy).epoch(1), strict=True):
        assert torch.equal(ours.x, theirs.x)
        assert torch.equal(ours.labels, theirs.labels)
    for (x, at), (other, there) in zip(
        plain(part, batch_size=7, device=CPU), plain(copy, batch_size=7, device=CPU), strict=True
    ):
        assert torch.equal(x, other)
        assert torch.equal(at, there)


def test_what_fits() -> None:
    assert fits(1, CPU)
    assert not fits(2**60, CPU)


@pytest.mark.gpu
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("policy", ["none", "trivial", "rand"])
def test_a_gpu_makes_the_same_batches(resident: bool, policy: Kind) -> None:
    augment = Augment(crop_padding=3, flip="alternate", cutout=4, erase=0.5, policy=policy)
    here = list(batches(augment=augment, mix=Mix()).epoch(1))
    there = batches(augment=augment, mix=Mix(), device=torch.device("cuda"), resident=resident).epoch(1)
    assert equal([Batch(*(part.cpu() for part in batch)) for batch in there], here)
