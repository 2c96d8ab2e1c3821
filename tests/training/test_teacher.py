"""Teachers: what is refused before the first step, what they see, and what becomes of what they helped to train."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bakeoff import data, models
from bakeoff.data.batches import plain
from bakeoff.data.images import ImageSet
from bakeoff.errors import BakeoffError, DataError, RecipeError, ResumeRefused
from bakeoff.models import stages
from bakeoff.recipe import Recipe, resolve
from bakeoff.results import teachers
from bakeoff.results.store import Run
from bakeoff.training import assembly, loop, teacher, teacher_check, weights
from bakeoff.training import run as training
from bakeoff.training.loop import Position

SMALL = ("data=digits", "data.limit=400", "batch_size=32", "threads=1", "device=cpu", "augment.crop_padding=1")
MODEL = "resnet_20"


def recipe(*overrides: str, root: Path | None = None) -> Recipe:
    resolved = resolve(MODEL, overrides=[*SMALL, "epochs=1", "lr=0.02", *overrides])
    return resolved if root is None else teachers.identified(resolved, root=root)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of runs with a teacher that knows its digits: root/resnet_20/teacher."""
    root = tmp_path_factory.mktemp("logs")
    training.start(resolve(MODEL, overrides=[*SMALL, "epochs=8", "lr=0.1", "seed=7"]), root / MODEL / "teacher")
    return root


@pytest.fixture
def images() -> ImageSet:
    return data.load("digits", part="train")


def load(of: Recipe, root: Path) -> teacher.Teacher:
    found = assembly.assemble(of, assembly.load(of), plugin=None, root=root).teacher
    assert found is not None
    return found


def card_of(images: ImageSet, **changes: Any) -> dict[str, Any]:
    told = {
        "model": MODEL,
        "options": {},
        "num_classes": 10,
        "image_shape": list(images.shape),
        "classes": list(images.classes),
        "mean": list(images.mean),
        "std": list(images.std),
        "data": "digits",
        "digest": "0" * 64,
    }
    return told | changes


def file_of(folder: Path, card: dict[str, Any], network: nn.Module | None = None) -> Path:
    """Write weights with a card, of a network that has learnt nothing unless one is given."""
    channels, size, _ = card["image_shape"]
    if network is None:
        network = models.build(MODEL, num_classes=len(card["classes"]), in_channels=channels, image_size=size)
    path = folder / "teacher.safetensors"
    weights.write(network, path, card=card)
    return path


def knowing(trained: Path) -> nn.Module:
    """Return the trained teacher's network."""
    network = models.build(MODEL, num_classes=10, in_channels=1, image_size=8)
    network.load_state_dict(load_file(Run(trained / MODEL / "teacher").weights("best")))
    return network


# What is refused.


def refused(folder: Path, card: dict[str, Any], network: nn.Module | None = None, *settings: str) -> BakeoffError:
    path = file_of(folder, card, network)
    with pytest.raises(BakeoffError) as caught:
        training.start(recipe("objective=kd", f"teacher={path}", *settings, root=folder), folder / MODEL / "student")
    assert not (folder / MODEL / "student").exists()  # before training starts: nothing is left behind
    return caught.value


def test_a_teacher_near_chance_is_refused_with_its_figures(tmp_path: Path, images: ImageSet) -> None:
    error = refused(tmp_path, card_of(images))
    assert error.exit_code == 3
    for figure in ("an accuracy of", "entropy", "chance (10.00%)", "10 standard errors", "random:"):
        assert figure in str(error)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": [f"sign {i}" for i in range(10)], "data": "signs"}, "10 classes of signs, such as 'sign 0'"),
        ({"classes": [str(i) for i in range(8)]}, "8 classes of digits"),
        ({"classes": [str(i) for i in reversed(range(10))]}, "in another order"),
        ({"image_shape": [1, 16, 16]}, "pictures of 16x16 pixels"),
        ({"image_shape": [3, 8, 8], "mean": [0.5] * 3, "std": [0.5] * 3}, "pictures of 3 channels"),
    ],
)
def test_a_teacher_of_other_data_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path, images: ImageSet
) -> None:
    error = refused(tmp_path, card_of(images, **changes))
    assert error.exit_code == 3
    assert said in str(error)


