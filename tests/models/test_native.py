"""The kernels are compiled once, by any number of processes; where they cannot be, training does without."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bakeoff.models import native
from tests.models.made_maps import half, needs_kernels

PROGRAM = """
import torch
from bakeoff.models import native
from bakeoff.models.norms import norm
x = torch.ones(2, 16, 4, 4, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
norm(torch.nn.BatchNorm2d(16), x, activation="relu")
print(native.library() is not None)
"""


def start(folder: Path, **variables: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "BAKEOFF_CACHE": str(folder), **variables}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


FEWER = """
import torch
from bakeoff.models.convolution import Convolution
from bakeoff.models.norms import norm
torch.set_num_threads(4)
torch.manual_seed(0)
x = torch.randn(40, 32, 9, 9).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
layer = Convolution(32, 32, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
with torch.autocast("cpu", torch.bfloat16):
    y = norm(torch.nn.BatchNorm2d(32), layer(x), activation="relu")
y.float().square().sum().backward()
print(float(y.sum()), float(x.grad.double().abs().sum()), float(layer.weight.grad.double().abs().sum()))
"""


@pytest.mark.skipif(not shutil.which("gcc"), reason="no compiler")
@pytest.mark.parametrize(
    "processor", [("-mno-amx-bf16",), ("-mamx-tile", "-mamx-bf16"), ("-mno-amx-bf16", "-mno-avx512bf16")]
)
def test_they_compile_without_a_warning_for_every_kind_of_processor(processor: tuple[str, ...], tmp_path: Path) -> None:
    flags = [flag for flag in native.FLAGS if flag != "-march=native"]
    command = ["gcc", *flags, "-march=sapphirerapids", *processor, "-Wall", "-Wextra", "-Werror", str(native.SOURCE)]
    subprocess.run([*command, "-o", str(tmp_path / "kernels.so"), "-lm"], check=True)


@needs_kernels
def test_where_there_are_fewer_threads_than_asked_for_nothing_is_left_out(tmp_path: Path) -> None:
    found = []
    for limit in ("4", "1"):
        environment = {**os.environ, "BAKEOFF_CACHE": str(tmp_path), "OMP_THREAD_LIMIT": limit}
        done = subprocess.run(
            [sys.executable, "-c", FEWER], env=environment, capture_output=True, text=True, check=True
        )
        found.append([float(number) for number in done.stdout.split()])
    assert found[0] == pytest.approx(found[1], rel=1e-2)


@needs_kernels
def test_several_processes_make_one_library(tmp_path: Path) -> None:
    for process in [start(tmp_path) for _ in range(3)]:
        assert process.communicate()[0] == "True\n"
    assert len(list((tmp_path / "kernels").iterdir())) == 1


@pytest.mark.parametrize("variables", [{"BAKEOFF_KERNELS": "off"}, {"CC": "no-such-compiler"}, {"CC": "false"}])
def test_without_them_training_goes_on(variables: dict[str, str], tmp_path: Path) -> None:
    out, told = start(tmp_path, **variables).communicate()
    assert out == "False\n"
    assert "Traceback" not in told
    if variables.get("CC") == "false" and native.library() is not None:
        assert "could not be compiled" in told


@needs_kernels
def test_only_their_form_of_a_map_is_taken() -> None:
    x = half(2, 32, 4, 4)
    assert native.suits(x)
    assert not native.suits(x.float())
    assert not native.suits(x.contiguous())
    assert not native.suits(half(2, 24, 4, 4))
    assert not native.suits(x[:0])
    assert not native.suits(x[:, :, 0])
    assert not native.suits(torch.empty(2, 32, 4, 4, dtype=torch.bfloat16, device="meta"))


@needs_kernels
def test_a_compiled_network_leaves_them_to_the_compiler() -> None:
    seen = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(native.suits(x))
        return x + 1

    torch.compile(look, backend="eager", fullgraph=True)(half(2, 16, 4, 4))
    assert not seen or not seen[0]
