"""The report of a study on disk: page, Markdown, LaTeX, CSV, JSON and pictures, each written in one piece."""

import json
from collections.abc import Container
from pathlib import Path

from bakeoff.errors import BakeoffError
from bakeoff.record import Record
from bakeoff.reports import canvas, interactive, page, paper, pictures, study_figures
from bakeoff.reports.words import in_language
from bakeoff.results.comparison import Comparison
from bakeoff.results.files import storage_errors, write_atomically

MOST_RUNS_DRAWN = 60  # of one study, whose own pictures are drawn where they are missing


def write(comparison: Comparison, folder: Path, *, lang: str = "en") -> list[Path]:
    """Write all that shows a study into its folder, and return the paths; pictures it no longer has are removed.

    It may be half finished, or empty: then the report says so.

    Args:
        comparison: what there is to report.
        folder: made if missing.
        lang: "en" or "zh".

    Raises:
        RecipeError: there is no such language.
        StorageError: the disk refused.
    """
    words = in_language(lang)
    _draw_runs(comparison)
    written, alts = [], {}
    for name, figure in study_figures.drawn(comparison).items():
        path = folder / f"{name}.png"
        canvas.save(figure, path)
        written.append(path)
        alts[path.name] = str(figure.get_label())
    images = interactive.told(comparison)
    summary = json.dumps(paper.overall_summary(comparison), indent=2, ensure_ascii=False, allow_nan=False)
    texts = {
        "report.html": page.html(comparison, words=words, images=images),
        "report.md": paper.markdown(comparison, words=words, pictures=alts, images=images),
        "tables.tex": paper.latex(comparison),
        "leaderboard.csv": paper.leaderboard_csv(comparison),
        "generated_all_models_overall_summary.json": f"{summary}\n",
    }
    for name, text in texts.items():
        write_atomically(folder / name, text.encode())
        written.append(folder / name)
    _remove_stale(folder, kept=alts)
    return written


def _remove_stale(folder: Path, *, kept: Container[str]) -> None:
    """Remove the pictures that an earlier report had and this one has not."""
    for name in study_figures.NAMES:
        path = folder / f"{name}.png"
        if path.name not in kept:
            with storage_errors(path):
                path.unlink(missing_ok=True)


def _draw_runs(comparison: Comparison) -> None:
    """Draw the pictures of runs that have none; one that cannot be drawn costs a picture, not the report."""
    records = [record for score in comparison.arms for record in score.runs.values()]
    if len(records) > MOST_RUNS_DRAWN:
        return
    for record in records:
        if _lacks_pictures(record):
            try:
                pictures.draw(record)
            except BakeoffError:
                continue


def _lacks_pictures(record: Record) -> bool:
    """Tell whether an ended run has no curves yet; a running one draws its own."""
    return record.status != "running" and not (record.folder / "training_curves.png").exists()
