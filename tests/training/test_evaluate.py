"""Evaluation is exact, and the weights that are evaluated are the weights that were written."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bakeoff.data.images import ImageSet
from bakeoff.errors import DataError, StorageError, VerificationFailed
from bakeoff.results import metrics
from bakeoff.training import assembly, evaluate, weights
from bakeoff.training.loop import Parts
from tests.training import runs, tiny
from tests.training.kills import same

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained() -> tuple[Parts, ImageSet]:
    recipe = runs.recipe("data.limit=900")
    share = assembly.load(recipe)
    parts = assembly.assemble(recipe, share, plugin=tiny.NAME, root=Path())
    return parts, share.train


def test_every_image_is_counted_once_and_the_counts_are_those_of_a_direct_pass(
    trained: tuple[Parts, ImageSet],
) -> None:
    parts, images = trained
    outcome = evaluate.evaluate(parts.model, images, device=parts.device)
    assert np.array_equal(outcome.index, np.arange(len(images)))
    assert len(images) > evaluate.BATCH  # so that there is more than one batch, and a smaller last one
    pixels = np.stack([images.pixels(np.array([i]))[0] for i in range(len(images))]).transpose(0, 3, 1, 2)
    x = (torch.from_numpy(pixels.astype(np.float32)) / 255 - images.mean[0]) / images.std[0]
    parts.model.eval()
    with torch.no_grad():
        direct = parts.model(x).argmax(1).numpy()
    parts.model.train()
    correct = sum(int(a) == int(b) for a, b in zip(direct, images.labels, strict=True))
    scores = metrics.summarise(outcome)
    assert (scores["n"], scores["top1_correct"]) == (len(images), correct)
    assert scores["top1"] == correct / len(images)


def test_the_size_of_a_batch_does_not_show(trained: tuple[Parts, ImageSet], monkeypatch: pytest.MonkeyPatch) -> None:
    parts, images = trained
    whole = evaluate.evaluate(parts.model, images, device=parts.device)
    for size in (1, 7, 128, 10_000):
        monkeypatch.setattr(evaluate, "BATCH", size)
        cut = evaluate.evaluate(parts.model, images, device=parts.device)
        np.testing.assert_allclose(cut.logits, whole.logits, atol=1e-5)
        assert np.array_equal(cut.logits.argmax(1), whole.logits.argmax(1))
        assert np.array_equal(cut.index, whole.index)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was_found(trained: tuple[Parts, ImageSet], training: bool) -> None:
    parts, images = trained
    parts.model.train(training)
    before = {key: value.clone() for key, value in parts.model.state_dict().items()}
    random_state = torch.get_rng_state()
    twice = [evaluate.evaluate(parts.model, images, device=parts.device) for _ in range(2)]
    assert np.array_equal(twice[0].logits, twice[1].logits)  # no dropout
    assert all(module.training == training for module in parts.model.modules())
    assert same(before, dict(parts.model.state_dict()))  # no batch-norm statistics either
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(p.requires_grad and p.grad is None for p in parts.model.parameters())


@pytest.mark.parametrize("fault", ["missing", "doubled"])
def test_a_lost_or_doubled_image_is_noticed(
    trained: tuple[Parts, ImageSet], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, images = trained
    real = evaluate.plain

    def faulty(*arguments: object, **others: object) -> object:
        for x, index in real(*arguments, **others):  # type: ignore[arg-type]
            yield x, index.clone().fill_(0) if fault == "doubled" else index + (index == 3)

    monkeypatch.setattr(evaluate, "plain", faulty)
    with pytest.raises(VerificationFailed, match=fault):
        evaluate.evaluate(parts.model, images, device=parts.device)


CARD = {"model": "x", "classes": ["猫", "b"], "mean": [0.5], "options": {"a": 1}}


def test_weights_come_back_to_the_bit_with_their_card(trained: tuple[Parts, ImageSet], tmp_path: Path) -> None:
    model, path = trained[0].model, tmp_path / "w.safetensors"
    weights.write(model, path, card=CARD)
    state, card = weights.read(path, device=CPU)
    assert card == CARD
    assert same(state, dict(model.state_dict()))
    assert any(value.dtype == torch.int64 for value in state.values())  # batch norm's count


def test_equal_weights_are_equal_bytes_whatever_their_layout(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    weights.write(model, tmp_path / "a", card=CARD)
    weights.write(model, tmp_path / "b", card=CARD)
    weights.write(model.to(memory_format=torch.channels_last), tmp_path / "c", card=CARD)  # type: ignore[call-overload]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    weights.write(model, tmp_path / "d", card={**CARD, "model": "y"})
    assert (tmp_path / "a").read_bytes() != (tmp_path / "d").read_bytes()


def test_a_damaged_weights_file_is_named(trained: tuple[Parts, ImageSet], tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights.write(trained[0].model, path, card=CARD)
    whole, rng = path.read_bytes(), random.Random(1)
    cut = [whole[:length] for length in (0, 1, 8, 100, len(whole) - 1, *rng.sample(range(len(whole)), 10))]
    foreign = [b"{}", rng.randbytes(500), b"\xff" * 20, b"\x80\x04K\x01."]
    for content in [*cut, *foreign]:
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            weights.read(path, device=CPU)
        assert caught.value.where == str(path)


def test_weights_that_are_not_there_or_not_ours_are_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    with pytest.raises(DataError, match="no such file"):
        weights.read(path, device=CPU)
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(DataError, match="written by bakeoff"):
        weights.read(path, device=CPU)
    save_file({"w": torch.zeros(2)}, path, metadata={"bakeoff": "not JSON"})
    with pytest.raises(DataError, match="written by bakeoff"):
        weights.read(path, device=CPU)
    with pytest.raises(DataError):
        weights.read(tmp_path, device=CPU)


def test_weights_that_cannot_be_written_are_a_refusal_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        weights.write(nn.Linear(1, 1), tmp_path / "file" / "w", card=CARD)
