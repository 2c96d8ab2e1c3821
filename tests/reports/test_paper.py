"""What other programs read: Markdown that GitHub shows, LaTeX that compiles, CSV for spreadsheets and timm's tools."""

import csv
import io
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakeoff.reports import latex, markdown, paper, tables
from bakeoff.reports.words import in_language
from bakeoff.results.comparison import Comparison
from tests.reports.studies import ARMS, compared, every

EVIL = ("<img src=x onerror=alert(1)>", "=1+1", "a|b $x_1$ _y_\n中文", "--[*]~^#&%{}\\")
QUESTION = "Does `it` | <b>help</b>? $5 & 10 %"
MODELS = ("ecanet20_fixed_k3", "ecanet20_fixed_k5", "ecanet20_fixed_k7", "ecanet20_adaptive")


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    study: dict[str, Any] = {
        "arms": {name: {"model": model} for name, model in zip(EVIL, MODELS, strict=True)},
        "question": QUESTION,
        "contrasts": [["=1+1", EVIL[0]]],
        "references": [{"arm": "=1+1", "top1": 0.7, "source": "http://x.y/|"}],
        "typed": ("epochs=3",),
    }
    return compared(tmp_path_factory.mktemp("evil"), study=study, top1={"=1+1": 0.8}, classes=12)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return compared(tmp_path_factory.mktemp("empty"), missing=every(ARMS, 3))


def shown(comparison: Comparison, language: str = "en") -> str:
    return paper.markdown(comparison, words=in_language(language), pictures={"accuracy.png": "dots | [and] <lines>"})


def columns(line: str) -> int:
    return len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) - 1


def test_markdown_tables_have_as_many_cells_in_every_row(evil: Comparison) -> None:
    lines = shown(evil).splitlines()
    heads = [i for i, line in enumerate(lines) if re.fullmatch(r"(\| -+:? )+\|", line)]
    assert len(heads) >= 7
    for head in heads:
        rows = [lines[head - 1]]
        for line in lines[head + 1 :]:
            if not line.startswith("|"):
                break
            rows.append(line)
        assert len(rows) > 1
        assert {columns(row) for row in rows} == {columns(lines[head])}


def test_markdown_says_what_the_page_says(evil: Comparison) -> None:
    text = shown(evil)
    titles = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert {"Leaderboard", "Differences", "Classes", "Numbers of others", "How it was computed"} <= set(titles)
    assert "Scaled down: epochs 5 → 3" in text
    assert "![dots \\| \\[and\\] &lt;lines&gt;](accuracy.png)" in text
    for score in evil.arms:
        for record in score.runs.values():
            assert f"(../../{record.folder.parent.name}/{record.folder.name}/)" in text
    assert text.count("2026-01-01T00:00:00+00:00") >= 15
    assert "### Machines and versions" in text


def test_markdown_shows_names_letter_by_letter(evil: Comparison) -> None:
    text = shown(evil)
    assert "<img" not in text
    assert "<b>" not in text
    assert "http://" not in text
    assert text.startswith("# Does \\`it\\` \\| &lt;b&gt;help&lt;/b&gt;? \\$5 &amp; 10 %\n")


@given(st.text(max_size=30))
def test_no_text_breaks_out_of_its_cell(name: str) -> None:
    escaped = markdown.escape(name)
    assert not set("\n\r<>") & set(escaped)
    assert columns(f"| {escaped} |") == 1
    escaped.encode()


def test_markdown_is_read_by_a_parser_as_it_was_meant(evil: Comparison) -> None:
    parser = pytest.importorskip("markdown_it").MarkdownIt("gfm-like", {"html": True, "linkify": False})
    tokens = parser.parse(shown(evil))
    cells = {
        "".join(child.content for child in inline.children)
        for opened, inline in itertools.pairwise(tokens)
        if opened.type in ("td_open", "th_open", "heading_open")
    }
    assert {" ".join(name.split()) for name in EVIL} <= cells
    assert QUESTION in cells
    assert not [t for t in tokens if t.type == "html_block"]
    assert not [c for t in tokens for c in t.children or () if c.type == "html_inline"]


def test_diverged_seeds_are_marked_and_numbers_of_others_are_of_test(tmp_path: Path) -> None:
    study = {"references": [{"arm": "none", "top1": 0.9, "source": "others"}]}
    comparison = compared(tmp_path, study=study, test=False, diverged=[("fixed_k3", 1)], images=50)
    text = shown(comparison)
    assert "| fixed_k3 **1 diverged** |" in text
    assert "Numbers of others" not in text
    assert "Top-1 on validation" in text


def test_what_was_typed_is_called_smaller_only_where_it_is(tmp_path: Path) -> None:
    comparison = compared(tmp_path, study={"typed": ("epochs=9",)}, missing=every(ARMS, 3))
    assert "**Not as in the study's file: epochs 5 → 9.**" in shown(comparison)
    assert "**与研究文件不同：epochs 5 → 9。**" in shown(comparison, "zh")
    assert "Not as in the study's file: epochs 5 $\\to$ 9." in paper.latex(comparison)


