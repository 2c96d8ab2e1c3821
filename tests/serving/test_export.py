"""An export answers as its network does: in every format, at any batch, without this package; or it is not there."""

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bakeoff import models
from bakeoff.errors import BakeoffError, DataError, RecipeError, VerificationFailed
from bakeoff.results.store import Run
from bakeoff.serving import agreement, export, onnx, program
from bakeoff.training import assembly, trained, weights
from bakeoff.training.trained import Trained
from tests.training import runs, tiny

for _name in onnx.PACKAGES:
    pytest.importorskip(_name, reason="needs the extra bakeoff[export]")

ROOT = Path(__file__).parents[2]
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A tiny network that has learnt digits."""
    run = runs.start(tmp_path_factory.mktemp("export") / "first")
    return trained.load(run, plugin=tiny.NAME, device="cpu")


@pytest.fixture(scope="module")
def exported(model: Trained) -> dict[str, Any]:
    return export.export(model, model.run.folder / "export", int8=True, plugin=tiny.NAME)


def folder(model: Trained) -> Path:
    return model.run.folder / "export"


def held_out(model: Trained) -> agreement.Images:
    val = assembly.load(model.recipe).val
    assert val is not None
    return val.pixels(np.arange(len(val)))


def expected(model: Trained) -> agreement.Logits:
    return agreement.reference(model.network, held_out(model), mean=model.mean, std=model.std)


def blocks() -> list[str]:
    """List the Python that the documentation shows."""
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_every_format_is_kept_with_its_figures(model: Trained, exported: dict[str, Any]) -> None:
    assert json.loads((folder(model) / "verify.json").read_text(encoding="utf-8")) == exported
    assert list(exported["formats"]) == ["safetensors", "onnx", "program"]
    num_images = len(held_out(model))
    assert exported["images"] == {"data": "digits", "split": "val", "num_images": num_images}
    for found in exported["formats"].values():
        assert found["max_abs_difference"] <= 1e-3
        assert found["top1_agreement"] == 1
        assert [(c["batch_size"], c["num_images"]) for c in found["checks"]] == [
            (1, 16),
            (7, num_images),
            (num_images, num_images),
        ]
    assert exported["formats"]["onnx"]["opset"] == onnx.OPSET
    assert {"torch", "onnx", "onnxruntime", "onnxscript"} <= set(exported["versions"])


def test_the_accuracy_is_that_of_the_run(model: Trained, exported: dict[str, Any]) -> None:
    assert exported["network_top1"] == model.run.record().summary["val"]["top1"]


def test_there_are_those_files_and_no_others(model: Trained, exported: dict[str, Any]) -> None:
    told = [*exported["formats"].values(), exported["int8"]]
    assert {path.name for path in folder(model).iterdir()} == {"verify.json", *(found["file"] for found in told)}
    for found in told:
        content = (folder(model) / found["file"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (found["bytes"], found["sha256"])
    assert not list(model.run.folder.glob(".*.tmp"))
    assert [path.name for path in model.run.folder.iterdir() if path.is_dir() and path.name.startswith(".")] == []


def test_int8_tells_its_accuracy_beside_that_of_the_network(exported: dict[str, Any]) -> None:
    int8 = exported["int8"]
    assert 0 < int8["max_abs_difference"] < 100
    assert int8["network_top1"] == exported["network_top1"]
    assert int8["top1"] > int8["network_top1"] - 0.2
    assert int8["calibration"]["split"] == "train"
    assert int8["sha256"] != exported["formats"]["onnx"]["sha256"]


@pytest.mark.usefixtures("exported")
def test_a_process_without_this_package_and_torch_answers_alike(model: Trained, tmp_path: Path) -> None:
    """The documentation's own example, and all held-out images as raw pixels in one batch."""
    images, logits = held_out(model), expected(model)
    Image.fromarray(images[3, :, :, 0]).save(tmp_path / "photo.png")
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "export").symlink_to(folder(model))
    alone = "import sys\nsys.modules['bakeoff'] = sys.modules['torch'] = None\n"
    whole = "print(json.dumps(session.run(['logits'], {'images': np.load('images.npy')})[0].argmax(1).tolist()))\n"
    done = subprocess.run(
        [sys.executable, "-c", alone + blocks()[0] + whole],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown, top1 = done.stdout.splitlines()
    assert shown == model.classes[logits[3].argmax()]
    assert json.loads(top1) == logits.argmax(1).tolist()


@pytest.mark.usefixtures("exported")
def test_the_program_answers_as_documented(model: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "export").symlink_to(folder(model))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"images": held_out(model)}
    exec(blocks()[1], names)
    np.testing.assert_allclose(names["logits"].numpy(), expected(model), atol=1e-4)