def test_a_teacher_that_answers_nan_is_refused(tmp_path: Path, images: ImageSet, trained: Path) -> None:
    network = knowing(trained)
    network.get_parameter("fc.bias").data[3] = math.nan
    error = refused(tmp_path, card_of(images), network)
    assert error.exit_code == 3
    assert "not finite" in str(error)


def test_a_plug_in_named_in_a_card_is_not_run(tmp_path: Path, images: ImageSet) -> None:
    error = refused(tmp_path, card_of(images, model="os.path:join"), models.build(MODEL, num_classes=10, in_channels=1))
    assert error.exit_code == 3
    assert "would run code" in str(error)


def test_weights_that_do_not_fit_their_card_are_refused(tmp_path: Path, images: ImageSet) -> None:
    error = refused(tmp_path, card_of(images, model="resnet_32"), models.build(MODEL, num_classes=10, in_channels=1))
    assert error.exit_code == 3
    assert "do not fit" in str(error)


@pytest.mark.parametrize("old_format", [False, True])
def test_a_pickle_is_refused_unread(old_format: bool, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path.joinpath("exploded").touch, ())

    path = tmp_path / "teacher.pth"
    torch.save({"weights": Bomb()}, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(DataError, match="a pickle"):
        recipe("objective=kd", f"teacher={path}", root=tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_weights_whose_header_begins_like_a_pickle_are_weights(tmp_path: Path, images: ImageSet) -> None:
    """The header's length stands first: of one file in thirty-two its lowest byte is a pickle's first."""
    for extra in range(40):
        path = file_of(tmp_path, card_of(images, data="d" * 8 * extra))
        if path.read_bytes()[:1] == b"\x80":
            break
    else:
        pytest.fail("no such length")
    assert recipe("objective=kd", f"teacher={path}", root=tmp_path).teacher is not None


@pytest.mark.parametrize(
    "changes",
    [
        *({"mean": None}, {"mean": [0.1, 0.2, 0.3]}, {"mean": ["a"]}, {"std": [0.0]}, {"std": [math.inf]}),
        *({"classes": "0123456789"}, {"classes": [{"a": 1}] * 10}, {"image_shape": [1, 8]}, {"image_shape": "1x8x8"}),
    ],
)
def test_cards_that_say_nothing_are_refused(changes: dict[str, Any], tmp_path: Path, images: ImageSet) -> None:
    network = models.build(MODEL, num_classes=10, in_channels=1, image_size=8)
    weights.write(network, tmp_path / "teacher.safetensors", card=card_of(images) | changes)
    with pytest.raises(DataError):
        load(recipe("objective=kd", f"teacher={tmp_path / 'teacher.safetensors'}", root=tmp_path), tmp_path)


def test_too_few_images_to_measure_on_are_said() -> None:
    labels = np.arange(10)
    with pytest.raises(DataError, match="10 images to measure it on"):
        teacher_check.measure(np.eye(10), labels, temperature=1.0, name="x")


def test_standardised_targets_have_their_own_entropy() -> None:
    logits = np.random.default_rng(0).normal(2, 3, (500, 10))
    logits[np.arange(500), 0] += 9
    labels = np.zeros(500, np.int64)
    figures = teacher_check.measure(logits, labels, temperature=2.0, name="x", standardise=True)
    z = (logits - logits.mean(1, keepdims=True)) / logits.std(1, ddof=1, keepdims=True) / 2
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    assert figures["entropy"] == pytest.approx(-(p * np.log(p)).sum(1).mean())


def test_no_such_teacher_is_a_mistake_of_the_command(tmp_path: Path, trained: Path) -> None:
    with pytest.raises(RecipeError, match=r"'techer', no such run.*Did you mean 'teacher'"):
        recipe("objective=kd", "teacher=techer", root=trained)


def test_an_unfinished_run_is_no_teacher(tmp_path: Path, trained: Path) -> None:
    run = Run(tmp_path / MODEL / "half")
    run.folder.mkdir(parents=True)
    run.recipe_path.write_text(Run(trained / MODEL / "teacher").recipe_path.read_text())
    with pytest.raises(DataError, match=r"not finished.*bakeoff resume"):
        load(recipe("objective=kd", "teacher=half", root=tmp_path), tmp_path)


def test_a_teacher_that_is_another_than_the_recipe_says_is_refused(trained: Path) -> None:
    of = recipe("objective=kd", "teacher=teacher", root=trained)
    assert of.teacher is not None
    other = of.model_copy(update={"teacher": of.teacher.model_copy(update={"digest": "f" * 64})})
    with pytest.raises(DataError, match="another teacher"):
        load(other, trained)


@pytest.mark.parametrize(("objective", "student"), [("fitnets", "mlp_mixer_tiny"), ("attention_transfer", "cct_7_3x1")])
def test_a_student_without_maps_is_refused(objective: str, student: str, trained: Path, tmp_path: Path) -> None:
    settings = [*SMALL, "epochs=1", f"objective={objective}", "teacher=random:resnet_20"]
    with pytest.raises(RecipeError):
        training.start(resolve(student, overrides=settings), tmp_path / student / "student")
    assert not (tmp_path / student).exists()


def test_a_hint_at_a_stage_that_is_not_there_is_refused(trained: Path) -> None:
    with pytest.raises(RecipeError, match=r"objective\.stage: found 4"):
        load(recipe("objective=fitnets", "objective.stage=4", "teacher=teacher", root=trained), trained)


def test_a_random_teacher_is_a_control_and_measured_as_one(tmp_path: Path) -> None:
    found = load(recipe("objective=kd", "teacher=random:resnet_32"), tmp_path)
    again = load(recipe("objective=kd", "teacher=random:resnet_32"), tmp_path)
    assert found.figures["model"] == "resnet_32"
    assert abs(found.figures["top1"] - 0.1) < 10 * found.figures["standard_error"]
    assert found.figures["sha256"] == again.figures["sha256"]  # it follows from the seed


# How it is measured.


def test_its_figures_are_those_of_its_answers(trained: Path) -> None:
    of = recipe("objective=kd", "temperature=2", "teacher=teacher", root=trained)
    share = assembly.load(of)
    found, network = load(of, trained), knowing(trained).eval()
    assert share.val is not None
    ((x, _),) = plain(share.val, batch_size=len(share.val), device=torch.device("cpu"))
    with torch.no_grad():
        logits = network(x).double()
    p = (logits / 2).softmax(1)
    figures = found.figures
    assert figures["top1"] == pytest.approx(float((logits.argmax(1).numpy() == share.val.labels).mean()), abs=0.02)
    assert figures["entropy"] == pytest.approx(float(-(p * p.log()).sum(1).mean()), rel=0.02)
    assert figures["top1"] > 0.6
    assert figures["n"] == len(share.val)
    assert figures["measured_on"] == "validation"


def test_it_says_which_of_the_students_validation_images_it_was_trained_on(trained: Path) -> None:
    of = recipe("objective=kd", "teacher=teacher", root=trained)
    split = Run(trained / MODEL / "teacher").read_json(Run(trained / MODEL / "teacher").split_path)
    expected = np.isin(assembly.load(of).val_index, split["train"]).mean()
    assert 0 < load(of, trained).figures["seen"] == pytest.approx(expected)


def test_without_validation_images_it_is_measured_on_training_images(trained: Path) -> None:
    found = load(recipe("objective=kd", "teacher=teacher", "protocol=paper", root=trained), trained)
    assert found.figures["measured_on"] == "training"
    assert found.answers is None
    assert found.agreement(np.zeros((3, 10))) is None


def test_agreement_is_the_share_of_equal_answers() -> None:
    found = teacher.Teacher(seen=nn.Identity(), tapped=False, shapes=[], figures={}, answers=np.array([0, 1, 2, 1]))
    assert found.agreement(np.eye(3)[[0, 1, 1, 1]]) == 0.75


def test_ten_standard_errors_above_chance_are_the_border() -> None:
    n, classes = 1000, 10
    least = 0.1 + 10 * math.sqrt(0.1 * 0.9 / n)
    for right, refused in ((math.floor(least * n), True), (math.floor(least * n) + 1, False)):
        labels = np.zeros(n, np.int64)
        logits = np.eye(classes)[np.where(np.arange(n) < right, 0, 1)]
        if refused:
            with pytest.raises(DataError):
                teacher_check.measure(logits, labels, temperature=1.0, name="x")
        else:
            assert teacher_check.measure(logits, labels, temperature=1.0, name="x")["top1"] == right / n


# What it sees.


def test_it_sees_the_very_batch_of_the_student(trained: Path) -> None:
    of = recipe("objective=kd", "teacher=teacher", "mixup=0.5", "cutmix=1.0", root=trained)
    parts = assembly.assemble(of, assembly.load(of), plugin=None, root=trained)
    shown: list[torch.Tensor] = []
    seen: list[torch.Tensor] = []
    assert parts.teacher is not None
    parts.teacher.seen.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    parts.model.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].clone()))
    for _ in loop.epoch(parts, Position.at_start(parts)):
        pass
    assert len(shown) == len(seen) > 3
    assert all(torch.equal(a, b) for a, b in zip(shown, seen, strict=True))


