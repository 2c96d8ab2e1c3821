"""What is shown of a run is what the run said and learned from, and nothing of the test split."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bakeoff import data
from bakeoff.errors import DataError, RecipeError
from bakeoff.results import predictions
from bakeoff.results.explanation import Explained, Explanation
from bakeoff.results.predictions import Predictions
from bakeoff.results.store import Run
from bakeoff.serving import explain, gradcam
from bakeoff.training import assembly, trained
from bakeoff.training.trained import Trained
from tests.training import runs, tiny


def said(*rows: tuple[int, list[float]]) -> Predictions:
    """Return predictions of these labels, with these probabilities."""
    return Predictions(
        index=np.arange(len(rows)),
        label=np.array([label for label, _ in rows]),
        logits=np.log(np.array([shares for _, shares in rows], dtype=np.float32)),
        classes=("ape", "bee", "cat"),
    )


SAID = said(
    (0, [0.80, 0.10, 0.10]),
    (0, [0.30, 0.60, 0.10]),
    (1, [0.10, 0.35, 0.55]),
    (1, [0.90, 0.05, 0.05]),
    (2, [0.40, 0.20, 0.40]),
    (2, [0.05, 0.05, 0.90]),
    (0, [0.05, 0.70, 0.25]),
)


def rows_of(chosen: list[explain.Chosen]) -> dict[str, list[int]]:
    return {part.kind: part.rows.tolist() for part in chosen}


def test_sections_are_in_order() -> None:
    chosen = explain.choose(SAID, num=3)
    assert rows_of(chosen) == {"mistakes": [3, 6, 1], "unsure": [4, 2, 1], "pair": [3, 6]}
    assert [part.num for part in chosen] == [5, 7, 3]
    assert chosen[-1].pair == (0, 1)


def test_one_class_alone() -> None:
    chosen = rows_of(explain.choose(SAID, num=9, only=2))
    assert chosen == {"mistakes": [2, 4], "unsure": [4, 2, 5]}


def test_a_network_without_mistakes_has_no_such_section() -> None:
    assert rows_of(explain.choose(said((1, [0.1, 0.8, 0.1])), num=9)) == {"unsure": [0]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A finished run on digits, not a good one: there are mistakes to show."""
    folder = tmp_path_factory.mktemp("explain") / "logs" / "tiny" / "first"
    return trained.load(runs.start(folder, "epochs=2", model=tiny.STAGED), plugin=tiny.STAGED)


@pytest.fixture(scope="module")
def shown(model: Trained) -> Explanation:
    return explain.gallery(model, num=6, near=4)


def normalised(model: Trained, pixels: np.ndarray) -> torch.Tensor:
    """Return what the network is shown of grey pixels uint8 [b h w 1]."""
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - model.mean[0]) / model.std[0]


def every(explanation: Explanation) -> list[Explained]:
    return [picture for section in explanation.sections for picture in section.pictures]


def test_pictures_are_those_of_validation_with_what_the_run_said(model: Trained, shown: Explanation) -> None:
    stored = predictions.read(model.run.predictions("val"))
    split = model.run.read_json(model.run.split_path)
    source = data.load("digits", part="train")
    assert every(shown)
    for picture in every(shown):
        index = int(picture.name.removeprefix("picture "))
        row = split["val"].index(index)
        np.testing.assert_array_equal(picture.pixels, source.pixels(np.array([index]))[0])
        shares = torch.tensor(stored.logits[row]).double().softmax(0)
        assert picture.label is not None
        assert picture.label.name == source.classes[source.labels[index]]
        assert picture.label.probability == pytest.approx(float(shares[source.labels[index]]))
        assert [guess.probability for guess in picture.guesses] == pytest.approx(shares.topk(5).values.tolist())
        assert picture.guesses[0].name == source.classes[int(stored.logits[row].argmax())]


def test_the_first_section_is_of_mistakes(model: Trained, shown: Explanation) -> None:
    section = shown.sections[0]
    assert section.kind == "mistakes"
    assert section.num == shown.num_mistakes
    accuracy = model.run.read_json(model.run.summary_path)["val"]
    assert section.num == accuracy["n"] - accuracy["top1_correct"]
    sure = [picture.guesses[0].probability for picture in section.pictures]
    assert sure == sorted(sure, reverse=True)
    assert all(picture.label and picture.label.name != picture.guesses[0].name for picture in section.pictures)


def test_heat_maps_are_of_the_guess_and_of_the_label(model: Trained, shown: Explanation) -> None:
    assert shown.layer == "stage3"
    layer = gradcam.find(model.network, model.image_shape)
    assert layer is not None
    for picture in shown.sections[0].pictures:
        assert picture.label is not None
        assert [heat.of for heat in picture.heats] == [picture.guesses[0].name, picture.label.name]
        x = normalised(model, picture.pixels[None])
        classes = torch.tensor([[model.classes.index(heat.of) for heat in picture.heats]])
        expected = gradcam.maps(model.network, x, classes, layer=layer)[0].numpy()
        np.testing.assert_allclose(np.stack([heat.values for heat in picture.heats]), expected, rtol=1e-4, atol=1e-6)


