"""Studies from outside: real processes, from a question to a page, and every mistake a message."""

import json
from pathlib import Path

import pytest

from bakeoff import library
from bakeoff.results import store, studies
from bakeoff.results.store import Run
from tests import made
from tests.cli.test_cli import bakeoff

QUESTION = """
question: Does the learning rate matter on <b>digits</b>?
base: {model: resnet_20, data: digits, data.limit: 100, epochs: 1, batch_size: 32, device: cpu, compile: false}
control: usual
arms:
  low: {lr: 0.001}
  wild: {lr: 1.0e+18, schedule: constant}
seeds: 2
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a study has run; one of its arms diverges."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "q.yaml").write_text(QUESTION, encoding="utf-8")
    done = bakeoff("study", "run", "q.yaml", "seeds=1", cwd=folder)
    assert done.returncode == 1, done.stderr  # an arm diverged
    assert "wild" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "Scaled down: seeds 2 → 1" in done.stdout
    assert "report.html" in done.stdout
    return folder


def test_a_study_leaves_its_report_and_its_runs(ran: Path) -> None:
    (folder,) = (ran / "logs" / "studies").iterdir()
    names = {path.name for path in folder.iterdir()}
    assert {"study.json", "report.html", "report.md", "tables.tex", "leaderboard.csv"} <= names
    assert "generated_all_models_overall_summary.json" in names
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<b>digits</b>" not in page
    assert "&lt;b&gt;digits&lt;/b&gt;" in page
    study = studies.restore(folder)
    found, unreadable = store.records_of(study.recipes().values(), root=ran / "logs")
    assert not unreadable
    assert sorted(record.status for record in found.values()) == ["diverged", "finished", "finished"]
    assert all(len(r.summary["test_reads"]) == 1 for r in found.values() if r.status == "finished")


def test_a_second_run_has_nothing_to_do_and_a_report_can_be_made_again(ran: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in ran.glob("logs/resnet_20/*/evaluation_summary.json")}
    again = bakeoff("study", "run", "q.yaml", "seeds=1", "--json", cwd=ran)
    assert again.returncode == 1
    content = json.loads(again.stdout)
    assert content["study"] == "q"
    assert [end["state"] for end in content["unwell"]] == ["diverged"]
    assert set(content["arms"]) == {"usual", "low", "wild"}
    assert before == {path: path.stat().st_mtime_ns for path in before}
    (folder,) = (ran / "logs" / "studies").iterdir()
    (folder / "report.md").unlink()
    made_again = bakeoff("report", "q", "--lang", "zh", cwd=ran)
    assert made_again.returncode == 0, made_again.stderr
    assert (folder / "report.md").is_file()
    assert 'lang="zh' in (folder / "report.html").read_text(encoding="utf-8")


def test_check_and_show_run_nothing(ran: Path, tmp_path: Path) -> None:
    (tmp_path / "q.yaml").write_text(QUESTION, encoding="utf-8")
    shown = bakeoff("study", "show", "q.yaml", cwd=tmp_path)
    assert shown.returncode == 0
    assert "optimizer.lr 0.2 → 0.001" in shown.stdout
    checked = bakeoff("study", "check", "q.yaml", "--json", cwd=tmp_path)
    content = json.loads(checked.stdout)
    assert (content["to_do"], content["distinct"]) == (6, 6)
    assert not (tmp_path / "logs").exists()
    listed = json.loads(bakeoff("list", "studies", "--json", cwd=tmp_path).stdout)
    assert {row["name"] for row in listed} == set(library.studies())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "eca-kernal"], 2, "Did you mean 'eca-kernel'?"),
        (["run", "eca-kernel", "model=resnet_32"], 2, "what the arms differ in"),
        (["run", "eca-kernel", "seeds=none"], 2, "seeds"),
        (["run", "missing.yaml"], 3, "no such file"),
        (["check", "eca-kernel", "epochs=0"], 2, "epochs"),
        (["check", "bad.yaml"], 2, "Did you mean 'arms'?"),
        (["check", "typo.yaml"], 2, "low"),
        (["show"], 2, "Missing argument"),
        (["wat"], 2, "wat"),
    ],
)
def test_a_mistake_is_one_message(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    (tmp_path / "bad.yaml").write_text(QUESTION.replace("arms:", "armes:"), encoding="utf-8")
    (tmp_path / "typo.yaml").write_text(QUESTION.replace("{lr: 0.001}", "{model.widht: 8}"), encoding="utf-8")
    done = bakeoff("study", *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "logs").exists()


def test_any_runs_can_be_compared_and_reported(tmp_path: Path) -> None:
    study = made.study(seeds=2)
    found = made.runs(study, tmp_path / "logs", top1={"fixed_k3": 0.8}, half=[("adaptive", 1)])
    folders = [str(record.folder) for record in found.values()]
    compared = bakeoff("compare", *folders[:4], "--json", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    content = json.loads(compared.stdout)
    assert len(content["same_images"]) == 6
    first = content["same_images"][0]
    assert (first["split"], first["images"]) == ("test", 200)
    assert first["p"] <= first["p_holm"] <= min(1, 6 * first["p"])
    damaged = Run(Path(folders[0]))
    damaged.summary_path.write_text("{", encoding="utf-8")
    reported = bakeoff("report", cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    assert "Left out" in reported.stdout  # what could not be read is named
    assert "evaluation_summary.json" in reported.stdout
    assert (tmp_path / "logs" / "studies" / "runs" / "report.html").is_file()
    assert "Left out" in (tmp_path / "logs" / "studies" / "runs" / "report.md").read_text(encoding="utf-8")
    studies.keep(study, root=tmp_path / "logs")
    refused = bakeoff("report", *folders[1:3], "--name", "made", cwd=tmp_path)
    assert refused.returncode == 2
    assert "which is a study" in refused.stderr
    assert bakeoff("compare", folders[1], cwd=tmp_path).returncode == 2
    assert bakeoff("report", "nothing", cwd=tmp_path).returncode == 2