def test_it_keeps_its_own_normalisation(images: ImageSet) -> None:
    own = ((0.3,), (0.9,))
    view = teacher.View(nn.Identity(), shown=(images.mean, images.std), own=own, size=None)
    pixels = torch.rand(4, 1, 8, 8)
    (mean,), (std,) = images.mean, images.std
    torch.testing.assert_close(view((pixels - mean) / std), (pixels - 0.3) / 0.9)


def test_it_may_be_shown_pictures_of_its_own_size(tmp_path: Path, images: ImageSet, trained: Path) -> None:
    path = file_of(tmp_path, card_of(images, image_shape=[1, 16, 16]), knowing(trained))
    of = recipe("objective=kd", f"teacher={path}", root=tmp_path)
    assert of.teacher is not None
    of = of.model_copy(update={"teacher": of.teacher.model_copy(update={"resize": True})})
    sizes: list[tuple[int, ...]] = []
    network = models.build(MODEL, num_classes=10, in_channels=1, image_size=16)
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[1:])))
    teacher.View(network, shown=([0.5], [0.5]), own=([0.5], [0.5]), size=16)(torch.rand(2, 1, 8, 8))
    assert sizes == [(1, 16, 16)]
    with pytest.raises(DataError, match="an accuracy of"):  # it is shown them, and makes nothing of them
        load(of, tmp_path)


