"""Tables hold what the comparison says, cell by cell, and are never short of a column."""

import json
from pathlib import Path
from typing import Any

import pytest

from bakeoff.reports import formats, tables
from bakeoff.results.comparison import compare
from bakeoff.results.store import Run, records_of
from tests import made
from tests.reports.studies import ARMS, compared, every, exactly


def test_the_leaderboard_is_the_comparison_best_first(tmp_path: Path) -> None:
    comparison = compared(tmp_path, top1={"fixed_k5": 0.7, "none": 0.65, "adaptive": 0.5})
    board = tables.leaderboard(comparison)
    assert list(board.columns) == list(tables.LEADERBOARD)
    assert board["arm"].iloc[0] == "fixed_k5"
    assert board["top1"].is_monotonic_decreasing
    for row in board.to_dict("records"):
        score = comparison.arm(row["arm"])
        assert score.mean is not None
        assert (row["top1"], row["n"], row["rank"]) == (score.mean.estimate, 3, score.rank)
        assert row["by_seed"] == dict(score.top1)
        assert row["folders"] == {seed: record.folder for seed, record in score.runs.items()}
        assert all((folder / "evaluation_summary.json").exists() for folder in row["folders"].values())
        assert row["is_control"] == (row["arm"] == "none")
        if score.to_control is None:
            assert formats.is_missing(row["difference"])
        else:
            assert row["difference"] == score.to_control.estimate
            assert row["p_holm"] == score.p_holm
    assert "resnet_20 → ecanet20_fixed_k5" in board["changes"].iloc[0]


def test_best_is_marked_only_alone_at_rank_one(tmp_path: Path) -> None:
    alone = exactly(tmp_path / "a", {"none": [0.60, 0.61, 0.605], "a": [0.80, 0.811, 0.804]})
    shared = exactly(tmp_path / "b", {"none": [0.60, 0.61, 0.605], "a": [0.61, 0.60, 0.605]})
    single = exactly(tmp_path / "c", {"none": [0.6], "a": [0.8]})
    assert tables.leaderboard(alone)["best"].tolist() == [True, False]
    assert not tables.leaderboard(shared)["best"].any()
    assert not tables.leaderboard(single)["best"].any()


def test_a_network_that_two_arms_share_is_no_best(tmp_path: Path) -> None:
    arms = {"fixed": {"model": "ecanet20_fixed_k3"}, "adaptive": {"model": "ecanet20_adaptive"}}  # one, when made
    top1 = {"none": 0.3, "fixed": 0.5, "adaptive": 0.8}
    comparison = compared(tmp_path, study={"arms": arms, "seeds": 4}, top1=top1, images=500)
    assert comparison.repeats
    assert [score.rank for score in comparison.arms].count(1) == 1
    assert not tables.leaderboard(comparison)["best"].any()


def test_a_claim_needs_three_seeds_in_every_table(tmp_path: Path) -> None:
    table = tables.differences(exactly(tmp_path, {"none": [0.5, 0.5], "k3": [0.9, 0.9001]}))
    assert table["p_holm"].iloc[0] < 0.05
    assert not table["separable"].any()


def test_arms_without_a_result_come_last_and_have_no_numbers(tmp_path: Path) -> None:
    comparison = compared(tmp_path, missing=every(["none"], 3), diverged=every(["fixed_k7"], 3))
    board = tables.leaderboard(comparison)
    assert board["arm"].tolist()[-2:] == ["none", "fixed_k7"]
    assert board["n"].tolist()[-2:] == [0, 0]
    assert board["top1"].isna().tolist() == [False] * 3 + [True] * 2
    assert board["diverged"].tolist()[-1] == [0, 1, 2]
    assert board["difference"].isna().all()


def test_differences_are_to_the_control_and_then_the_contrasts(tmp_path: Path) -> None:
    study = {"contrasts": [["fixed_k3", "fixed_k5"]]}
    table = tables.differences(compared(tmp_path, study=study, top1={"fixed_k5": 0.7}))
    assert table["a"].tolist()[0] == "fixed_k5"
    assert table["contrast"].tolist() == [False] * 4 + [True]
    assert set(table["b"].tolist()[:4]) == {"none"}
    assert table[~table["contrast"]]["difference"].is_monotonic_decreasing
    last = table.iloc[-1]
    assert (last["a"], last["b"]) == ("fixed_k3", "fixed_k5")
    assert last["difference"] < 0


