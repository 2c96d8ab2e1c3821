"""Several ranks of one run: the same batches, losses, weights and counts as one; one of them dies, and all end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from bakeoff import cli
from bakeoff.cli import ranks as command_line
from bakeoff.data.augment import Augment
from bakeoff.data.batches import Batches
from bakeoff.data.images import ImageSet
from bakeoff.data.mix import Mix
from bakeoff.errors import RecipeError
from bakeoff.recipe import resolve
from bakeoff.results.store import Run
from bakeoff.training import assembly, ranks
from bakeoff.training.ranks import Ranks
from tests.data.cifar_files import write_cifar10
from tests.training import on_ranks, tiny

ON_CPU = ("data=digits", "device=cpu", "threads=1", "precision=float32", "compile=false")
RESNET = (*ON_CPU, "data.limit=512", "batch_size=64", "augment.crop_padding=1", "mix.cutmix=1.0", "lr=0.01")
KD = ("objective=kd", "teacher=random:resnet_20")
FITNETS = ("objective=fitnets", "teacher=random:resnet_20", "lr=0.0005")  # hints of a random teacher are far off
MORE = ("accumulate=2", "clip_norm=0.5", "ema_decay=0.9", "data.balance=true")
CONVNEXT = (*RESNET, "model.stem=3x3", "model.drop_path=0.0", "optimizer=adamw", "lr=0.001")


def images(num: int = 70) -> ImageSet:
    source = np.random.default_rng(0)
    return ImageSet(
        images=source.integers(0, 256, (num, 12, 12, 3), dtype=np.uint8).transpose(0, 3, 1, 2),
        labels=np.arange(num) % 5,
        classes=tuple("abcde"),
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
        fingerprint="",
    )


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("mix", [Mix(), Mix(mixup=0.4), Mix(cutmix=1.0), Mix(mixup=0.4, cutmix=1.0, probability=0.5)])
@pytest.mark.parametrize(("balance", "parts"), [(False, 1), (True, 1), (False, 2)])
def test_shares_are_pieces_of_the_same_batches(size: int, mix: Mix, balance: bool, parts: int) -> None:
    def batches(share: Sequence[slice] | None) -> list[tuple[torch.Tensor, ...]]:
        augment = Augment(crop_padding=2, flip="random", cutout=3, policy="trivial")
        made = Batches(
            images(),
            batch_size=24,
            augment=augment,
            mix=mix,
            seed=3,
            device=torch.device("cpu"),
            balance=balance,
            share=share,
        )
        return [tuple(batch) for epoch in range(2) for batch in made.epoch(epoch)]

    whole = batches(None)
    shares = [batches(Ranks(index, size).shares(24, parts=parts)) for index in range(size)]
    for batch, *of_ranks in zip(whole, *shares, strict=True):
        for values, *pieces in zip(batch, *of_ranks, strict=True):
            in_parts = [[piece.chunk(parts)[part] for piece in pieces] for part in range(parts)]
            assert torch.equal(torch.cat([torch.cat(part) for part in in_parts]), values)


@pytest.mark.parametrize(
    ("model", "settings", "size", "num_steps"),
    [
        ("resnet_20", RESNET, 2, "10"),
        pytest.param("resnet_20", RESNET, 2, "50", marks=pytest.mark.slow),
        pytest.param("resnet_20", (*RESNET, *MORE), 2, "50", marks=pytest.mark.slow),
        pytest.param("resnet_20", (*RESNET, *KD), 2, "50", marks=pytest.mark.slow),
        pytest.param("resnet_20", (*RESNET, *FITNETS), 2, "50", marks=pytest.mark.slow),
        pytest.param("resnet_20", (*RESNET, "compile=true"), 2, "50", marks=pytest.mark.slow),
        pytest.param("resnet_20", RESNET, 4, "50", marks=pytest.mark.slow),
        pytest.param("convnext_atto", CONVNEXT, 2, "50", marks=pytest.mark.slow),
        pytest.param("convnext_atto", CONVNEXT, 4, "50", marks=pytest.mark.slow),
    ],
)
def test_losses_are_those_of_one_process(
    model: str, settings: tuple[str, ...], size: int, num_steps: str, tmp_path: Path
) -> None:
    """Sums in another order differ in the last digit, which training then carries on: so little, and no more."""
    one, many = (on_ranks.launch(num, "losses", tmp_path / str(num), model, num_steps, *settings) for num in (1, size))
    assert many[:10] == pytest.approx(one[:10], rel=1e-5)
    assert many == pytest.approx(one, rel=1e-3)
    assert len(set(one)) == len(one)


@pytest.mark.slow
def test_losses_in_bf16_are_those_of_one_process_within_its_rounding(tmp_path: Path) -> None:
    settings = (*RESNET, "precision=bf16")
    one, two = (on_ranks.launch(num, "losses", tmp_path / str(num), "resnet_20", "50", *settings) for num in (1, 2))
    assert two == pytest.approx(one, rel=0.02)
    assert two != one


@pytest.mark.slow
def test_norms_that_look_at_their_own_images_differ(tmp_path: Path) -> None:
    one = on_ranks.launch(1, "losses", tmp_path / "1", "resnet_20", "3", *RESNET)
    two = on_ranks.launch(2, "losses", tmp_path / "2", "resnet_20", "3", *RESNET, "sync_norms=false")
    assert two[0] == pytest.approx(one[0], rel=0.1)
    assert two != pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_evaluation_counts_every_image_once(size: int, tmp_path: Path) -> None:
    one, many = (on_ranks.launch(num, "evaluation", tmp_path / str(num)) for num in (1, size))
    assert many == one
    assert one["index"]
    assert one["same"]
    assert 0 < one["correct"] < on_ranks.NUM_IMAGES


def test_synchronised_norms_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    found = on_ranks.launch(3, "norms", tmp_path / "out")
    assert found == {name: pytest.approx(0, abs=2e-4) for name in found}


def test_what_ranks_tell_each_other(tmp_path: Path) -> None:
    told = on_ranks.launch(2, "messages", tmp_path / "out")
    assert told == {
        "told": [0, [0, 1, 2]],
        "met": [True, True],
        "any": [False, True],
        "gather": [0, 1],
        "shares": ["slice(0, 6, None)", "slice(6, 12, None)"],
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["batch_size=33"], "batch_size: found 33, for 2 ranks; expected a multiple of 2, such as 32 or 34."),
        (["batch_size=1"], "batch_size: found 1, for 2 ranks; expected a multiple of 2, such as 2."),
        (
            ["batch_size=30", "accumulate=6"],
            "for 2 ranks and accumulate=6; expected a multiple of 12, such as 24 or 36.",
        ),
    ],
)
def test_a_batch_that_cannot_be_shared_out_is_refused(settings: list[str], said: str) -> None:
    with pytest.raises(RecipeError) as met:
        assembly._require_whole_shares(resolve(tiny.NAME, overrides=settings, plugins=True), Ranks(0, 2))
    assert said in str(met.value)


def bakeoff(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "bakeoff", *arguments]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


TINY = (tiny.NAME, *ON_CPU, "data.limit=288", "epochs=3", "batch_size=32", "checkpoint_steps=3")


def train(cwd: Path, name: str, *settings: str) -> subprocess.Popen[str]:
    return bakeoff("train", *TINY, "--name", name, *settings, cwd=cwd)


def ended(process: subprocess.Popen[str], *, seconds: float = 180) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def weights(folder: Path) -> dict[str, bytes]:
    return {name: Run(folder).weights(name).read_bytes() for name in ("best", "last")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    cwd = tmp_path_factory.mktemp("undisturbed")
    code, out, err = ended(train(cwd, "whole", "devices=2"))
    assert code == 0, err
    assert out.count("top-1") == 2  # of validation and test: one rank speaks
    (folder,) = cwd.glob("logs/*/whole")
    return Run(folder)


def test_one_rank_writes_and_the_record_says_how_many_there_were(undisturbed: Run) -> None:
    assert undisturbed.read_json(undisturbed.environment_path)["world_size"] == 2
    summary = undisturbed.read_json(undisturbed.summary_path)
    assert summary["val"]["n"] + summary["train_images"] == 288
    assert len(summary["test_reads"]) == 1
    assert [row["epoch"] for row in undisturbed.metrics.rows()] == [1, 2, 3]
    assert undisturbed.log_path.read_text().count("epoch 1,") == 1


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_whoever_starts_the_ranks_one_of_them_speaks(launcher: str, undisturbed: Run, tmp_path: Path) -> None:
    config = Path(__file__).parents[2] / "docs" / "accelerate" / "one_machine.yaml"
    commands = {
        "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
        "accelerate": ["-m", "accelerate.commands.launch", "--config_file", str(config), "--num_processes", "2"],
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, *commands[launcher], "-m", "bakeoff", "train", *TINY, "--name", "whole"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("top-1") == 2
    assert done.stderr.count("epoch 1,") == 1
    (folder,) = tmp_path.glob("logs/*/whole")
    assert weights(folder) == weights(undisturbed.folder)


def test_a_dead_rank_ends_all_and_the_run_goes_on_exactly(undisturbed: Run, tmp_path: Path) -> None:
    process = train(tmp_path, "whole", "devices=2", "epochs=3")
    folder = tmp_path / undisturbed.folder.relative_to(undisturbed.folder.parents[2])
    wait_for(lambda: (folder / "metrics.jsonl").exists() and (folder / "metrics.jsonl").read_text(), process)
    beneath = children(process)
    second = next(child for child in beneath if child.environ().get("RANK") == "1")
    killed_at = time.monotonic()
    second.send_signal(signal.SIGKILL)
    code, _, err = ended(process, seconds=60)
    assert time.monotonic() - killed_at < 60
    assert code != 0
    assert "rank 1: found killed by signal 9" in err
    assert "Traceback" not in err
    assert not [child for child in beneath if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    code, _, err = ended(bakeoff("resume", str(folder), f"model={tiny.NAME}", "devices=2", cwd=tmp_path))
    assert code == 0, err
    assert weights(folder) == weights(undisturbed.folder)


@pytest.mark.slow
def test_another_number_of_ranks_is_refused_or_accepted(undisturbed: Run, tmp_path: Path) -> None:
    process = train(tmp_path, "whole", "devices=2")
    folder = tmp_path / undisturbed.folder.relative_to(undisturbed.folder.parents[2])
    wait_for(lambda: (folder / "metrics.jsonl").exists() and (folder / "metrics.jsonl").read_text(), process)
    process.send_signal(signal.SIGTERM)
    code, _, err = ended(process, seconds=60)
    assert code == 143, err
    resume = ("resume", str(folder), f"model={tiny.NAME}")
    code, _, err = ended(bakeoff(*resume, cwd=tmp_path))
    assert code == 7
    assert "--any-world-size" in err
    code, _, err = ended(bakeoff(*resume, "--any-world-size", cwd=tmp_path))
    assert code == 0, err
    (again,) = json.loads((folder / "environment.json").read_text())["resumed"]
    assert again["world_size"] == 1


def wait_for(condition: object, process: subprocess.Popen[str], *, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node7", "node7"), ("gpu[07-09,12],cpu1", "gpu07"), ("a-[1,3]-x,b2", "a-1-x"), ("n1,n2", "n1")],
)
def test_the_first_node_of_slurms_list(nodes: str, first: str) -> None:
    assert ranks.first_node(nodes) == first


def test_slurm_names_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    step = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "gpu[3-4]"}
    for name, value in step.items():
        monkeypatch.setenv(name, value)
    assert ranks.is_follower()
    assert {name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")} == {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "gpu3",
    }


@pytest.mark.parametrize(
    ("arguments", "devices", "rest"),
    [
        (["train", "m", "devices=2"], "2", ["train", "m"]),
        (["train", "--devices", "all", "m"], "all", ["train", "m"]),
        (["train", "m", "--devices=4", "lr=1"], "4", ["train", "m", "lr=1"]),
        (["train", "m"], None, ["train", "m"]),
        (["doctor", "devices"], None, ["doctor", "devices"]),
    ],
)
def test_devices_on_the_command_line(arguments: Sequence[str], devices: str | None, rest: list[str]) -> None:
    assert command_line.split(arguments) == (devices, rest)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "resnet_20", "devices=none"], "expected all, or a whole number"),
        (["train", "resnet_20", "devices=0"], "expected all, or a whole number"),
        (["study", "run", "eca-kernel", "devices=2"], "--jobs"),
        (["list", "models", "devices=2"], "one of train, resume, eval"),
    ],
)
def test_devices_that_mean_nothing(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cli.run(arguments) == RecipeError.exit_code
    assert said in capsys.readouterr().err


def test_ranks_of_ranks_are_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.run(["train", "resnet_20", "devices=2"]) == RecipeError.exit_code
    assert "devices=2 under a launcher" in capsys.readouterr().err


def test_the_cpu_has_as_many_ranks_as_one_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert command_line.count("3", verb="train", on_cpu=True) == 3
    with pytest.raises(RecipeError, match="at most 1"):
        command_line.count("3", verb="train")


def test_what_one_rank_alone_has_not_is_said_by_it(tmp_path: Path) -> None:
    """Pictures that only the first rank's machine has: the error is that of the other, and all end."""
    script = tmp_path / "ranks.py"
    script.write_text(
        "import os, sys\n"
        "if os.environ['RANK'] == '1':\n"
        "    os.environ['BAKEOFF_DATA'] = os.getcwd()\n"
        "from bakeoff.cli import main\n"
        "main()\n"
    )
    write_cifar10(tmp_path / "pictures" / "cifar10", num=200)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)}
    environment |= {"BAKEOFF_DATA": str(tmp_path / "pictures"), "BAKEOFF_CACHE": str(tmp_path / "cache")}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    command = [*launch, "train", tiny.NAME, "data=cifar10", "device=cpu", "epochs=1", "batch_size=8"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    assert "expected one of three" in done.stderr
    assert "bakeoff/training" not in done.stderr  # no traceback of ours


def test_all_devices_need_some(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cli.run(["train", "resnet_20", "devices=all"]) == RecipeError.exit_code
    assert "where there is no GPU" in capsys.readouterr().err
