"""The command line from outside: real processes, exit codes, nothing overwritten, never a traceback."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakeoff import catalogue, cli
from bakeoff.cli.verbs import app

TINY = "tests.training.tiny:network"
QUICK = ["data=digits", "data.limit=200", "epochs=2", "batch_size=32", "threads=1", "device=cpu"]
ROOT = Path(__file__).parents[2]


def bakeoff(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, "-m", "bakeoff", *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run, `logs/<tiny>/first`."""
    folder = tmp_path_factory.mktemp("cli")
    done = bakeoff("train", TINY, *QUICK, "--name", "first", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout.json").write_text(done.stdout)
    return folder


def run_folder(trained: Path) -> Path:
    return trained / "logs" / TINY.replace(":", ".") / "first"


def test_train_leaves_the_whole_folder(trained: Path) -> None:
    names = {str(p.relative_to(run_folder(trained))) for p in run_folder(trained).rglob("*") if p.is_file()}
    assert {
        "recipe.yaml",
        "environment.json",
        "training_log.log",
        "metrics.jsonl",
        "training_curves.png",
        "evaluation_summary.json",
        "best_model.safetensors",
        "last_model.safetensors",
        "predictions/val.parquet",
        "predictions/test.parquet",
        "split.json",
        "plots/confusion_matrix.png",
    } <= names
    assert len(list((run_folder(trained) / "checkpoints").glob("step-*"))) == 2


def test_json_is_alone_on_stdout(trained: Path) -> None:
    answer = json.loads((trained / "stdout.json").read_text())
    assert answer["status"] == "finished"
    test = answer["summary"]["test"]
    assert test["n"] == 359 or test["n"] > 300
    assert test["top1"] == test["top1_correct"] / test["n"]
    assert answer["summary"]["protocol"] == "dev"
    assert re.fullmatch(r"val/top1, epoch [12]", answer["summary"]["selected_on"])
    assert len(answer["summary"]["test_reads"]) == 1


def test_eval_records_each_look(trained: Path) -> None:
    done = bakeoff("eval", "first", f"model={TINY}", "--json", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "look 2 at the test split" in done.stderr
    answer = json.loads(done.stdout)
    assert [look["command"][1] for look in answer["summary"]["test_reads"]] == ["train", "eval"]


def test_a_file_cannot_ask_for_code(trained: Path) -> None:
    done = bakeoff("eval", "first", cwd=trained)
    assert done.returncode == 2
    assert "would run code" in done.stderr


def test_resume_of_a_finished_run_does_nothing_and_extends_on_request(trained: Path) -> None:
    before = (run_folder(trained) / "last_model.safetensors").read_bytes()
    done = bakeoff("resume", "first", f"model={TINY}", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert (run_folder(trained) / "last_model.safetensors").read_bytes() == before
    done = bakeoff("resume", "first", f"model={TINY}", "epochs=1", cwd=trained)
    assert done.returncode == 2
    assert "2 are done" in done.stderr
    done = bakeoff("resume", "first", f"model={TINY}", "lr=3", cwd=trained)
    assert done.returncode == 2
    done = bakeoff("resume", "first", f"model={TINY}", "epochs=3", "--json", cwd=trained)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["epochs_done"], answer["summary"]["epochs"]) == (3, 3)


def test_list_and_show(trained: Path) -> None:
    listed = json.loads(bakeoff("list", "models", "resnet_*", "--json", cwd=trained).stdout)
    assert [row["name"] for row in listed] == ["resnet_20", "resnet_32", "resnet_44", "resnet_56", "resnet_110"]
    for what in ("models", "recipes", "datasets", "runs"):
        done = bakeoff("list", what, cwd=trained)
        assert done.returncode == 0
        assert done.stdout
    assert "first" in bakeoff("list", "runs", cwd=trained).stdout
    shown = json.loads(bakeoff("show", "resnet20", "epochs=3", "--json", cwd=trained).stdout)
    assert (shown["recipe"]["epochs"], shown["recipe"]["model"]["name"]) == (3, "resnet_20")
    assert "label_smoothing: 0.1" in bakeoff("show", "middle_convnet", cwd=trained).stdout
    assert "finished" in bakeoff("show", "first", "--json", cwd=trained).stdout


def test_a_pattern_chooses_among_the_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["list", "models", "eca*", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [name for name in catalogue.MODELS if name.startswith("eca")]
    assert {row["recipe"] for row in rows} == {"small_convnet"}
    assert rows[0]["params_m"] == catalogue.costs()[rows[0]["name"]].params / 1e6
    assert cli.run(["list", "models", "eca*"]) == 0
    shown = capsys.readouterr().out
    assert all(row["name"] in shown for row in rows)
    assert "convnext_tiny" not in shown
    assert cli.run(["list", "models", "nothing*"]) == 0
    assert "No models like 'nothing*'." in capsys.readouterr().out


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_model_is_shown_with_its_layers(
    depth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["show", "convnext_tiny", "--depth", str(depth)]
    assert cli.run([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    costs = catalogue.costs()["convnext_tiny"]
    whole, layers = answer["model"], answer["layers"]
    assert (whole["params"], whole["macs"], whole["activations"]) == (costs.params, costs.macs, costs.activations)
    assert sum(layer["params"] for layer in layers) == costs.params
    assert sum(layer["macs"] for layer in layers) == costs.macs
    assert max(layer["name"].count(".") for layer in layers) == depth - 1
    assert layers[-1]["shape"] == [100]
    assert answer["recipe"]["model"]["name"] == "convnext_tiny"
    assert cli.run(arguments) == 0
    shown = capsys.readouterr().out
    assert all(layer["name"] in shown for layer in layers)
    assert f"{costs.params:,}" in shown
    assert "2201.03545" in shown
    assert "name: convnext_tiny" in shown


@pytest.mark.parametrize("depth", ["0", "-1", "deep"])
def test_a_depth_that_is_none_is_refused(depth: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["show", "resnet_20", "--depth", depth]) == 2
    assert "--depth" in capsys.readouterr().err


def test_a_network_of_timm_is_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["show", "timm:resnet18", "--depth", "1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["recipe"]["model"]["name"] == "timm:resnet18"
    assert answer["model"]["params"] == 11_227_812  # torchvision's resnet18 with 100 classes


def test_dry_run_leaves_nothing(tmp_path: Path) -> None:
    done = bakeoff("train", TINY, *QUICK, "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 10
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["train", "resnet_21"], 2, "resnet_20"),
        (["train", "resnet_20", "epoch=3"], 2, "epochs"),
        (["train", "resnet_20", "optimizer=adan"], 2, "adam"),
        (["train", "resnet_20", "data=cifar1000"], 2, "cifar100"),
        (["train", "resnet_20", "data=digits", "epochs=0"], 2, "greater than or equal to 1"),
        (["train", "resnet_20", "data=digits", "batch_size=5000"], 2, "5000"),
        (["train", "resnet_20", "data=digits", "lr=abc"], 2, "'abc'"),
        (["train", "resnet_20", "data=digits", "--name", "../escape"], 2, "../escape"),
        (["train", "resnet_20", "data=digits", "--name", ".."], 2, "run name"),
        (["train", "resnet_20", "data=digits", "model.depht=3"], 2, "depht"),
        (["train", "resnet_20", "data=digits", "device=cuda"], 2, "device"),
        (["train", "no.such.module:network", "data=digits"], 2, "no.such.module"),
        (["train"], 2, "MODEL"),
        (["train", "a", "b"], 2, "one model"),
        (["trian", "resnet_20"], 2, "trian"),
        (["resume", "nothing"], 2, "nothing"),
        (["eval", "nothing"], 2, "nothing"),
        (["list", "modles"], 2, "models"),
        (["show", "nothing"], 2, "nothing"),
        (["train", "resnet_20", "--recipe", "nowhere.yaml"], 3, "nowhere.yaml"),
        (["train", "resnet_20", "data=digits", "--root", "/proc/nowhere"], 5, "/proc/nowhere"),
    ],
)
def test_a_mistake_gives_one_message(
    arguments: list[str], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if os.environ.get("BAKEOFF_TEST_CUDA") and "device=cuda" in arguments:
        pytest.skip("this machine has a GPU")
    assert cli.run(arguments) == code
    message = capsys.readouterr().err
    assert says in message
    assert "Traceback" not in message
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_mistake_before_the_first_step_leaves_no_run_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "resnet_20", "data=digits", "batch_size=5000", "--name", "again"]) == 2
    assert not list(tmp_path.rglob("again"))


def test_an_existing_name_is_not_overwritten(trained: Path) -> None:
    before = (run_folder(trained) / "metrics.jsonl").read_bytes()
    done = bakeoff("train", TINY, *QUICK, "--name", "first", cwd=trained)
    assert done.returncode == 2
    assert "bakeoff resume" in done.stderr
    assert (run_folder(trained) / "metrics.jsonl").read_bytes() == before


def test_a_second_process_on_a_run_is_turned_away(tmp_path: Path) -> None:
    long = [*QUICK[:2], "epochs=2000", *QUICK[3:]]
    first = start(tmp_path, "train", TINY, *long, "--name", "busy")
    folder = tmp_path / "logs" / TINY.replace(":", ".") / "busy"
    wait_for(folder / "metrics.jsonl", first)
    second = bakeoff("resume", "busy", f"model={TINY}", cwd=tmp_path)
    assert second.returncode == 6
    assert str(first.pid) in second.stderr
    assert "running" in bakeoff("list", "runs", cwd=tmp_path).stdout
    first.kill()
    first.wait()
    assert "interrupted" in bakeoff("list", "runs", cwd=tmp_path).stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_stops(number: signal.Signals, code: int, tmp_path: Path) -> None:
    long = [*QUICK[:2], "epochs=2000", *QUICK[3:]]
    process = start(tmp_path, "train", TINY, *long, "--name", "stopped")
    folder = tmp_path / "logs" / TINY.replace(":", ".") / "stopped"
    wait_for(folder / "metrics.jsonl", process)
    process.send_signal(number)
    assert process.wait(timeout=10) == code
    errors = (tmp_path / "stderr.txt").read_text()
    assert "bakeoff resume" in errors
    assert "Traceback" not in errors
    done_epochs = len((folder / "metrics.jsonl").read_text().splitlines())
    process = start(tmp_path, "resume", "stopped", f"model={TINY}")
    while len((folder / "metrics.jsonl").read_text().splitlines()) <= done_epochs:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    epochs = [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, len(epochs) + 1))


def test_divergence_names_the_step(tmp_path: Path) -> None:
    done = bakeoff("train", TINY, *QUICK, "lr=1e30", "--name", "wild", "precision=float32", cwd=tmp_path)
    assert done.returncode == 4
    assert re.search(r"step \d+ of", done.stderr)
    assert "lower lr" in done.stderr
    assert "diverged" in bakeoff("list", "runs", cwd=tmp_path).stdout
    assert bakeoff("resume", "wild", f"model={TINY}", cwd=tmp_path).returncode == 7


def test_data_that_is_nowhere(tmp_path: Path) -> None:
    nothing = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "BAKEOFF_DATA": str(tmp_path), "HOME": str(tmp_path)}
    done = bakeoff("train", "resnet_20", cwd=tmp_path, **nothing, BAKEOFF_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 3
    assert "BAKEOFF_DATA" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_frozen_command_line() -> None:
    """What people have in their scripts: a change here is a change for them."""
    import typer

    def walk(group: Any, before: str = "") -> Iterator[tuple[str, list[str]]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, f"{before}{name} ")
            else:
                opts = (opt for parameter in command.params for opt in parameter.opts)
                yield before + name, sorted(opt for opt in opts if opt.startswith("--"))

    interface = dict(walk(typer.main.get_command(app)))
    golden = ROOT / "tests" / "golden" / "command_line.json"
    assert interface == json.loads(golden.read_text())


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["", "help", *json.loads((ROOT / "tests" / "golden" / "command_line.json").read_text())]),
    st.lists(
        st.one_of(st.text(max_size=12), st.sampled_from(["--name", "--json", "--root", "=", "--", "-h", "é", "-x"]))
    ),
)
def test_any_command_line_is_answered(tmp_path_factory: pytest.TempPathFactory, verb: str, rest: list[str]) -> None:
    costly = "*" if verb == "benchmark" else "resnet_20"  # a pattern may fit every model
    words = [verb, *(word for word in rest if costly not in word)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("fuzz"))
        assert cli.run(words) in (0, 2, 3, 5)


def start(cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command whose stderr goes to `stderr.txt`: a pipe that nobody reads would fill."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (cwd / "stderr.txt").open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "bakeoff", *arguments],
            cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=errors, text=True,
        )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while not (path.exists() and path.stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