def test_it_learns_nothing_itself(trained: Path) -> None:
    of = recipe("objective=fitnets", "teacher=teacher", root=trained)
    parts = assembly.assemble(of, assembly.load(of), plugin=None, root=trained)
    assert parts.teacher is not None
    before = weights.digest(parts.teacher.seen.state_dict())
    parts = replace(parts, model=stages.Tapped(parts.model, stages.names(parts.model)))
    for _ in loop.epoch(parts, Position.at_start(parts)):
        pass
    assert weights.digest(parts.teacher.seen.state_dict()) == before
    assert not any(module.training for module in parts.teacher.seen.modules())
    taught = {id(p) for p in parts.teacher.seen.parameters()}
    assert not taught & {id(p) for group in parts.optimizer.param_groups for p in group["params"]}


# What becomes of it.


@pytest.fixture(scope="module", params=["kd", "fitnets"])
def student(request: pytest.FixtureRequest, trained: Path) -> Iterator[Run]:
    settings = ("epochs=2", f"objective={request.param}", "teacher=teacher", "objective.teacher_weight=1")
    of = recipe(*settings, root=trained)
    return Run(training.start(of, trained / MODEL / request.param).folder)


def test_the_record_tells_of_the_teacher(student: Run) -> None:
    record = student.record()
    taught = record.summary["teacher"]
    assert taught["name"] == "resnet_20/teacher"
    assert taught["top1"] > 0.6
    assert taught["agreement"] == record.rows[-1]["val/agreement"] or record.summary["selected_on"].endswith("1")
    assert json.loads(student.teacher_path.read_text())["sha256"] == taught["sha256"]
    for row in record.rows:
        shares = [value for key, value in row.items() if key.startswith("train/share/")]
        assert sum(shares) == pytest.approx(1)
        assert len(shares) == 2


