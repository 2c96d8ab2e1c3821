"""Where runs live: one folder a run, its files by name, its status derived from them."""

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

from bakeoff import recipe as recipes
from bakeoff.errors import BakeoffError, RecipeError, StorageError, nearest
from bakeoff.recipe import Recipe
from bakeoff.record import Record, Status
from bakeoff.results import lock
from bakeoff.results.files import storage_errors, write_atomically
from bakeoff.results.metric_log import MetricLog

_NAME = re.compile(r"\w[\w.+-]{0,99}")
_NAME_BYTES = 255  # of most file systems
_LARGEST = 1e300  # of a number: a file may hold integers that no float can
_ROW_NUMBERS = ("images_per_s", "seconds", "lr")  # and all of train/ and val/
_SUMMARY_NUMBERS = ("params_m", "macs_g", "training_seconds")
_TEACHER_NUMBERS = ("top1", "entropy", "largest_entropy", "temperature", "seen", "agreement")
_COUNT, _MEASURE = "a whole number", "a finite number, or null"


@dataclass(frozen=True, slots=True)
class Run:
    """The folder of one run and the names in it."""

    folder: Path

    @property
    def recipe_path(self) -> Path:
        """The resolved recipe, written before the first step."""
        return self.folder / "recipe.yaml"

    @property
    def environment_path(self) -> Path:
        """Versions, commit, hardware, threads, command."""
        return self.folder / "environment.json"

    @property
    def summary_path(self) -> Path:
        """The final numbers; a run without it is not finished."""
        return self.folder / "evaluation_summary.json"

    @property
    def teacher_path(self) -> Path:
        """What the teacher was and how it was measured, where there is one."""
        return self.folder / "teacher.json"

    @property
    def split_path(self) -> Path:
        """Index lists of the split and the data's fingerprint."""
        return self.folder / "split.json"

    @property
    def divergence_path(self) -> Path:
        """What went out of the finite numbers, and where."""
        return self.folder / "divergence.json"

    @property
    def log_path(self) -> Path:
        """The text log."""
        return self.folder / "training_log.log"

    @property
    def lock_path(self) -> Path:
        """Held while a process trains or evaluates the run."""
        return self.folder / ".lock"

    @property
    def checkpoints(self) -> Path:
        """The folder of full training states."""
        return self.folder / "checkpoints"

    @property
    def metrics(self) -> MetricLog:
        """The metric log."""
        return MetricLog(self.folder / "metrics.jsonl")

    def weights(self, which: str) -> Path:
        """Return the path of the `best` or `last` weights."""
        return self.folder / f"{which}_model.safetensors"

    def predictions(self, part: str) -> Path:
        """Return the path of the per-image logits on `val` or `test`."""
        return self.folder / "predictions" / f"{part}.parquet"

    def recipe(self) -> Recipe:
        """Read the resolved recipe."""
        return recipes.load(self.recipe_path)

    def write_json(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write one of the run's JSON files, atomically."""
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_atomically(path, text.encode(errors="backslashreplace"))  # of a file's name that is no UTF-8

    def read_json(self, path: Path) -> dict[str, Any]:
        """Read one of the run's JSON files; a missing one is empty."""
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise StorageError(str(path), found=f"unreadable JSON ({error})", expected="a JSON object") from None
        if not isinstance(content, dict):
            raise StorageError(str(path), found=f"a {type(content).__name__}", expected="a JSON object")
        return content

    def status(self) -> Status:
        """Derive the status: a summary for the recipe's epochs means finished, a held lock running."""
        return self._status(self.recipe(), self.read_json(self.summary_path))

    def _status(self, recipe: Recipe, summary: Mapping[str, Any]) -> Status:
        if lock.is_held(self.lock_path):
            return "running"
        if summary.get("epochs") == recipe.epochs:
            return "finished"
        return "diverged" if self.divergence_path.exists() else "interrupted"

    def record(self) -> Record:
        """Read the whole run.

        Raises:
            RecipeError, StorageError: a file that is damaged, or that another version wrote otherwise.
        """
        recipe, summary = self.recipe(), self._summary()
        return Record(
            folder=self.folder,
            recipe=recipe,
            status=self._status(recipe, summary),
            rows=tuple(self._rows()),
            summary=summary,
            environment=self.read_json(self.environment_path),
        )

    def _rows(self) -> list[dict[str, Any]]:
        """Read the metric log, whose numbers curves rely on."""
        rows = self.metrics.rows()
        for number, row in enumerate(rows, start=1):
            for key, value in row.items():
                is_count = key in ("epoch", "step")
                if is_count or key in _ROW_NUMBERS or key.startswith(("train/", "val/")):
                    sound, expected = (_is_count(value), _COUNT) if is_count else (_is_measure(value), _MEASURE)
                    _hold(sound, value, where=f"{self.metrics.path}, line {number}: {key}", expected=expected)
        return rows

    def _summary(self) -> dict[str, Any]:
        """Read the summary, whose numbers tables rely on."""
        summary, where = self.read_json(self.summary_path), self.summary_path
        for part in ("val", "test"):
            scores = summary.get(part, {"top1": 0.0})
            sound = isinstance(scores, dict) and _is_fraction(scores.get("top1"))
            expected = "a section with top1 from 0 to 1, as this version writes it"
            _hold(sound, scores, where=f"{where}: {part}", expected=expected)
        teacher = summary.get("teacher", {})
        sound = isinstance(teacher, dict) and all(_is_measure(teacher.get(key)) for key in _TEACHER_NUMBERS)
        _hold(
            sound, teacher, where=f"{where}: teacher", expected="a section of finite numbers, as this version writes it"
        )
        for key in _SUMMARY_NUMBERS:
            value = summary.get(key)
            _hold(_is_measure(value), value, where=f"{where}: {key}", expected=_MEASURE)
        epochs, looks = summary.get("epochs", 0), summary.get("test_reads", [])
        _hold(_is_count(epochs), epochs, where=f"{where}: epochs", expected=_COUNT)
        _hold(isinstance(looks, list), looks, where=f"{where}: test_reads", expected="a list of looks at test")
        return summary


def _hold(sound: bool, value: object, *, where: str, expected: str) -> None:
    """Refuse what this version would not have written, before anybody reckons with it."""
    if not sound:
        raise StorageError(where, found=f"{value!r}"[:100], expected=expected)


def _is_measure(value: object) -> bool:
    """Tell whether it is a finite number, or nothing: what was not finite is written as null."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return -_LARGEST < value < _LARGEST
    return value is None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and _is_measure(value) and value >= 0


def _is_fraction(value: object) -> bool:
    return isinstance(value, int | float) and _is_measure(value) and 0 <= value <= 1


def new_folder(recipe: Recipe, *, root: Path, name: str | None = None) -> Path:
    """Return where a new run will live, `root/<model>/<name>`; the name is time and digest if none is given.

    Raises:
        RecipeError: a name that is a path, or one that exists.
    """
    name = name or f"{datetime.now():%Y%m%d-%H%M%S}-{recipe.digest[:8]}"
    check_name(name)
    folder = root / recipe.model.name.replace(":", ".") / name
    if folder.exists():
        raise _taken(folder)
    return folder


def check_name(name: str) -> None:
    """Refuse a name that could be a path.

    Raises:
        RecipeError: it has other letters than a name has, or too many.
    """
    if not _NAME.fullmatch(name) or len(name.encode()) > _NAME_BYTES:
        raise RecipeError(
            "run name",
            found=f"'{name}'",
            expected="letters, digits and . _ + - (at most 100, and 255 bytes), beginning with a letter, a digit or _",
            hint="A name is a name, never a path; --root says where runs go.",
        )


def folder_of(recipe: Recipe, *, root: Path) -> Path:
    """Return where a study keeps the run of this recipe."""
    return root / recipe.place


def records_of(wanted: Iterable[Recipe], *, root: Path) -> tuple[dict[str, Record], list[BakeoffError]]:
    """Read the runs that studies have made of these recipes, by digest; what cannot be read is returned beside them."""
    read: dict[str, Record] = {}
    unreadable: list[BakeoffError] = []
    for recipe in wanted:
        run = Run(folder_of(recipe, root=root))
        try:
            if run.recipe_path.is_file():
                read[recipe.digest] = record_of(recipe, run)
        except BakeoffError as error:
            unreadable.append(error)
    return read, unreadable


def record_of(recipe: Recipe, run: Run) -> Record:
    """Read a run that a study made of this recipe.

    Raises:
        BakeoffError: a damaged file; a run that was extended since, which is one of another recipe.
    """
    record = run.record()
    if record.recipe.digest != recipe.digest:
        raise RecipeError(
            str(run.folder),
            found="a run of another recipe",
            expected=f"the study's, {recipe.digest[:12]}",
            hint="It was changed or extended since. Move it to another name.",
        )
    return record


def create(recipe: Recipe, folder: Path) -> Run:
    """Make the folder of a new run and write its resolved recipe. Never overwrites.

    Raises:
        RecipeError: the folder exists.
        StorageError: it cannot be made.
    """
    aside = folder.with_name(f".{token_hex(8)}")
    with storage_errors(folder):
        aside.mkdir(parents=True)
        try:
            write_atomically(aside / "recipe.yaml", recipe.to_yaml().encode())
            if folder.exists():
                raise _taken(folder)
            aside.rename(folder)  # with its recipe or not at all; refuses a folder with anything in it
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return Run(folder)


def _taken(folder: Path) -> RecipeError:
    return RecipeError(
        "run name",
        found=f"'{folder.name}', which exists in {folder.parent}",
        expected="a new name",
        hint=f"Go on with it by: bakeoff resume {folder}",
    )


def find(text: str, *, root: Path) -> Run:
    """Find a run by its folder, by `<model>/<name>` or by its name alone.

    Raises:
        RecipeError: no such run, or several of that name.
    """
    for folder in (Path(text), root / text):
        if os.path.isfile(folder / "recipe.yaml"):  # unlike Path's, it has an answer to any text
            return Run(folder)
    runs = list_runs(root)
    matches = [run for run in runs if run.folder.name == text]
    if len(matches) == 1:
        return matches[0]
    names = [run.folder.name for run in runs]
    raise RecipeError(
        "run",
        found=f"'{text}'" + (f", {len(matches)} runs of that name" if matches else ", no such run"),
        expected=f"the folder of a run, or a name under {root}/",
        hint=(f"They are {', '.join(map(str, (m.folder for m in matches)))}." if matches else nearest(text, names)),
    )


def list_runs(root: Path) -> list[Run]:
    """List all runs under `root`, by model and name."""
    return [Run(path.parent) for path in sorted(root.glob("*/[!.]*/recipe.yaml"))]


def records(root: Path) -> tuple[list[Record], list[BakeoffError]]:
    """Read all runs under `root`; what cannot be read is returned beside them, not lost."""
    read: list[Record] = []
    unreadable: list[BakeoffError] = []
    for run in list_runs(root):
        try:
            read.append(run.record())
        except BakeoffError as error:
            unreadable.append(error)
    return read, unreadable