@pytest.mark.usefixtures("exported")
def test_the_graph_says_what_it_takes(model: Trained) -> None:
    import onnxruntime

    for name in ("model.onnx", "model.int8.onnx"):
        session = onnxruntime.InferenceSession(folder(model) / name)
        (takes,), (gives,) = session.get_inputs(), session.get_outputs()
        assert (takes.name, takes.type, takes.shape) == ("images", "tensor(uint8)", ["batch", 8, 8, 1])
        assert (gives.name, gives.type, gives.shape) == ("logits", "tensor(float)", ["batch", 10])
        about = session.get_modelmeta().custom_metadata_map
        assert json.loads(about["classes"]) == list(model.classes)
        assert json.loads(about["image_size"]) == [8, 8]
        assert about["run_digest"] == model.recipe.digest
        assert about["precision"] == ("int8" if "int8" in name else "float32")
        assert "grey" in about["input"]


@pytest.mark.usefixtures("exported")
def test_the_safetensors_are_the_chosen_weights_with_their_card(model: Trained) -> None:
    state, card = weights.read(folder(model) / "model.safetensors", device=torch.device("cpu"))
    assert weights.digest(state) == weights.digest(model.network.state_dict())
    assert card == model.card


@pytest.mark.usefixtures("exported")
def test_no_file_tells_where_it_was_made(model: Trained) -> None:
    contents = [(folder(model) / name).read_bytes() for name in ("model.onnx", "model.int8.onnx", "verify.json")]
    with zipfile.ZipFile(folder(model) / "model.pt2") as archive:
        contents += [archive.read(name) for name in archive.namelist()]
    for content in contents:
        assert str(ROOT).encode() not in content
        assert b"site-packages" not in content
        assert str(model.run.folder).encode() not in content


@pytest.mark.usefixtures("exported")
def test_what_is_there_is_not_overwritten(model: Trained) -> None:
    before = {path: path.read_bytes() for path in folder(model).iterdir()}
    with pytest.raises(RecipeError, match="never overwritten"):
        export.export(model, folder(model), formats=["safetensors"], plugin=tiny.NAME)
    assert {path: path.read_bytes() for path in folder(model).iterdir()} == before


@pytest.mark.parametrize("name", ["onnx", "program"])
def test_another_weight_is_noticed_and_nothing_is_left(
    name: str, model: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = program.trace

    def tampered(network: nn.Module, **others: Any) -> Any:
        traced = real(network, **others)
        with torch.no_grad():
            traced.state_dict["network.5.bias"][3] += 0.01
        return traced

    monkeypatch.setattr(program, "trace", tampered)
    with pytest.raises(VerificationFailed, match=r"off by up to 0\.01 .* in batches of 1;") as refused:
        export.export(model, tmp_path / "out", formats=["safetensors", name], plugin=tiny.NAME)
    assert refused.value.exit_code == 8
    assert list(tmp_path.iterdir()) == []


def test_weights_that_were_exchanged_on_the_disk_are_noticed(model: Trained, tmp_path: Path) -> None:
    other = Run(tmp_path / "run")
    other.folder.mkdir()
    other.split_path.write_bytes(model.run.split_path.read_bytes())
    with torch.no_grad():
        network = assembly.build(model.recipe, num_classes=10, image_shape=model.image_shape, plugin=tiny.NAME)
    weights.write(network, other.weights("best"), card=model.card)
    exchanged = Trained(run=other, recipe=model.recipe, network=model.network, device=model.device, card=model.card)
    with pytest.raises(VerificationFailed, match=r"model\.safetensors"):
        export.export(exchanged, tmp_path / "out", formats=["safetensors"], plugin=tiny.NAME)
    other.weights("best").write_bytes(b"damaged")
    with pytest.raises(DataError):
        export.export(exchanged, tmp_path / "out", formats=["safetensors"], plugin=tiny.NAME)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_that_held_none_out_is_verified_on_training_images(tmp_path: Path) -> None:
    run = runs.start(tmp_path / "run", "protocol=paper", "epochs=1")
    paper = trained.load(run, plugin=tiny.NAME, device="cpu")
    verdict = export.export(paper, tmp_path / "out", formats=["safetensors"], num_images=20, plugin=tiny.NAME)
    assert verdict["images"] == {"data": "digits", "split": "train", "num_images": 20}


def test_other_data_than_the_run_had_are_refused(model: Trained, tmp_path: Path) -> None:
    """What is held out now could be what it was trained on."""
    other = Run(tmp_path / "run")
    other.write_json(other.split_path, model.run.read_json(model.run.split_path) | {"fingerprint": "another"})
    moved = Trained(run=other, recipe=model.recipe, network=model.network, device=model.device, card=model.card)
    with pytest.raises(DataError, match="the data it was trained on"):
        export.export(moved, tmp_path / "out", formats=["safetensors"], plugin=tiny.NAME)
    assert not (tmp_path / "out").exists()


def test_a_graph_that_is_wrong_at_some_batches_is_refused(
    model: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = onnx.runner

    def fussy(path: Path) -> agreement.Runner:
        run = real(path)
        return lambda images: run(images[:2])

    monkeypatch.setattr(onnx, "runner", fussy)
    with pytest.raises(VerificationFailed, match="does not work"):
        export.export(model, tmp_path / "out", formats=["onnx"], plugin=tiny.NAME)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"formats": ["onx"]}, "Did you mean 'onnx'"),
        ({"formats": []}, "no format"),
        ({"formats": ["program"], "int8": True}, "onnx among them"),
    ],
)
def test_mistakes_are_refused_first(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=said):
        export.check(tmp_path / "out", **{"int8": False, **options})