def test_markdown_in_chinese(evil: Comparison) -> None:
    text = shown(evil, "zh")
    assert "## 排行榜" in text
    assert "优于 none" in text


def test_an_empty_study_is_reported(empty: Comparison) -> None:
    text = paper.markdown(empty, words=in_language("en"), pictures={})
    assert "No answer yet: none of the 15 runs has finished." in text
    assert "15 of 15 runs are not finished" in text
    assert "\\begin{tabular}" in paper.latex(empty)
    assert len(paper.leaderboard_csv(empty).splitlines()) == 6
    summary = paper.overall_summary(empty)
    assert {entry["final_accuracy"] for entry in summary.values()} == {None}
    json.dumps(summary, allow_nan=False)


def test_latex_is_a_table_with_caption_and_label(evil: Comparison) -> None:
    text = paper.latex(evil)
    assert text.count("\\toprule") == text.count("\\bottomrule") == text.count("\\label") == 2
    assert "n = 3" in text
    assert "95\\,\\% interval" in text
    assert f"\\label{{tab:{evil.study.folder_name}}}" in text
    assert "% Engine: xelatex or lualatex" in text
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows[:6]} == {7}
    assert "(control)" in text


def test_latin_names_need_no_special_engine(tmp_path: Path) -> None:
    text = paper.latex(compared(tmp_path, study={"question": "Why, é ± – …?"}, missing=every(ARMS, 3)))
    assert "% Engine: any" in text


@given(st.text(max_size=30))
def test_latex_escapes_leave_nothing_special(name: str) -> None:
    escaped = latex.escape(name)
    left = escaped.replace("$-$", "").replace("$\\pm$", "").replace("$\\to$", "")
    left = re.sub(r"\\text[a-z]+\{\}|\\ldots\{\}|\\[%_&#${}]|\{[-*[]\}", "", left)
    assert not set('\\%&#$_{}^~<>|"`\n\r') & set(left)
    escaped.encode()


@pytest.mark.parametrize("engine", ["pdflatex", "xelatex"])
def test_latex_compiles(evil: Comparison, tmp_path: Path, engine: str) -> None:
    if shutil.which(engine) is None:
        pytest.skip(f"needs {engine}")
    body = paper.latex(evil)
    if engine == "pdflatex":
        body = body.encode("ascii", errors="ignore").decode()
    (tmp_path / "tables.tex").write_text(body)
    head = "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs}\\begin{document}"
    (tmp_path / "main.tex").write_text(head + "\\input{tables}\\end{document}")
    done = subprocess.run([engine, "-interaction=nonstopmode", "-halt-on-error", "main"], cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_the_csv_has_timms_columns_first_and_per_cent(evil: Comparison) -> None:
    text = paper.leaderboard_csv(evil)
    table = pd.read_csv(io.StringIO(text))
    timm = ["model", "img_size", "top1", "top1_err", "top5", "top5_err", "param_count", "crop_pct", "interpolation"]
    assert list(table.columns)[:9] == timm
    assert table["img_size"].tolist() == [32] * 5
    board = tables.leaderboard(evil)
    assert table["top1"].tolist() == pytest.approx((100 * board["top1"]).tolist(), abs=5e-4)
    assert (table["top1"] + table["top1_err"]).tolist() == pytest.approx([100] * 5)
    assert table["difference"].tolist() == pytest.approx((100 * board["difference"]).tolist(), abs=5e-4, nan_ok=True)
    first = next(csv.DictReader(io.StringIO(text)))
    assert re.fullmatch(r"\d+\.\d{3}", first["top1"])
    assert re.fullmatch(r"\d+\.\d{2}", first["param_count"])


def test_no_cell_of_the_csv_is_a_formula(evil: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(paper.leaderboard_csv(evil))))
    names = [row["arm"] for row in rows]
    assert {"'=1+1", "'--[*]~^#&%{}\\", EVIL[2]} <= set(names)
    for row in rows:
        for cell in row.values():
            assert not cell.startswith(("=", "+", "@", "\t", "\r"))
            assert not cell.startswith("-") or float(cell) < 0


def test_the_summary_is_valid_json_and_complete(evil: Comparison) -> None:
    summary = json.loads(json.dumps(paper.overall_summary(evil), allow_nan=False))
    assert set(summary) == {"none", *EVIL}
    for name, entry in summary.items():
        score = evil.arm(name)
        assert score.mean is not None
        assert entry["final_accuracy"] == score.mean.estimate
        assert {int(seed): run["top1"] for seed, run in entry["seeds"].items()} == dict(score.top1)
        assert (entry["params_m"], entry["macs_g"], entry["training_s"]) == (score.params_m, score.macs_g, 101.0)
    assert summary["none"]["difference"] is None