def test_the_nearest_are_training_pictures(model: Trained, shown: Explanation) -> None:
    split, source = model.run.read_json(model.run.split_path), data.load("digits", part="train")
    train = assembly.load(model.recipe).train

    def features(pixels: np.ndarray) -> torch.Tensor:
        x = normalised(model, pixels)
        for stage in ("stage1", "stage2", "stage3"):
            x = model.network.get_submodule(stage)(x)
        return torch.nn.functional.normalize(x.mean((2, 3)).double())

    with torch.no_grad():
        known = features(train.pixels(np.arange(len(train))))
        for picture in every(shown):
            assert len(picture.nearest) == 4
            best = (features(picture.pixels[None]) @ known.T)[0].topk(4).values
            assert [alike.similarity for alike in picture.nearest] == pytest.approx(best.tolist(), abs=1e-5)
            for alike in picture.nearest:
                assert alike.index in split["train"]
                assert alike.label == source.classes[source.labels[alike.index]]
                np.testing.assert_array_equal(alike.pixels, source.pixels(np.array([alike.index]))[0])


def test_one_class_of_the_run(model: Trained) -> None:
    only = explain.gallery(model, num=50, near=0, only="3")
    assert every(only)
    assert all("3" in (picture.guesses[0].name, picture.label and picture.label.name) for picture in every(only))
    assert all(picture.nearest == () for picture in every(only))


@pytest.fixture
def copy(model: Trained, tmp_path: Path) -> Trained:
    """The run again, to be spoilt."""
    folder = tmp_path / "tiny" / "copy"
    for path in model.run.folder.rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(model.run.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return dataclasses.replace(model, run=Run(folder))


def test_data_that_changed_are_refused(copy: Trained) -> None:
    split = copy.run.read_json(copy.run.split_path)
    copy.run.split_path.write_text(json.dumps({**split, "val": split["val"][1:]}))
    with pytest.raises(DataError, match="has changed since"):
        explain.gallery(copy, num=3, near=0)


def test_a_run_without_validation_pictures_says_what_to_do(copy: Trained) -> None:
    copy.run.predictions("val").unlink()
    with pytest.raises(RecipeError, match=r"bakeoff explain RUN PATH\.\.\."):
        explain.gallery(copy, num=3, near=0)


def test_an_unknown_class_is_refused(model: Trained) -> None:
    with pytest.raises(RecipeError, match="one of the run's 10 classes"):
        explain.gallery(model, num=3, near=0, only="eleven")


def test_the_test_split_is_not_read(model: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []

    def watched(name: str, *, part: data.Part, **options: object) -> data.ImageSet:
        parts.append(part)
        return data.SOURCES[name](part)

    monkeypatch.setattr(data, "load", watched)
    explain.gallery(model, num=3, near=2)
    assert parts == ["train"]


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def test_own_pictures(model: Trained, tmp_path: Path) -> None:
    source = assembly.load(model.recipe).train
    pixels = source.pixels(np.arange(3))[..., 0]
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(png(pixels[i]))
    (tmp_path / "broken.png").write_bytes(png(pixels[0])[:40])
    paths = sorted(tmp_path.glob("*.png"))
    shown = explain.pictures(model, paths, near=1, only="7")
    assert [picture.name for picture in every(shown)] == [str(tmp_path / f"{i}.png") for i in range(3)]
    assert shown.num_mistakes is None
    assert len(shown.notes) == 1
    assert "broken.png" in shown.notes[0]
    logits = model.evaluate(source.take(np.arange(3))).logits
    for i, picture in enumerate(every(shown)):
        assert picture.label is None
        assert picture.guesses[0].name == model.classes[int(logits[i].argmax())]
        assert picture.heats[-1].of == "7"
        assert picture.nearest[0].similarity == pytest.approx(1.0)
        np.testing.assert_array_equal(picture.nearest[0].pixels, source.pixels(np.array([i]))[0])


def test_own_pictures_need_no_data_where_no_neighbours_are_asked_for(
    model: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(png(np.zeros((8, 8), dtype=np.uint8)))
    monkeypatch.setattr(assembly, "load", None)
    (picture,) = every(explain.pictures(model, [tmp_path / "a.png"], near=0))
    assert [heat.of for heat in picture.heats] == [picture.guesses[0].name]


def test_nothing_that_can_be_read_is_refused(model: Trained, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="none can be read"):
        explain.pictures(model, [tmp_path / "a.png"], near=0)
