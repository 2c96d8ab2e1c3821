"""The report on disk: every file, for whole studies and for those with holes."""

import json
from pathlib import Path

import pytest

from bakeoff.errors import RecipeError
from bakeoff.reports import study
from bakeoff.results import predictions
from bakeoff.results.comparison import compare
from bakeoff.results.store import Run, records_of
from tests import made
from tests.reports.studies import ARMS, compared, every

TEXTS = {"report.html", "report.md", "tables.tex", "leaderboard.csv", "generated_all_models_overall_summary.json"}
PICTURES = {
    *("accuracy_comparison.png", "ablation_analysis.png", "architecture_comparison.png"),
}  # not of costs, which these runs have alike
TWO = {"arms": {"k5": {"model": "ecanet20_fixed_k5"}}, "seeds": 2}


def test_all_files_are_written_and_the_runs_have_their_curves(tmp_path: Path) -> None:
    comparison = compared(tmp_path, study=TWO, images=50)
    folder = tmp_path / "studies" / "made"
    written = study.write(comparison, folder)
    assert {path.name for path in written} == TEXTS | PICTURES
    assert {path.name for path in folder.iterdir()} == TEXTS | PICTURES
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert all(f"]({name})" in markdown for name in PICTURES)
    assert set(json.loads((folder / "generated_all_models_overall_summary.json").read_text())) == {"none", "k5"}
    for score in comparison.arms:
        for record in score.runs.values():
            assert (record.folder / "training_curves.png").exists()
    before = {path: path.read_bytes() for path in written}
    study.write(comparison, folder)
    assert {path: path.read_bytes() for path in written} == before


def test_pictures_of_an_earlier_report_are_removed_and_those_of_others_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    study.write(compared(tmp_path / "runs", study=TWO, images=20), folder)
    (folder / "mine.png").write_bytes(b"a person's")
    study.write(compared(tmp_path / "none", study=TWO, missing=every(("none", "k5"), 2)), folder)
    assert {path.name for path in folder.iterdir()} == TEXTS | {"mine.png"}


def test_predictions_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = compared(tmp_path, study=TWO, images=20)
    study.write(comparison, tmp_path / "report")  # and the runs have their curves
    read: list[Path] = []
    original = predictions.read
    monkeypatch.setattr(predictions, "read", lambda path: (read.append(path), original(path))[1])
    study.write(comparison, tmp_path / "report")
    assert len(read) == len(set(read)) == 4


def test_an_empty_study_has_a_report_and_no_pictures(tmp_path: Path) -> None:
    written = study.write(compared(tmp_path, missing=every(ARMS, 3)), tmp_path / "report", lang="zh")
    assert {path.name for path in written} == TEXTS
    assert "尚无结论" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_damaged_runs_cost_their_row_not_the_report(tmp_path: Path) -> None:
    of = made.study(**(TWO | {"seeds": 4}))
    found = made.runs(of, tmp_path, images=30, half=[("k5", 3)])
    runs = {(arm.name, seed): Run(found[r.digest].folder) for arm in of.arms for _, seed, r in of.runs(arm)}
    with runs["none", 0].metrics.path.open("a") as log:
        log.write('{"step": 99, "val/to')  # killed while it wrote
    runs["none", 1].summary_path.unlink()
    runs["none", 2].summary_path.write_text("{", encoding="utf-8")
    runs["none", 3].environment_path.write_text("[]", encoding="utf-8")
    runs["k5", 0].predictions("test").unlink()
    runs["k5", 1].predictions("test").write_bytes(b"PAR1")
    runs["k5", 2].summary_path.write_text('{"epochs": 5, "test": {"top1": 0.5}}', encoding="utf-8")
    read, unreadable = records_of(of.recipes().values(), root=tmp_path)
    assert len(unreadable) == 2
    comparison = compare(of, read)
    study.write(comparison, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert f"{comparison.unfinished} of 8 runs are not finished" in text
    assert comparison.unfinished == 4
    assert "| interrupted |" in text


def test_an_unknown_language_is_refused(tmp_path: Path) -> None:
    comparison = compared(tmp_path, study=TWO, missing=every(("none", "k5"), 2))
    with pytest.raises(RecipeError, match="klingon"):
        study.write(comparison, tmp_path / "report", lang="klingon")
    assert not (tmp_path / "report").exists()
