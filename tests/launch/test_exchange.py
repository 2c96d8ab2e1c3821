"""The exchange keeps what is brought whole, in a folder and in a store where files are written in one piece."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from bakeoff.errors import RecipeError, StorageError
from bakeoff.launch.exchange import Exchange, progress, progress_of

PLACE = "model/run"
FINISHED = {"best_model.safetensors": "weights", "evaluation_summary.json": "{}"}


@pytest.fixture(params=["folder", "objects"])
def exchange(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Exchange]:
    if request.param == "folder":
        yield Exchange(str(tmp_path / "exchange"))
        return
    yield Exchange("memory://exchange")
    fsspec.filesystem("memory").store.clear()


def checkpoint(folder: Path, step: int) -> None:
    made = folder / f"checkpoints/step-{step}"
    made.mkdir(parents=True)
    (made / "state.pt").write_bytes(bytes([step]) * 1000)
    (made / "manifest.json").write_text("{}")


def drop(folder: Path, step: int) -> None:
    shutil.rmtree(folder / f"checkpoints/step-{step}")


def run(folder: Path, *steps: int, **files: str) -> Path:
    for step in steps:
        checkpoint(folder, step)
    for name, text in {"recipe.yaml": "a: 1", "metrics.jsonl": "{}\n", ".lock": "7", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_what_is_brought_comes_back_and_locks_stay(exchange: Exchange, tmp_path: Path) -> None:
    folder = run(tmp_path / "run", 3, 6, **{"predictions/val.parquet": "x", "checkpoints/.writing-9/state.pt": "half"})
    attempt = exchange.attempt(PLACE, "1")
    attempt.bring(folder)
    attempt.fetch(tmp_path / "again")
    expected = {name: data for name, data in content(folder).items() if "/." not in f"/{name}"}
    assert content(tmp_path / "again") == expected
    assert attempt.progress() == progress_of(folder) == (False, 6, False)


def test_only_what_has_changed_travels_and_dropped_checkpoints_go(exchange: Exchange, tmp_path: Path) -> None:
    folder = run(tmp_path / "run", 3, 6)
    attempt = exchange.attempt(PLACE, "1")
    attempt.bring(folder)
    drop(folder, 3)
    checkpoint(folder, 9)
    exchange._write(f"{exchange._path}/{PLACE}/1/run/recipe.yaml", b"not touched")
    attempt.bring(folder)
    attempt.fetch(tmp_path / "again")
    found = content(tmp_path / "again")
    assert found["recipe.yaml"] == b"not touched"
    assert {name.split("/")[1] for name in found if name.startswith("checkpoints/")} == {"step-6", "step-9"}


def test_an_attempt_that_was_never_begun_brings_nothing(exchange: Exchange, tmp_path: Path) -> None:
    attempt = exchange.attempt(PLACE, "1")
    attempt.bring(tmp_path / "nowhere")
    attempt.fetch(tmp_path / "again")
    assert not (tmp_path / "again").exists()
    assert (attempt.told(), attempt.ended(), attempt.marks()) == ({}, {}, frozenset())


def test_words_and_marks(exchange: Exchange) -> None:
    attempt = exchange.attempt(PLACE, "1")
    attempt.order({"a": 1})
    assert attempt.marks() == {"wanted"}
    attempt.tell({})
    attempt.ask_to_stop()
    assert attempt.marks() == {"wanted", "begun", "stop"}
    attempt.tell({"step": 4})
    attempt.end({"code": 0})
    assert (attempt.told(), attempt.ended()) == ({"step": 4}, {"code": 0})
    attempt.clear()
    assert attempt.marks() == frozenset()


def test_attempts_are_listed_oldest_first_and_teachers_are_none(exchange: Exchange, tmp_path: Path) -> None:
    for name in ("3", "1", "2"):
        exchange.attempt(PLACE, name).order({})
    exchange.offer(PLACE, run(tmp_path / "teacher", 5, **FINISHED))
    assert [attempt.name for attempt in exchange.attempts(PLACE)] == ["1", "2", "3"]
    exchange.attempt(PLACE, "2").clear()
    assert [attempt.name for attempt in exchange.attempts(PLACE)] == ["1", "3"]
    assert exchange.attempts("model/another") == []


def test_a_teacher_is_offered_once_without_its_checkpoints(exchange: Exchange, tmp_path: Path) -> None:
    teacher = run(tmp_path / "teacher", 5, **FINISHED)
    offered = exchange.offer(PLACE, teacher)
    (teacher / "recipe.yaml").write_text("not looked at again")
    assert exchange.offer(PLACE, teacher) == offered
    exchange.fetch_offered(offered, tmp_path / "again")
    assert content(tmp_path / "again") == {
        "best_model.safetensors": b"weights",
        "evaluation_summary.json": b"{}",
        "metrics.jsonl": b"{}\n",
        "recipe.yaml": b"a: 1",
    }


def test_a_teacher_that_was_trained_anew_is_another(exchange: Exchange, tmp_path: Path) -> None:
    teacher = run(tmp_path / "teacher", **FINISHED)
    before = exchange.offer(PLACE, teacher)
    (teacher / "best_model.safetensors").write_text("other weights")
    exchange.fetch_offered(exchange.offer(PLACE, teacher), tmp_path / "again")
    assert content(tmp_path / "again")["best_model.safetensors"] == b"other weights"
    assert exchange.offer(PLACE, teacher) != before


class Gone(BaseException):
    """The node, in the middle of it."""


@pytest.mark.parametrize("files", range(9))
def test_whenever_a_node_dies_what_it_has_brought_can_be_gone_on_with(
    files: int, exchange: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run had brought two checkpoints and has finished meanwhile; of what is left so many files come."""
    folder = run(tmp_path / "run", 3, 6)
    attempt = exchange.attempt(PLACE, "1")
    attempt.bring(folder)
    drop(folder, 3)
    checkpoint(folder, 9)
    run(folder, **FINISHED, **{"predictions/test.parquet": "x", "last_model.safetensors": "weights"})
    put, left = Exchange._put, [files]

    def sometimes(self: Exchange, file: Path, path: str) -> None:
        if not left[0]:
            raise Gone
        left[0] -= 1
        put(self, file, path)

    monkeypatch.setattr(Exchange, "_put", sometimes)
    try:
        attempt.bring(folder)
        is_over = True
    except Gone:
        is_over = False
    attempt.fetch(tmp_path / "again")
    is_finished, step, _ = progress_of(tmp_path / "again")
    assert step in (6, 9)
    assert (tmp_path / f"again/checkpoints/step-{step}/state.pt").read_bytes() == bytes([step]) * 1000
    assert is_finished <= (content(tmp_path / "again").keys() >= {"predictions/test.parquet", "last_model.safetensors"})
    assert is_finished == is_over == (files == 8)


