"""Runs that need another run: the teacher comes first, once, and whoever learns from it waits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bakeoff.errors import DataError, RecipeError
from bakeoff.launch import check as checks
from bakeoff.launch import grid
from bakeoff.launch.board import OPEN, Board
from bakeoff.launch.executors import Placement
from bakeoff.recipe import resolve
from bakeoff.results import store, teachers
from bakeoff.results.comparison import compare
from bakeoff.study import Study
from bakeoff.study import of as study_of
from bakeoff.training import run as training

BASE = {"model": "resnet_20", "data": "digits", "data.limit": 400, "epochs": 1, "batch_size": 32, "protocol": "paper"}
BASE |= {"device": "cpu", "precision": "float32", "lr": 0.02}
PLAIN = {"augment.crop_padding": 0, "augment.flip": "none"}
BASE |= PLAIN
LESSONS = [f"{key}={str(value).lower()}" for key, value in (BASE | PLAIN).items() if key != "model"]
LESSONS += ["epochs=8", "batch_size=16", "lr=0.1", "threads=1"]
LESSON = {"model": "resnet_20", "epochs": 8, "batch_size": 16, "lr": 0.1, **PLAIN}


def study(teacher: dict[str, Any] | None = None, **changes: Any) -> Study:
    content: dict[str, Any] = {
        "question": "Does it teach?",
        "base": BASE,
        "control": "alone",
        "teachers": {"tutor": LESSON | (teacher or {})},
        "arms": {
            "kd": {"objective": "kd", "teacher": "tutor"},
            "hints": {"objective": "fitnets", "objective.teacher_weight": 1.0, "teacher": "tutor"},
        },
        "changes": ["objective", "teacher"],
        "seeds": 1,
    }
    return study_of(content | changes, name="taught", where="taught")


def learning_from(teacher: str) -> Study:
    """Return a study of a teacher that it does not train itself."""
    return study(teachers={}, arms={"kd": {"objective": "kd", "teacher": teacher}})


def run(of: Study, root: Path) -> tuple[grid.Outcome, Sequence[Board]]:
    boards: list[Board] = []
    return grid.run(of, root=root, placement=Placement(jobs=2), tell=boards.append), boards


def test_the_teacher_is_trained_once_and_before_its_students(tmp_path: Path) -> None:
    of = study()
    outcome, boards = run(of, tmp_path)
    assert [end.state for end in outcome.runs] == ["finished"] * 5  # tutor, alone, kd, hints, label smoothing
    for board in boards:
        rows = {row.name: row for row in board.rows}
        if rows["teacher tutor"].state in OPEN:
            assert {rows[name].state for name in ("kd", "hints")} == {"waiting"}
    assert any("its teacher is not trained yet" in row.note for board in boards for row in board.rows)
    (tutor,) = of.teachers.values()
    runs = store.list_runs(tmp_path)
    assert sorted(r.recipe().digest for r in runs) == sorted(of.recipes())
    told = [r.summary["teacher"] for r in (run.record() for run in runs) if "teacher" in r.summary]
    assert {t["digest"] for t in told} == {tutor.digest}
    assert len({t["sha256"] for t in told}) == 1
    again, _ = run(of, tmp_path)
    assert {end.state for end in again.runs} == {"skipped"}
    comparison = compare(of, {r.recipe().digest: r.record() for r in runs})
    assert [score.name for score in comparison.arms] == ["alone", "kd", "hints", "label smoothing"]
    assert comparison.unfinished == 0


def test_where_the_teacher_diverges_its_students_fail_and_the_others_do_not(tmp_path: Path) -> None:
    outcome, _ = run(study({"lr": 1e30, "schedule": "constant"}), tmp_path)
    ends = {" ".join(end.arms) or "tutor": end for end in outcome.runs}
    assert {name: end.state for name, end in ends.items()} == {
        "tutor": "diverged",
        "alone": "finished",
        "kd": "failed",
        "hints": "failed",
        "label smoothing": "finished",
    }
    assert isinstance(ends["kd"].error, DataError)
    assert "a run that diverged" in str(ends["kd"].error)


def test_a_teacher_that_has_learnt_nothing_fails_its_students_with_its_figures(tmp_path: Path) -> None:
    outcome, _ = run(study({"lr": 1e-9, "schedule": "constant", "epochs": 1}), tmp_path)
    ends = {" ".join(end.arms) or "tutor": end for end in outcome.runs}
    assert ends["tutor"].state == "finished"
    assert ends["kd"].state == "failed"
    assert "10 standard errors" in str(ends["kd"].error)


def test_the_check_counts_teachers_and_builds_them(tmp_path: Path) -> None:
    found = checks.check(study(), root=tmp_path)
    assert (found.distinct, found.to_do) == (5, 5)
    assert {row.arm: row.to_do for row in found.rows} == {
        "teacher tutor": 1,
        "alone": 1,
        "kd": 1,
        "hints": 1,
        "label smoothing": 1,
    }


def test_a_distilled_run_is_estimated_to_take_longer(tmp_path: Path) -> None:
    rows = {row.arm: row for row in checks.check(study(), root=tmp_path).rows}
    assert rows["kd"].seconds > 1.1 * rows["alone"].seconds


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ({"objective": "kd", "teacher": "tutr"}, "'tutr', no such run"),
        ({"objective": "kd", "teacher": "random:resnet_21"}, "resnet_21"),
        ({"objective": "kd"}, "kd, which learns from a teacher, and none"),
        ({"teacher": "tutor"}, "an objective that learns from none"),
        ({"objective": "fitnets", "objective.stage": 4, "teacher": "tutor"}, "objective.stage: found 4"),
        ({"objective": {"name": "kd", "temperature": 0}, "teacher": "tutor"}, "objective.temperature: found 0"),
    ],
)
def test_mistakes_are_found_before_the_first_run(arm: dict[str, Any], said: str, tmp_path: Path) -> None:
    arms = {"right": {"objective": "kd", "teacher": "tutor"}, "wrong": arm}
    with pytest.raises(RecipeError) as caught:
        checks.check(study(arms=arms), root=tmp_path)
    assert said in str(caught.value)
    assert "wrong" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_teacher_that_lies_somewhere_is_known_by_what_it_is(tmp_path: Path) -> None:
    training.start(resolve("resnet_20", overrides=[*LESSONS, "seed=3"]), tmp_path / "resnet_20" / "before")
    of = teachers.identified_in(learning_from("before"), root=tmp_path)
    taught = of.arms[1].trials[0].recipe
    assert taught.teacher is not None
    assert taught.teacher.digest == store.find("before", root=tmp_path).recipe().digest
    checks.check(of, root=tmp_path)
    checks.measure_teachers(of, root=tmp_path)
    nowhere = learning_from("behind")
    with pytest.raises(RecipeError, match="taught: kd: run: found 'behind'"):
        teachers.identified_in(nowhere, root=tmp_path)


def test_a_teacher_of_no_use_is_refused_before_the_controls_are_trained(tmp_path: Path) -> None:
    training.start(resolve("resnet_20", overrides=[*LESSONS, "lr=1e-9"]), tmp_path / "resnet_20" / "dull")
    of = teachers.identified_in(learning_from("dull"), root=tmp_path)
    with pytest.raises(DataError, match=r"taught: kd: teacher .*10 standard errors"):
        checks.measure_teachers(of, root=tmp_path)


def test_a_teacher_of_other_data_is_found_by_the_check(tmp_path: Path) -> None:
    of = study({"data.name": "cifar10"})
    with pytest.raises(RecipeError, match="one of cifar10"):
        checks.check(of, root=tmp_path)


def test_a_network_without_stages_gives_no_hints(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="stages that put out"):
        checks.check(study({"model": "mlp_mixer_tiny"}), root=tmp_path)


def test_the_workers_take_what_a_driver_hands_them(tmp_path: Path) -> None:
    """A teacher's place and digest go through the line that a job is."""
    from bakeoff.launch.jobs import Job

    for recipe in study().recipes().values():
        job = Job(recipe=recipe, folder=store.folder_of(recipe, root=tmp_path), test=True)
        assert Job.from_line(job.to_line()) == job
