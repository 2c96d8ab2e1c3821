"""The house keeps its shape: sizes, doors, no torch where none belongs, names that are there."""

import ast
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "bakeoff"
FILES = sorted(SRC.rglob("*.py"))
TORCH_FREE = ("errors", "catalogue", "library", "recipe", "record", "study", "results", "launch", "reports", "cli")
WITH_TORCH = ("launch/check.py", "launch/workshop.py", "launch/worker.py", "launch/torchrun.py")  # they build, or start
ONE_DOOR = {  # library -> the only places that may import it
    "accelerate": ("training/device.py",),
    "matplotlib": ("reports/",),
    "torchvision": (),
    "timm": ("models/timm.py",),
    "datasets": ("data/places.py",),
    "sklearn": ("data/sources/digits.py",),
    "yaml": ("recipe/resolve.py",),
    "omegaconf": ("recipe/",),
    "pydantic": ("recipe/", "study/"),
    "plotly": ("reports/interactive/",),
    "jinja2": ("reports/page.py",),
    "pandas": ("reports/",),
    "gradio": ("serving/demo.py",),
    "starlette": ("serving/demo.py",),
    "onnx": ("serving/onnx.py",),
    "onnxruntime": ("serving/onnx.py",),
    "onnxscript": (),
    "ray": ("launch/cluster.py",),
    "submitit": ("launch/slurm.py",),
    "fsspec": ("launch/exchange.py",),
    "typer": ("cli/",),
    "rich": ("cli/",),
}
PAPERS = ("models", "models/attention", "objectives", "optim")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_files_and_functions_stay_small(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= 400
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions(path) if f.end_lineno - f.lineno + 1 > 90}
    assert not long


def test_most_functions_are_short() -> None:
    lengths = sorted(f.end_lineno - f.lineno + 1 for path in FILES for f in functions(path))
    assert lengths[len(lengths) * 95 // 100] <= 45


@pytest.mark.parametrize("library", ONE_DOOR)
def test_one_door_a_library(library: str) -> None:
    doors = {
        str(path.relative_to(SRC))
        for path in FILES
        if any(name == library or name.startswith(f"{library}.") for name in imports(path))
    }
    allowed = ONE_DOOR[library]
    assert all(door.startswith(allowed) for door in doors) if allowed else not doors


@pytest.mark.parametrize("room", PAPERS)
def test_papers_stand_alone(room: str) -> None:
    """No paper imports its neighbour; what has no paper may be shared, and the tables know them all."""
    shared = {"layers", "frames", "gated", "depthwise", "relative", "options", "outcome", "cost", "stages", "adopt"}
    shared |= {"native", "convolution", "norms", "pooling"}
    papers = {path.stem for path in (SRC / room).glob("*.py")} - {"__init__"} - shared
    for name in papers:
        prefix = f"bakeoff.{room.replace('/', '.')}."
        neighbours = {
            n.removeprefix(prefix).split(".")[0] for n in imports(SRC / room / f"{name}.py") if n.startswith(prefix)
        }
        assert not (neighbours & papers) - {name}


def test_parts_do_not_know_what_a_recipe_is() -> None:
    for room in ("data", "models", "optim", "objectives"):
        for path in (SRC / room).rglob("*.py"):
            assert not [n for n in imports(path) if n.startswith(("bakeoff.recipe", "bakeoff.record"))], path


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_planning_and_reporting_reach_no_torch() -> None:
    modules = [
        ".".join(("bakeoff", *path.relative_to(SRC).with_suffix("").parts)).removesuffix(".__init__")
        for path in FILES
        if path.relative_to(SRC).with_suffix("").parts[0] in TORCH_FREE and str(path.relative_to(SRC)) not in WITH_TORCH
    ]
    loaded = loaded_by("import " + ", ".join(["bakeoff", *modules]))
    assert "bakeoff.reports.pictures" in loaded
    assert not {"torch", "accelerate", "torchvision", "datasets"} & loaded


def test_help_loads_no_heavy_library() -> None:
    loaded = loaded_by("import bakeoff.cli")
    assert not {"torch", "pydantic", "omegaconf", "numpy", "matplotlib", "pyarrow", "scipy"} & loaded


def test_training_never_imports_test_reading_into_the_loop() -> None:
    """The test split is loaded in one function, which training does not call."""
    readers = [
        (path.name, f.name)
        for path in FILES
        for f in functions(path)
        if any(
            isinstance(node, ast.keyword) and node.arg == "part" and getattr(node.value, "value", None) == "test"
            for node in ast.walk(f)
        )
    ]
    assert set(readers) == {("run.py", "read_test"), ("__init__.py", "load_unseen")}


def test_other_pictures_are_shown_to_finished_runs_alone() -> None:
    """What reads the test part of another data set is called where a run is evaluated, and nowhere in training."""
    callers = [
        (path.name, f.name)
        for path in FILES
        for f in functions(path)
        if f.name != "load_unseen" and any(getattr(node, "attr", "") == "load_unseen" for node in ast.walk(f))
    ]
    assert callers == [("run.py", "read_other")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_all_is_what_is_there(path: Path) -> None:
    name = ".".join(("bakeoff", *path.relative_to(SRC).with_suffix("").parts)).removesuffix(".__init__")
    if name == "bakeoff.__main__":
        return
    module = importlib.import_module(name)
    assert module.__doc__
    for exported in getattr(module, "__all__", ()):
        assert hasattr(module, exported)


def test_the_repository_speaks_of_the_project_alone() -> None:
    """No path of a machine, no registry's host in any tracked text."""
    root = SRC.parents[1]
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=False).stdout.split()
    if not listed:
        pytest.skip("needs a git checkout")
    forbidden = ("/" + "work/", "/" + "root/", "py" + "pi.org", "python" + "hosted")
    for name in listed:
        if (root / name).suffix in {".png", ".svg"} or not (root / name).is_file():
            continue
        text = (root / name).read_text(encoding="utf-8")
        assert not [word for word in forbidden if word in text], name


def test_environment_is_left_alone() -> None:
    """No module reads or writes the environment at import."""
    before = dict(os.environ)
    importlib.import_module("bakeoff.training.run")
    assert dict(os.environ) == before
