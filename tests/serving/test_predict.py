"""Prediction: the same picture gives what evaluation gave; what cannot be read is named, what is no picture counted."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bakeoff.data import own
from bakeoff.errors import DataError, RecipeError
from bakeoff.results import predictions
from bakeoff.results.store import Run
from bakeoff.serving import predict as serving
from bakeoff.training import run as training
from bakeoff.training import trained
from tests.data import pictures
from tests.training import runs, tiny


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose classes a tiny network tells apart by their colour."""
    root = tmp_path_factory.mktemp("set") / "colours"
    return pictures.folder(root, {"train": {"red": 24, "green": 24, "blue": 24}, "test": {"blue": 4, "red": 5}})


@pytest.fixture(scope="module")
def finished(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    data = (f"data=folder:{colours}", "data.size=8", "batch_size=16", "epochs=12", "data.limit=null")
    folder = tmp_path_factory.mktemp("runs") / "logs" / "tiny" / "colours"
    return runs.start(folder, *data, "optimizer=adamw", "lr=0.01", model=tiny.PLAIN)


@pytest.fixture(scope="module")
def model(finished: Run) -> trained.Trained:
    return trained.load(finished, plugin=tiny.PLAIN)


def test_own_pictures_are_learnt(finished: Run) -> None:
    summary = training.read_test(finished, plugin=tiny.PLAIN).summary
    assert summary["test"]["top1"] == 1.0
    assert summary["test"]["n"] == 9


def test_it_says_what_evaluation_said(finished: Run, model: trained.Trained, colours: Path) -> None:
    """The files of the test part, predicted one by one, give the logits that were stored when it was read."""
    training.read_test(finished, plugin=tiny.PLAIN)
    stored = predictions.read(finished.predictions("test"))
    paths = own.listing(f"folder:{colours}").parts["test"].paths
    answers = list(serving.predict(model, paths, top=3))
    shares = np.exp(stored.logits) / np.exp(stored.logits).sum(axis=1, keepdims=True)
    for answer, row in zip(answers, shares, strict=True):
        assert answer.classes == tuple(stored.classes[i] for i in np.argsort(-row))
        assert answer.probabilities == pytest.approx(np.sort(row)[::-1].tolist(), abs=1e-5)


def test_batches_change_nothing(model: trained.Trained, colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted(colours.rglob("*.png"))[:13]
    at_once = list(serving.predict(model, paths))
    monkeypatch.setattr(serving, "BATCH", 5)
    told: list[tuple[int, int]] = []
    in_parts = list(serving.predict(model, paths, tell=lambda *at: told.append(at)))
    assert [a.classes for a in in_parts] == [a.classes for a in at_once]
    assert told == [(5, 13), (10, 13), (13, 13)]


def test_what_cannot_be_read_is_an_answer_too(model: trained.Trained, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    good = pictures.draw(tmp_path / "good.png", pictures.COLOURS["green"], seed=1, size=(300, 90))
    answers = list(serving.predict(model, [broken, good, tmp_path / "gone.png"]))
    assert [bool(answer.error) for answer in answers] == [True, False, True]
    assert answers[1].classes[0] == "green"
    assert sum(answers[1].probabilities) == pytest.approx(1)


def test_files_folders_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures.folder(tmp_path / "a", {"": {"red": 2, "blue": 1}})
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    odd = tmp_path / "without_ending"
    Image.new("RGB", (9, 9)).save(odd, "PNG")
    monkeypatch.chdir(tmp_path)
    found = serving.find(["a", str(odd), "a/red/*.png", "a/**/*.txt", "a/red/000.png"])
    assert [str(path) for path in found.paths] == ["a/blue/000.png", "a/red/000.png", "a/red/001.png", str(odd)]
    assert found.skipped == {".txt": 2}


@pytest.mark.parametrize("given", [["nowhere.png"], ["*.nothing"], ["empty"]])
def test_nothing_to_look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"nothing there|no picture"):
        serving.find(given)


def test_grey_networks_are_shown_grey(tmp_path: Path) -> None:
    """A digit saved as a colour picture is what the network saw as a grey one."""
    run = runs.start(tmp_path / "logs" / "tiny" / "digits", model=tiny.PLAIN)
    found = trained.load(run, plugin=tiny.PLAIN)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8).repeat(3, axis=3)
    assert np.array_equal(found.pictures(pixels).pixels(np.arange(5)), pixels[..., :1])


def test_other_pictures_are_matched_by_name(finished: Run, tmp_path: Path) -> None:
    """Classes in another order, and one missing; nothing of the run's own numbers changes."""
    from bakeoff.recipe import Data

    other = pictures.folder(tmp_path / "other", {"": {"red": 5, "green": 3}})
    before = finished.read_json(finished.summary_path)
    told = training.read_other(finished, Data(name=f"folder:{other}"), plugin=tiny.PLAIN)
    assert (told["n"], told["top1"], told["part"], told["matched"]) == (8, 1.0, "all pictures", "2 of 3")
    after = finished.read_json(finished.summary_path)
    assert {key: after[key] for key in before if key != "others"} == {k: v for k, v in before.items() if k != "others"}
    assert after["others"][-1]["data"] == f"folder:{other}"
    assert finished.record().summary["others"]
    more = pictures.folder(tmp_path / "more", {"": {"red": 2, "grey": 2}})
    with pytest.raises(DataError, match=r"classes that it was not trained on \(grey\)"):
        training.read_other(finished, Data(name=f"folder:{more}"), plugin=tiny.PLAIN)
    for spelling in ("{}", "{}/", "{}/../{}"):
        own_place = finished.recipe().data.name.partition(":")[2]
        respelt = spelling.format(own_place, Path(own_place).name)
        with pytest.raises(RecipeError, match=r"its own"):
            training.read_other(finished, Data(name=f"folder:{respelt}"), plugin=tiny.PLAIN)
    with pytest.raises(DataError, match=r"classes that it was not trained on"):
        training.read_other(finished, Data(name="digits"), plugin=tiny.PLAIN)


def test_weights_sampling_and_focal_loss_train(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path / "set", {"": {"red": 60, "blue": 12, "green": 8}})
    data = (f"data=folder:{root}", "data.size=8", "batch_size=16", "epochs=8", "data.limit=null")
    options = ("data.balance=true", "objective.class_weights=balanced", "objective.focal_gamma=1", "lr=0.05")
    run = runs.start(tmp_path / "logs" / "tiny" / "few", *data, *options, model=tiny.PLAIN)
    assert training.read_test(run, plugin=tiny.PLAIN).summary["test"]["balanced_accuracy"] > 0.9


def test_reserved_validation_is_validated_on(tmp_path: Path) -> None:
    root = pictures.folder(tmp_path / "set", {"train": {"red": 20, "blue": 20}, "val": {"red": 3, "blue": 4}})
    data = (f"data=folder:{root}", "data.size=8", "batch_size=8", "epochs=1", "data.limit=null")
    run = runs.start(tmp_path / "logs" / "tiny" / "val", *data, model=tiny.PLAIN)
    summary = run.read_json(run.summary_path)
    assert summary["val"]["n"] == 7
    assert summary["train_images"] == 32  # a fifth of the training pictures are set apart to test on


def test_test_is_not_read_of_pictures_that_have_changed(tmp_path: Path) -> None:
    """A made test part is drawn anew when files come: among it would be what was learnt. No look is recorded."""
    root = pictures.folder(tmp_path / "set", {"": {"red": 20, "blue": 20}})
    data = (f"data=folder:{root}", "data.size=8", "batch_size=8", "epochs=1", "data.limit=null")
    run = runs.start(tmp_path / "logs" / "tiny" / "changed", *data, model=tiny.PLAIN)
    pictures.draw(root / "red" / "new.png", pictures.COLOURS["red"], seed=999)
    with pytest.raises(DataError, match=r"the pictures that the run was trained on"):
        training.read_test(run, plugin=tiny.PLAIN)
    assert "test_reads" not in run.read_json(run.summary_path)
    (root / "red" / "new.png").unlink()
    assert training.read_test(run, plugin=tiny.PLAIN).summary["test"]["n"] == 8
