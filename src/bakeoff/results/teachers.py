"""Teachers as people name them: a run, a file of weights, `timm:NAME`, or `random:NAME`, which has learnt nothing."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from bakeoff import catalogue
from bakeoff.errors import DataError, RecipeError
from bakeoff.recipe import Recipe, Teacher
from bakeoff.results import store
from bakeoff.study import Study

PICKLED = (b"PK\x03\x04", b"\x80")  # how torch.save's files begin, new and old
SAFE = b"{"  # the ninth byte of safetensors, after the length of the header, which may begin like a pickle


def is_built(name: str) -> bool:
    """Whether the name says what the teacher is, so that nothing has to be looked up under the folder of runs."""
    return name.startswith((catalogue.RANDOM, catalogue.TIMM))


def identify(name: str, *, root: Path) -> Teacher:
    """Return the teacher of this name with the digest of what it is, as a recipe keeps it.

    Args:
        name: a run's folder or name, the path of a file of weights, `timm:NAME` or `random:NAME`.
        root: the folder of all runs.

    Raises:
        RecipeError: no such run or file.
        DataError: a file that is no safetensors.
    """
    if is_built(name):
        return Teacher(name=name)
    path = Path(name)
    if os.path.isfile(path):
        return Teacher(name=str(path.absolute()), digest=_digest(path))
    folder = store.find(name, root=root).folder
    inside = folder.is_relative_to(root)
    return Teacher(
        name=str(folder.relative_to(root) if inside else folder.absolute()), digest=store.Run(folder).recipe().digest
    )


def identified(recipe: Recipe, *, root: Path) -> Recipe:
    """Return the recipe with what its teacher is, where it only says where it is.

    Raises:
        RecipeError, DataError: as `identify`.
    """
    if recipe.teacher is None or recipe.teacher.digest is not None:
        return recipe
    found = identify(recipe.teacher.name, root=root)
    return recipe.model_copy(update={"teacher": found.model_copy(update={"resize": recipe.teacher.resize})})


def identified_in(study: Study, *, root: Path) -> Study:
    """Return the study with what every teacher is that it does not train itself, where it only says where that is.

    Raises:
        RecipeError, DataError: as `identify`, naming the arm.
    """
    arms = []
    for arm in study.arms:
        trials = []
        for trial in arm.trials:
            try:
                trials.append(replace(trial, recipe=identified(trial.recipe, root=root)))
            except (RecipeError, DataError) as error:
                raise error.inside(f"{study.name}: {', '.join(filter(None, (arm.name, trial.name)))}") from None
        arms.append(replace(arm, trials=tuple(trials)))
    return replace(study, arms=tuple(arms))


def weights(teacher: Teacher, *, root: Path) -> Path:
    """Return the file of a teacher's weights.

    Raises:
        RecipeError: it is not there.
        DataError: it is not what it was, a run that is not finished, or a pickle.
    """
    path = Path(teacher.name)
    if os.path.isfile(path):
        digest, found = _digest(path), path
    else:
        run = store.find(teacher.name, root=root)
        recipe, found = run.recipe(), run.weights("best")
        digest = recipe.digest
        if run.read_json(run.summary_path).get("epochs") != recipe.epochs:
            raise DataError(
                f"teacher {run.folder}",
                found="a run that is not finished",
                expected="a finished run",
                hint=f"Go on with it by: bakeoff resume {run.folder}",
            )
    if teacher.digest not in (None, digest):
        raise DataError(
            f"teacher {teacher.name}",
            found=f"another teacher ({digest[:12]})",
            expected=f"{str(teacher.digest)[:12]}, as the recipe says",
            hint="It was changed or extended since.",
        )
    return found


def _digest(path: Path) -> str:
    """Hash a file of weights.

    Raises:
        DataError: it cannot be read, or is a pickle: loading one can run any code.
    """
    expected = "safetensors weights written by bakeoff, a run's folder, or timm:NAME"
    try:
        with path.open("rb") as file:
            head = file.read(9)
            if head.startswith(PICKLED) and head[8:] != SAFE:
                found = "a pickle, whose loading could run any code"
                raise DataError(f"teacher {path}", found=found, expected=expected)
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        found = f"a file that cannot be read ({error.strerror or error})"
        raise DataError(f"teacher {path}", found=found, expected=expected) from None