def test_what_only_helped_to_train_is_not_in_the_weights(student: Run) -> None:
    plain = models.build(MODEL, num_classes=10, in_channels=1, image_size=8)
    for which in ("best", "last"):
        plain.load_state_dict(load_file(student.weights(which)))  # strict: neither more nor less


def test_test_is_read_without_the_teacher(student: Run, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "load", lambda *_, **__: pytest.fail("a teacher was asked for"))
    assert "test" in training.read_test(student).summary


def test_a_run_does_not_go_on_with_another_teacher(trained: Path, tmp_path: Path) -> None:
    path = file_of(tmp_path, card_of(data.load("digits", part="train")), knowing(trained))
    of = recipe("epochs=2", "objective=kd", f"teacher={path}", root=tmp_path)
    run = Run(training.start(of, tmp_path / MODEL / "student").folder)
    told = run.read_json(run.teacher_path)
    run.write_json(run.teacher_path, told | {"sha256": "0" * 64})
    with pytest.raises(ResumeRefused, match="a teacher with other weights"):
        training.resume(run, epochs=3)


def test_where_a_teacher_lies_is_no_part_of_the_experiment(trained: Path) -> None:
    of = recipe("objective=kd", "teacher=teacher", root=trained)
    assert of.teacher is not None
    moved = of.model_copy(update={"teacher": of.teacher.model_copy(update={"name": "elsewhere"})})
    other = of.model_copy(update={"teacher": of.teacher.model_copy(update={"digest": "0" * 64})})
    assert moved.digest == of.digest != other.digest


def test_hints_train_their_regressor_too(trained: Path) -> None:
    of = recipe("objective=fitnets", "teacher=teacher", root=trained)
    parts = assembly.assemble(of, assembly.load(of), plugin=None, root=trained)
    assert parts.adapter is not None
    before = weights.digest(parts.adapter.state_dict())
    parts = replace(parts, model=stages.Tapped(parts.model, stages.names(parts.model)))
    for _ in loop.epoch(parts, Position.at_start(parts)):
        pass
    assert weights.digest(parts.adapter.state_dict()) != before


def test_timms_networks_may_teach(tmp_path: Path, images: ImageSet) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet10t", num_classes=10, in_chans=1)
    about = {"architecture": "resnet10t", "num_classes": 10, "pretrained_cfg": {
        "input_size": [1, 8, 8], "mean": list(images.mean), "std": list(images.std), "num_classes": 10,
        "classifier": "fc", "first_conv": "conv1.0", "label_names": list(images.classes)}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(about | {"model_args": {"in_chans": 1}}))
    from safetensors.torch import save_file

    save_file(network.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="an accuracy of"):  # loaded, compared and measured: it has learnt nothing
        load(recipe("objective=kd", f"teacher=timm:local-dir:{tmp_path}"), tmp_path)


def test_a_timm_network_without_weights_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    with pytest.raises(RecipeError, match="a network that timm has"):
        load(recipe("objective=kd", "teacher=timm:resnett18"), tmp_path)
