"""The verb benchmark: what it prints and writes, what stops it and what does not."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bakeoff import catalogue, cli
from bakeoff.cli import benchmarking
from bakeoff.models import cost
from bakeoff.training import speed
from tests.training import tiny

QUICK = ["--batch", "4", "--image-size", "8", "--classes", "3", "--seconds", "0.001", "--threads", "1"]
QUICK += ["--device", "cpu", "--precision", "float32"]
TIMM = "infer_samples_per_sec infer_step_time infer_batch_size infer_img_size infer_gmacs infer_macts"
TIMM += " train_samples_per_sec train_step_time train_batch_size train_img_size"
BROKEN = tiny.POISONED  # which wants to know where


@pytest.fixture(autouse=True)
def small_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "PEAK_WIDTHS", {"cpu": 32})


@pytest.fixture
def interrupted_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let Ctrl-C come while the network after so many is measured."""
    measure, left = speed.measure, [0]

    def stopped(*arguments: Any, **options: Any) -> speed.Speed:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return measure(*arguments, **options)

    def set_up(num: int) -> None:
        left[0] = num
        monkeypatch.setattr(speed, "measure", stopped)

    return set_up


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_json_tells_what_the_network_costs_and_how_fast_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["benchmark", tiny.PLAIN, *QUICK, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (row,) = told["models"]
    expected = cost.cost(tiny.plain(num_classes=3, in_channels=3), (3, 8, 8))
    assert (row["params"], row["macs"]) == (expected.params, expected.macs)
    for part in ("train", "infer"):
        assert row[part]["images_per_s"] * row[part]["step_ms"] / 1000 == pytest.approx(4)
    assert row["infer"]["share_of_peak"] == pytest.approx(row["infer"]["macs_per_s"] / told["peak"]["macs_per_s"])
    assert row["single"]["median_ms"] <= row["single"]["p95_ms"]
    assert told["machine"]["precision"] == "float32"
    assert told["machine"]["threads"] == 1
    assert told["protocol"] == {"batch_size": 4, "image_shape": [3, 8, 8], "num_classes": 3, "seconds": 0.001}
    assert (told["failed"], told["interrupted"]) == ([], False)


def test_the_table_of_timm_has_its_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "speed.csv"
    assert cli.run(["benchmark", tiny.PLAIN, "resnet_20", *QUICK, "--csv", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["models"]
    written = table(out)
    assert list(written[0]) == ["model", *TIMM.split(), "param_count"]
    assert [row["model"] for row in written] == [tiny.PLAIN, "resnet_20"]
    for row, known in zip(written, told, strict=True):
        assert float(row["infer_gmacs"]) == known["macs"] / 1e9
        assert float(row["infer_macts"]) == known["activations"] / 1e6
        assert float(row["param_count"]) == known["params"] / 1e6
        assert float(row["train_step_time"]) == pytest.approx(known["train"]["step_ms"], abs=1e-3)
        assert row["infer_batch_size"] == row["train_batch_size"] == "4"
        assert row["infer_img_size"] == row["train_img_size"] == "8"


@pytest.mark.parametrize(
    ("only", "title", "prefix"), [("train", "training", "train"), ("inference", "inference", "infer")]
)
def test_one_half_alone(only: str, title: str, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speed.csv"
    assert cli.run(["benchmark", tiny.PLAIN, *QUICK, "--only", only, "--csv", str(out)]) == 0
    said = capsys.readouterr().out
    assert [word for word in ("training", "inference") if f"{word}, 4 pictures" in said] == [title]
    header = next(csv.reader(io.StringIO(out.read_text(encoding="utf-8"))))
    assert header == ["model", *(name for name in TIMM.split() if name.startswith(prefix)), "param_count"]


def test_one_that_fails_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["benchmark", "convnext_atto", tiny.PLAIN, *QUICK]) == 0
    said = capsys.readouterr().out
    assert "training, 4 pictures a step: 1" in said
    assert "not measured: 1" in said
    assert any(line.startswith("convnext_atto  pictures of 8 px; expected 16 px or more") for line in said.splitlines())
    for line in ("  machine  ", "  network  float32, channels last, not compiled; pictures of 3x8x8", "  peak     "):
        assert line in said


def test_where_all_fail_the_code_is_that_of_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["benchmark", BROKEN, "convnext_atto", *QUICK, "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["models"] == []
    assert [failed["name"] for failed in told["failed"]] == [BROKEN, "convnext_atto"]


def test_the_only_one_that_fails_is_a_plain_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["benchmark", "convnext_atto", *QUICK]) == 2
    captured = capsys.readouterr()
    assert "error convnext_atto: model: found pictures of 8 px" in captured.err
    assert not captured.out


@pytest.mark.parametrize("as_json", [True, False])
def test_ctrl_c_shows_what_is_done(
    as_json: bool,
    interrupted_after: Callable[[int], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    interrupted_after(1)
    out = tmp_path / "speed.csv"
    words = ["benchmark", tiny.PLAIN, "resnet_20", *QUICK, "--csv", str(out), *(["--json"] if as_json else [])]
    assert cli.run(words) == 130
    said = capsys.readouterr().out
    assert [row["model"] for row in table(out)] == [tiny.PLAIN]
    if as_json:
        told = json.loads(said)
        assert told["interrupted"]
        assert [row["name"] for row in told["models"]] == [tiny.PLAIN]
    else:
        assert "training, 4 pictures a step: 1" in said
        assert str(out) in said


def test_all_are_held_to_the_best_that_the_machine_has_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = iter([2e9, 5e9] * 2)
    monkeypatch.setattr(speed, "peak_macs_per_s", lambda *_, **__: next(looks))
    words = ["benchmark", tiny.PLAIN, "resnet_20", *QUICK, "--only", "inference"]
    assert cli.run([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["peak"]["macs_per_s"], told["peak"]["looks"]) == (5e9, [2e9, 5e9])
    for row in told["models"]:
        assert row["infer"]["share_of_peak"] == pytest.approx(row["infer"]["macs_per_s"] / 5e9)
    assert cli.run(words) == 0
    said = capsys.readouterr().out
    assert "  peak     5 GMAC/s in a product of two 32 x 32 matrices in float32 (the best of 2 looks" in said
    assert "worst 2)" in said


def test_patterns_are_those_of_list() -> None:
    found = benchmarking._names(["ECA*", "eca_resnet_20", "resnet20", "resnet[15]0"])
    eca = [name for name in catalogue.MODELS if name.startswith("eca")]
    assert found == [*eca, "resnet_20", "resnet10", "resnet50"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resnet_20", "resnet_21"], "Did you mean 'resnet_20'?"),
        (["resnext*"], "'resnext*', which fits none"),
        (["timm:resnet26dd"], "Did you mean"),
        (["resnet_20", "--only", "training"], "Did you mean 'train'?"),
        (["resnet_20", "--precision", "fp32"], "float32"),
        (["resnet_20", "--device", "gpu"], "cuda"),
        (["resnet_20", "--csv", "{file}"], "which exists"),
        (["resnet_20", "--batch", "0"], "--batch"),
        (["resnet_20", "--seconds", "0"], "--seconds"),
        (["resnet_20", "lr=0.1"], "'lr=0.1'"),
        ([], "MODEL"),
    ],
)
def test_mistakes_are_found_before_anything_is_measured(
    arguments: list[str],
    said: str,
    interrupted_after: Callable[[int], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    interrupted_after(0)
    file = tmp_path / "there.csv"
    file.write_text("kept", encoding="utf-8")
    assert cli.run(["benchmark", *(word.format(file=file) for word in arguments)]) == 2
    assert said in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == "kept"
