"""Where runs live: names are names, nothing is overwritten, the status follows from the files."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bakeoff.errors import BakeoffError, RecipeError, StorageError
from bakeoff.recipe import Recipe
from bakeoff.results import lock, store
from bakeoff.results.store import Run

GOOD = ["a", "first", "2024-05-01", "lr_0.1", "v1.2+x", "_hidden", "七号", "Größe", "x" * 100, "漢" * 85]
BAD = [
    "..", ".", ".hidden", "../escape", "a/b", "/etc/passwd", "a\\b", "-rf", "a b", "a\n", "a\0b", "~", "x" * 101,
    "*", "a:b", "a=b", "$HOME", "é" * 101, "\udcff", "🙂", "a\u202eb", "a\u200bb",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_name_is_a_folder_of_that_name(name: str, tmp_path: Path) -> None:
    folder = store.new_folder(Recipe(), root=tmp_path, name=name)
    assert folder == tmp_path / "resnet_20" / name
    assert not folder.exists()
    assert store.create(Recipe(), folder).recipe() == Recipe()


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="run name"):
        store.new_folder(Recipe(), root=tmp_path, name=name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["漢" * 100, "é" * 99 + "漢" * 20, "ﷺ" * 90], ids=("漢", "é漢", "ﷺ"))
def test_a_name_too_long_for_the_file_system_is_refused_with_a_message(name: str, tmp_path: Path) -> None:
    """A file system counts bytes, not letters."""
    with pytest.raises(RecipeError, match="run name"):
        store.new_folder(Recipe(), root=tmp_path, name=name)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=120))
def test_any_text_is_a_name_inside_the_root_or_refused(tmp_path: Path, name: str) -> None:
    try:
        folder = store.new_folder(Recipe(), root=tmp_path, name=name)
    except RecipeError:
        return
    assert folder.parent == tmp_path / "resnet_20"
    folder.mkdir(parents=True)
    assert folder.resolve().parent == (tmp_path / "resnet_20").resolve()
    folder.rmdir()


def test_without_a_name_it_is_time_and_digest(tmp_path: Path) -> None:
    for name in (None, ""):
        folder = store.new_folder(Recipe(), root=tmp_path, name=name)
        assert folder.name.endswith("-" + Recipe().digest[:8])


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = store.new_folder(Recipe(), root=tmp_path, name="first")
    run = store.create(Recipe(), folder)
    before = run.recipe_path.read_bytes()
    with pytest.raises(RecipeError, match=r"which exists .*bakeoff resume"):
        store.new_folder(Recipe(), root=tmp_path, name="first")
    with pytest.raises(RecipeError, match=r"which exists .*bakeoff resume"):
        store.create(Recipe(epochs=1), folder)  # as the loser of a race does
    assert run.recipe_path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_a_refusal_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        store.create(Recipe(), tmp_path / "file" / "run")


def new_run(root: Path, name: str = "run", *, epochs: int = 3, model: str = "resnet_20") -> Run:
    recipe = Recipe.model_validate({"epochs": epochs, "model": {"name": model}})
    return store.create(recipe, store.new_folder(recipe, root=root, name=name))


def test_the_status_follows_from_the_files(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    assert run.status() == "interrupted"
    run.write_json(run.divergence_path, {"step": 3})
    assert run.status() == "diverged"
    run.divergence_path.unlink()
    run.write_json(run.summary_path, {"epochs": 2})  # of before it was extended
    assert run.status() == "interrupted"
    run.write_json(run.summary_path, {"epochs": 3})
    assert run.status() == "finished"
    with lock.hold(run.lock_path):
        assert run.status() == "running"
    assert run.status() == "finished"


def test_the_status_is_stored_nowhere(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    before = sorted(os.listdir(run.folder))
    run.status()
    assert sorted(os.listdir(run.folder)) == before


def test_runs_are_listed_by_model_and_name(tmp_path: Path) -> None:
    assert store.list_runs(tmp_path) == []
    assert store.list_runs(tmp_path / "nowhere") == []
    for model, name in (("resnet_32", "a"), ("resnet_20", "b"), ("resnet_20", "a")):
        new_run(tmp_path, name, model=model)
    (tmp_path / "resnet_20" / "not-a-run").mkdir()
    (tmp_path / "stray").write_bytes(b"")
    found = [(run.folder.parent.name, run.folder.name) for run in store.list_runs(tmp_path)]
    assert found == [("resnet_20", "a"), ("resnet_20", "b"), ("resnet_32", "a")]


def test_a_plugin_s_name_makes_one_folder(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"model": {"name": "package.module:function"}})
    assert store.new_folder(recipe, root=tmp_path, name="x") == tmp_path / "package.module.function" / "x"


def test_a_run_is_found_by_folder_by_model_and_name_or_by_name(tmp_path: Path) -> None:
    run = new_run(tmp_path, "first")
    new_run(tmp_path, "second")
    for text in (str(run.folder), "resnet_20/first", "first"):
        assert store.find(text, root=tmp_path).folder.resolve() == run.folder.resolve()


def test_a_run_that_is_not_found_or_not_the_only_one_is_said(tmp_path: Path) -> None:
    new_run(tmp_path, "first")
    with pytest.raises(RecipeError, match="Did you mean 'first'"):
        store.find("frist", root=tmp_path)
    new_run(tmp_path, "first", model="resnet_32")
    with pytest.raises(RecipeError, match="2 runs of that name") as caught:
        store.find("first", root=tmp_path)
    assert "resnet_32/first" in caught.value.hint


@pytest.mark.parametrize("text", ["x" * 300, "a\0b", "\udcff", "", "..", "*"])
def test_strange_names_are_not_found_either(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="no such run"):
        store.find(text, root=tmp_path)


def broken(run: Run, kind: str) -> None:
    files = {
        "recipe.yaml is no YAML": (run.recipe_path, b"epochs: ["),
        "recipe.yaml is of bytes": (run.recipe_path, b"\xff\xfe\x00"),
        "recipe.yaml is empty": (run.recipe_path, b"[]"),
        "recipe.yaml has an unknown key": (run.recipe_path, b"epoch: 3\n"),
        "the summary is torn": (run.summary_path, b'{"epochs": '),
        "the summary is a list": (run.summary_path, b"[1]"),
        "the environment is of bytes": (run.environment_path, b"\xff"),
        "an inner row is torn": (run.metrics.path, b'{"step": 1}\n{"st\n{"step": 3}\n'),
    }
    if kind in files:
        path, content = files[kind]
        path.write_bytes(content)
    else:
        path = {"the log is a folder": run.metrics.path, "the summary is a folder": run.summary_path}[kind]
        path.mkdir()


@pytest.mark.parametrize("kind", [
    "recipe.yaml is no YAML", "recipe.yaml is of bytes", "recipe.yaml is empty", "recipe.yaml has an unknown key",
    "the summary is torn", "the summary is a list", "the environment is of bytes", "an inner row is torn",
    "the log is a folder", "the summary is a folder",
])  # fmt: skip
def test_one_broken_run_does_not_hide_the_others(kind: str, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        run = new_run(tmp_path, name)
        run.metrics.append({"step": 1, "train/loss": 2.0})
    broken_run = Run(tmp_path / "resnet_20" / "b")
    if "log" in kind:
        broken_run.metrics.path.unlink()
    broken(broken_run, kind)
    read, unreadable = store.records(tmp_path)
    assert [record.name for record in read] == ["a", "c"]
    assert [record.rows for record in read] == [({"step": 1, "train/loss": 2.0},)] * 2
    assert [isinstance(error, BakeoffError) for error in unreadable] == [True]
    assert "resnet_20/b/" in str(unreadable[0])


def test_json_comes_back_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.write_json(run.summary_path, {"model": "七", "top1": 0.1})
    assert run.read_json(run.summary_path) == {"model": "七", "top1": 0.1}
    assert json.loads(run.summary_path.read_text(encoding="utf-8"))["model"] == "七"
    assert run.read_json(run.environment_path) == {}


def test_reading_runs_needs_no_torch() -> None:
    code = "import sys; from bakeoff.results import store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "row",
    [{"epoch": "1"}, {"epoch": 1.5}, {"epoch": None}, {"epoch": True}, {"step": -1}, {"images_per_s": "fast"},
     {"seconds": [1]}, {"lr": {}}, {"train/loss": "low"}, {"val/top1": math.nan}, {"val/top5": 10**400}],
    ids=lambda row: str(row)[:30],
)  # fmt: skip
def test_a_row_of_another_program_is_named(row: dict[str, object], tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.metrics.path.write_text("".join(json.dumps({"step": 1, **more}) + "\n" for more in ({}, row)))
    with pytest.raises(StorageError, match=rf"metrics\.jsonl, line 2: {next(iter(row))}: found"):
        run.record()


def test_what_was_not_finite_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.metrics.append({"epoch": 1, "step": 1, "train/loss": math.nan, "images_per_s": math.inf, "note": "any"})
    run.write_json(run.summary_path, {"epochs": 3, "params_m": None, "macs_g": 1, "training_seconds": 0.5})
    (row,) = run.record().rows
    assert (row["train/loss"], row["images_per_s"], run.record().status) == (None, None, "finished")


@pytest.mark.parametrize(
    "summary",
    [{"test": {"accuracy": 0.6}}, {"val": {"top1": None}}, {"test": [0.6]}, {"test_reads": 1}, {"val": {"top1": 66.5}},
     {"val": {"top1": math.nan}}, {"val": {"top1": True}}, {"params_m": "1"}, {"macs_g": [1]}, {"epochs": "3"},
     {"training_seconds": math.inf}, {"epochs": None}],
    ids=str,
)  # fmt: skip
def test_a_summary_of_another_version_is_named_and_the_others_are_read(summary: object, tmp_path: Path) -> None:
    good, odd = (Recipe(seed=seed) for seed in (0, 1))
    for recipe in (good, odd):
        store.create(recipe, store.folder_of(recipe, root=tmp_path))
    Run(store.folder_of(odd, root=tmp_path)).summary_path.write_text(json.dumps(summary))
    found, unreadable = store.records_of([good, odd], root=tmp_path)
    assert list(found) == [good.digest]
    assert ["evaluation_summary.json" in str(error) for error in unreadable] == [True]