def test_trials_are_of_validation_and_one_is_chosen(tmp_path: Path) -> None:
    study = {
        "arms": {"a": {"try": {"lr": [0.05, 0.2]}}},
        "base": {"model": "resnet_20", "epochs": 5, "try": {"lr": [0.1, 0.3]}},
        "changes": [],
    }
    table = tables.trials(compared(tmp_path, study=study))
    assert table["arm"].tolist() == ["none", "none", "a", "a"]
    assert table.groupby("arm")["chosen"].sum().tolist() == [1, 1]
    assert table["n"].tolist() == [3] * 4
    assert tables.trials(compared(tmp_path / "plain")).empty


def test_provenance_is_a_row_a_run_and_every_look_at_test_is_listed(tmp_path: Path) -> None:
    comparison = compared(tmp_path, half=[("none", 0)])
    runs, looks = tables.provenance(comparison), tables.test_reads(comparison)
    assert len(runs) == 15
    assert runs["status"].value_counts().to_dict() == {"finished": 14, "interrupted": 1}
    assert runs["test_reads"].sum() == len(looks) == 14
    first = runs.iloc[0]
    assert (first["torch"], first["hardware"], first["command"]) == (
        "2.15.0",
        "A processor, 2 cores",
        "bakeoff study run",
    )


def test_classes_are_means_over_seeds(tmp_path: Path) -> None:
    comparison = compared(tmp_path, classes=4)
    table = tables.per_class(comparison, arm="fixed_k5")
    score = comparison.arm("fixed_k5")
    for i, row in enumerate(table.to_dict("records")):
        recalls = [record.summary["test"]["per_class"][i]["recall"] for record in score.runs.values()]
        assert row["recall"] == pytest.approx(sum(recalls) / 3)
        assert row["difference"] == pytest.approx(row["recall"] - row["control_recall"])
    mean = sum(row["recall"] * row["n"] for row in table.to_dict("records")) / table["n"].sum()
    assert score.mean is not None
    assert mean == pytest.approx(score.mean.estimate)


def test_an_empty_study_has_every_column(tmp_path: Path) -> None:
    comparison = compared(tmp_path, missing=every(ARMS, 3))
    assert len(tables.leaderboard(comparison)) == 5
    for table, columns in (
        (tables.differences(comparison), tables.DIFFERENCES),
        (tables.trials(comparison), tables.TRIALS),
        (tables.provenance(comparison), tables.PROVENANCE),
        (tables.test_reads(comparison), tables.TEST_READS),
        (tables.per_class(comparison, arm="none"), tables.PER_CLASS),
    ):
        assert table.empty
        assert {name: str(kind) for name, kind in table.dtypes.items()} == columns


def test_names_that_are_not_unicode_stay_what_they_are(tmp_path: Path) -> None:
    study = made.study(seeds=1)
    for record in made.runs(study, tmp_path, names=["half", "a|b\n", "=1+1", "中"]).values():
        path = Run(record.folder).summary_path
        path.write_text(path.read_text().replace('"half"', '"\\udcff"'))
    found, _ = records_of(study.recipes().values(), root=tmp_path)
    table = tables.per_class(compare(study, found), arm="none")
    assert table["class"].tolist() == ["\udcff", "a|b\n", "=1+1", "中"]


def test_summaries_of_another_version_have_holes_not_errors(tmp_path: Path) -> None:
    study = made.study()
    for record in made.runs(study, tmp_path).values():
        run = Run(record.folder)
        summary: dict[str, Any] = {
            "epochs": 5,
            "test": {"top1": 0.5, "n": 10},
            "val": {"top1": 0.5},
            "test_reads": ["?"],
        }
        summary["test"]["per_class"] = [{"unheard": "of"}]
        run.summary_path.write_text(json.dumps(summary))
        run.environment_path.write_text("{}")
    found, unreadable = records_of(study.recipes().values(), root=tmp_path)
    assert not unreadable
    comparison = compare(study, found)
    board = tables.leaderboard(comparison)
    assert board["top1"].tolist() == [0.5] * 5
    assert board["params_m"].isna().all()
    assert tables.per_class(comparison, arm="none").empty
    assert tables.test_reads(comparison).empty
    assert tables.provenance(comparison)["torch"].isna().all()