def test_a_checkpoint_that_is_dropped_meanwhile_costs_none_that_was_whole(
    exchange: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(tmp_path / "run", 3, 6)
    attempt = exchange.attempt(PLACE, "1")
    attempt.bring(folder)
    for step in (3, 6):
        drop(folder, step)
    checkpoint(folder, 9)
    put = Exchange._put

    def dropped(self: Exchange, file: Path, path: str) -> None:
        if "step-9" in path:
            raise FileNotFoundError(file)
        put(self, file, path)

    monkeypatch.setattr(Exchange, "_put", dropped)
    attempt.bring(folder)
    assert attempt.progress() == (False, 6, False)


def test_a_file_that_goes_while_it_travels_is_no_fault_of_the_store(
    exchange: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(tmp_path / "run", 3)
    put_file = exchange._fs.put_file

    def meanwhile(file: str, to: str) -> None:
        if "state.pt" in file:
            Path(file).unlink()
        put_file(file, to)

    monkeypatch.setattr(exchange._fs, "put_file", meanwhile)
    attempt = exchange.attempt(PLACE, "1")
    attempt.bring(folder)
    assert attempt.progress() == (False, -1, False)
    with pytest.raises(FileNotFoundError):
        exchange._put(tmp_path / "nowhere", f"{exchange._path}/file")


def test_a_damaged_checkpoint_is_none(exchange: Exchange, tmp_path: Path) -> None:
    folder = run(tmp_path / "run", 3, 6)
    (folder / "checkpoints/step-6").rename(folder / "checkpoints/step-6.corrupt")
    attempt = exchange.attempt(PLACE, "1")
    attempt.bring(folder)
    assert attempt.progress() == progress_of(folder) == (False, 3, False)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], (False, -1, False)),
        (["recipe.yaml", "checkpoints/step-8/state.pt"], (False, -1, False)),  # its manifest has not come
        (["recipe.yaml", "checkpoints/step-8/manifest.json", "checkpoints/step-12/manifest.json"], (False, 12, False)),
        (["checkpoints/step-8/manifest.json"], (False, -1, False)),  # an orphan's: the rest was cleared away
        (["recipe.yaml", "evaluation_summary.json"], (True, -1, False)),
        (["recipe.yaml", "evaluation_summary.json", "predictions/test.parquet"], (True, -1, True)),
    ],
)
def test_progress_grows(names: list[str], expected: tuple[bool, int, bool]) -> None:
    assert progress(names) == expected


def test_a_reader_never_meets_half_a_file(tmp_path: Path) -> None:
    """One thread brings a large file again and again, in two versions; whoever fetches has one of them."""
    exchange, folder = Exchange(str(tmp_path / "exchange")), tmp_path / "run"
    versions = [json.dumps([number] * 200_000) for number in (1, 2)]
    attempt = exchange.attempt(PLACE, "1")
    attempt.bring(run(folder, **{"best": versions[0]}))
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            (folder / "best").write_text(versions[number % 2])
            attempt.bring(folder)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(50):
            exchange.attempt(PLACE, "1").fetch(tmp_path / f"again-{number}")
            assert (tmp_path / f"again-{number}/best").read_text() in versions
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("url", ["nonsense://bucket", "abfs://no-such-extra/x"])
def test_a_store_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(RecipeError, match="--store"):
        Exchange(url)


def test_a_store_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "exchange").write_text("a file")
    with pytest.raises(StorageError, match="store that can be read and written"):
        Exchange(str(tmp_path / "exchange")).attempt(PLACE, "1").order({})