def test_missing_packages_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"pip install 'bakeoff\[export\]'"):
        export.check(tmp_path / "out", formats=["onnx"], int8=False)
    export.check(tmp_path / "out", formats=["safetensors", "program"], int8=False)


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "small_resnet": {"depth": 8, "attention": "eca"},
    "convnext": {"depths": (1, 1), "widths": (8, 16), "layer_scale": 1.0},
    "cct": {"width": 16, "depth": 2, "num_heads": 2},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_agree(name: str, tmp_path: Path) -> None:
    """An attention net, one with layer norm, a transformer: weights drawn, statistics and pictures random."""
    torch.manual_seed(0)
    network = models.build(name, num_classes=7, in_channels=3, image_size=16, **ARCHITECTURES[name]).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) / 10
            module.running_var = torch.rand(module.num_features) + 0.5
    images = np.random.default_rng(0).integers(0, 256, (23, 16, 16, 3), dtype=np.uint8)
    logits = agreement.reference(network, images, mean=MEAN, std=STD)
    assert np.ptp(logits, axis=0).min() > 1e-2  # or a constant would agree as well
    traced = program.trace(network, mean=MEAN, std=STD, image_shape=(3, 16, 16))
    program.write(traced, tmp_path / "model.pt2")
    onnx.write(traced, tmp_path / "model.onnx", about={"classes": ["a"] * 7})
    for run in (program.runner(tmp_path / "model.pt2"), onnx.runner(tmp_path / "model.onnx")):
        for check in agreement.measure(run, images, logits):
            assert check.holds, check


class Values(nn.Module):
    """An operation that torch records and ONNX has no words for."""

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = torch.linalg.svdvals(x[:, 0])
        return values


class Choice(nn.Module):
    """What a graph cannot hold: the way depends on the numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


def test_operations_that_cannot_be_exported_are_named(tmp_path: Path) -> None:
    shape: dict[str, Any] = {"mean": MEAN, "std": STD, "image_shape": (3, 16, 16)}
    traced = program.trace(Values().eval(), **shape)
    with pytest.raises(BakeoffError, match=r"ONNX: found the operation aten\S*svd") as refused:
        onnx.write(traced, tmp_path / "model.onnx", about={})
    assert refused.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BakeoffError, match="that cannot be exported"):
        program.trace(Choice().eval(), **shape)


LOGITS = np.array([[0, 1, 0.9995], [3, 1, 0], [0, 0, 5]], dtype=np.float32)


@pytest.mark.parametrize(
    ("change", "same_top1", "ties", "holds"),
    [
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], 3, 0, True),
        ([[0, 0, 0], [9e-4, 0, 0], [0, 0, 0]], 3, 0, True),
        ([[0, 0, 0], [2e-3, 0, 0], [0, 0, 0]], 3, 0, False),
        ([[0, 0, 8e-4], [0, 0, 0], [0, 0, 0]], 2, 1, True),
        ([[0, 0, 0], [0, 3, 0], [0, 0, 0]], 2, 0, False),
        ([[0, 0, 0], [0, 0, 0], [0, np.nan, 0]], 2, 0, False),
        ([[0, 0, 0], [0, 0, 0], [0, 0, np.inf]], 3, 0, False),
    ],
)
def test_agreement(change: list[list[float]], same_top1: int, ties: int, holds: bool) -> None:
    found = agreement.compare(LOGITS + np.array(change, dtype=np.float32), LOGITS, batch_size=3)
    assert (found.same_top1, found.ties, found.holds) == (same_top1, ties, holds)


def test_a_network_that_mixes_the_pictures_of_a_batch_does_not_agree() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 2, 2, 1), dtype=np.uint8)

    def alone(batch: agreement.Images) -> agreement.Logits:
        return batch.reshape(len(batch), 4).astype(np.float32)

    def mixing(batch: agreement.Images) -> agreement.Logits:
        return alone(batch) - alone(batch)[:1]

    assert all(check.holds for check in agreement.measure(alone, images, alone(images)))
    assert not any(check.holds for check in agreement.measure(mixing, images, alone(images)))
