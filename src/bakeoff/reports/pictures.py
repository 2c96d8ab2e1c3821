"""The pictures that every run keeps in its folder, drawn from its record and its predictions."""

from pathlib import Path

from matplotlib.figure import Figure

from bakeoff.record import Record
from bakeoff.reports.figures import confusion_matrix, save, training_curves
from bakeoff.results import metrics, predictions
from bakeoff.results.store import Run


def draw(record: Record) -> list[Path]:
    """Draw what the run has data for, and return the paths: curves, and the confusion matrix.

    The matrix is of the test split where it was read, else of validation.
    """
    run, drawn = Run(record.folder), []
    title = f"{record.recipe.model.name} on {record.recipe.data.name}, {record.name}"
    if record.rows:
        path = run.folder / "training_curves.png"
        save(training_curves(record.rows, title=title, num_images=record.summary.get("val", {}).get("n")), path)
        drawn.append(path)
    for part in ("test", "val"):
        if part in record.summary:
            path = run.folder / "plots" / "confusion_matrix.png"
            save(_confusion(run, part, title=f"{title}, {part}"), path)
            drawn.append(path)
            break
    return drawn


def _confusion(run: Run, part: str, *, title: str) -> Figure:
    said = predictions.read(run.predictions(part))
    return confusion_matrix(
        metrics.confusion_matrix(said),
        said.classes,
        superclasses=said.superclasses,
        superclass_of=said.superclass_of,
        title=title,
    )
