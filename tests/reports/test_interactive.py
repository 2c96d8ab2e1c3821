import base64
import dataclasses
import html
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakeoff.reports import interactive
from bakeoff.reports.canvas import GREY
from bakeoff.reports.interactive import Picture
from bakeoff.reports.interactive.arms import looks, ranked
from bakeoff.reports.interactive.costs import costs, front
from bakeoff.reports.interactive.style import safe
from bakeoff.reports.words import in_language
from bakeoff.results import metrics, predictions
from bakeoff.results.comparison import Comparison, compare
from bakeoff.results.store import Run
from tests import made
from tests.reports import browser
from tests.reports.studies import exactly, priced

WORDS = in_language("en")
IMAGE = "<img src=x onerror=alert(1)>"
HOSTILE = ("<b>x</b> & $a$ $b$", IMAGE, "%{x} &lt;", "三号", "a | b\n  c", "=1+1")


def numbers(values: Any) -> Any:
    """Return what plotly.js makes of an array."""
    if not isinstance(values, dict):
        return values
    array = np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"])
    shape = [int(side) for side in str(values["shape"]).split(",")] if "shape" in values else [-1]
    return array.reshape(shape)


def by_id(pictures: tuple[Picture, ...]) -> dict[str, Picture]:
    return {picture.id: picture for picture in pictures}


def texts(content: Any) -> Iterator[str]:
    """Yield every text of a figure but those that plotly never shows."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list | dict):
        for part in content.values() if isinstance(content, dict) else content:
            yield from texts(part)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Return five arms of three seeds, of which one is far better and one far worse than the control."""
    study = made.study(references=[{"arm": "fixed_k3", "top1": 0.62, "source": "A table of others"}])
    top1 = {"none": 0.6, "fixed_k3": 0.61, "fixed_k5": 0.8, "fixed_k7": 0.4, "adaptive": 0.59}
    return compare(study, made.runs(study, tmp_path_factory.mktemp("runs"), top1=top1))


@pytest.fixture(scope="module")
def pictures(comparison: Comparison) -> dict[str, Picture]:
    return by_id(interactive.figures(comparison, words=WORDS))


def test_pictures_come_in_the_order_of_a_page(pictures: dict[str, Picture]) -> None:
    assert list(pictures) == ["accuracy", "difference", "curves", "confusion", "reliability", "recall"]
    for picture in pictures.values():
        assert picture.title
        assert picture.alt
        assert picture.note


def test_a_figure_is_plain_json_and_takes_its_colours_from_no_template(pictures: dict[str, Picture]) -> None:
    for picture in pictures.values():
        json.dumps(picture.figure, allow_nan=False)
        layout = picture.figure["layout"]
        assert "template" not in layout
        assert layout["paper_bgcolor"] == "rgba(0,0,0,0)"
        assert layout["height"] > 100


def test_the_other_language_has_all_words(comparison: Comparison, pictures: dict[str, Picture]) -> None:
    chinese = by_id(interactive.figures(comparison, words=in_language("zh")))
    assert list(chinese) == list(pictures)
    assert all(chinese[key].note != pictures[key].note for key in pictures)


def test_accuracy_shows_every_mean_interval_and_seed(comparison: Comparison, pictures: dict[str, Picture]) -> None:
    seeds, *marks, others = pictures["accuracy"].figure["data"]
    shown = {}
    for mark in marks:
        shown |= dict(zip(mark["y"], zip(mark["x"], mark["error_x"]["array"], strict=True), strict=True))
    for row, score in enumerate(ranked(comparison)):
        assert score.mean is not None
        assert score.mean.high is not None
        assert shown[row][0] == pytest.approx(100 * score.mean.estimate)
        assert sum(shown[row]) == pytest.approx(100 * score.mean.high)
    assert sorted(seeds["x"]) == pytest.approx(sorted(100 * t for s in comparison.arms for t in s.top1.values()))
    assert others["x"] == [62.0]
    assert "A table of others" in others["hovertext"][0]
    axis = pictures["accuracy"].figure["layout"]["xaxis"]
    assert ("starts at" in axis["title"]["text"]) == (axis["range"][0] > 0)


def test_an_interval_of_accuracy_stays_between_nothing_and_all(tmp_path: Path) -> None:
    comparison = exactly(tmp_path, {"none": [0.02, 0.01, 0.05], "a": [0.99, 0.97, 1.0]})
    _, *marks = by_id(interactive.figures(comparison, words=WORDS))["accuracy"].figure["data"]
    assert comparison.control.mean is not None
    assert comparison.control.mean.low is not None
    assert comparison.control.mean.low < 0, "Student's t leaves what can be"
    for mark in marks:
        (x,), error = mark["x"], mark["error_x"]
        assert 0 <= x - error["arrayminus"][0] < x < x + error["array"][0] <= 100


def test_numbers_of_others_on_test_do_not_stand_beside_validation(tmp_path: Path) -> None:
    study = made.study(references=[{"arm": "none", "top1": 0.62, "source": "others"}])
    seen = by_id(interactive.figures(compare(study, made.runs(study, tmp_path, test=False)), words=WORDS))
    assert "others" not in json.dumps(seen["accuracy"].figure)
    assert "validation" in seen["accuracy"].figure["layout"]["xaxis"]["title"]["text"].lower()


def test_a_difference_is_solid_exactly_where_it_is_separable(
    comparison: Comparison, pictures: dict[str, Picture]
) -> None:
    rows = [score for score in ranked(comparison) if score.to_control]
    solid = {}
    for mark in pictures["difference"].figure["data"]:
        solid |= dict(zip(mark["y"], ["-open" not in symbol for symbol in mark["marker"]["symbol"]], strict=True))
    assert solid == {row: score.separable for row, score in enumerate(rows)}
    assert set(solid.values()) == {True, False}
    (band,) = pictures["difference"].figure["layout"]["shapes"]
    assert comparison.floor is not None
    assert band["x1"] == pytest.approx(100 * comparison.floor.sd * math.sqrt(2))


def test_curves_end_with_the_last_epoch_and_a_menu_shows_one_quantity(
    comparison: Comparison, pictures: dict[str, Picture]
) -> None:
    figure = pictures["curves"].figure
    entries = [trace["name"] for trace in figure["data"] if trace.get("showlegend", True)]
    assert sorted(entries) == sorted(score.name for score in comparison.arms)
    means = [t for t in figure["data"] if t.get("hovertemplate") and t["name"] == "none" and t.get("opacity") == 1]
    (accuracy,) = means
    last = [record.rows[-1]["val/top1"] for record in comparison.control.runs.values()]
    assert numbers(accuracy["x"])[-1] == 5
    assert numbers(accuracy["y"])[-1] == pytest.approx(100 * np.mean(last), abs=1e-4)
    assert numbers(accuracy["customdata"]).tolist() == [3] * 5
    for place, button in enumerate(figure["layout"]["updatemenus"][0]["buttons"]):
        traces, axes = button["args"]
        for trace, opacity in zip(figure["data"], traces["opacity"], strict=True):
            own = trace.get("yaxis", "y") == ("y" if place == 0 else f"y{place + 1}")
            assert opacity == float(own or trace.get("showlegend", True))
        assert list(axes.values()).index(True) == place


def test_many_runs_are_bands_of_which_the_best_are_shown(tmp_path: Path) -> None:
    arms = {f"lr {i}": {"lr": 0.001 * (i + 1)} for i in range(21)}
    study = made.study(base={"model": "resnet_20", "epochs": 150}, arms=arms, changes=["optimizer.lr"])
    found = made.runs(study, tmp_path, images=20, classes=2, top1={"lr 9": 0.9})
    curves = by_id(interactive.figures(compare(study, found), words=WORDS))["curves"]
    assert len(json.dumps(curves.figure)) < 200_000
    drawn = [trace for trace in curves.figure["data"] if trace["visible"] is True]
    shown = {trace["name"] for trace in drawn if trace.get("showlegend", True)}
    assert {"none", "lr 9"} < shown
    assert len(shown) == 8
    assert any(trace.get("fill") == "toself" for trace in drawn)
    lines = [trace for trace in drawn if trace.get("hovertemplate")]
    assert all(len(numbers(line["x"])) <= 60 and numbers(line["x"])[-1] == 150 for line in lines)


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=12))
def test_the_front_is_what_no_other_beats(points: list[tuple[int, int]]) -> None:
    price, worth = zip(*points, strict=True)
    chosen = [points[i] for i in front(price, worth)]
    unbeaten = {(c, w) for c, w in points if not any((oc <= c and ow > w) or (oc < c and ow >= w) for oc, ow in points)}
    assert set(chosen) == unbeaten
    assert len(chosen) == len(unbeaten)
    assert chosen == sorted(chosen)


def test_costs_are_offered_where_arms_differ_in_them(comparison: Comparison) -> None:
    picture = costs(priced(comparison), words=WORDS)
    assert picture is not None
    layout = picture.figure["layout"]
    assert len(layout["updatemenus"][0]["buttons"]) == 2  # multiply-adds are the same
    assert layout["xaxis"]["type"] == "log"
    assert layout["updatemenus"][0]["buttons"][1]["args"][1]["xaxis"]["type"] == "linear"
    assert picture.alt.endswith("none; fixed_k3; fixed_k5.")
    assert costs(comparison, words=WORDS) is None


@pytest.mark.parametrize(("rates", "scale"), [([0.001, 0.01, 0.1], "log"), ([0.05, 0.1, 0.2], "linear")])
def test_a_numeric_axis_is_drawn_in_its_order(tmp_path: Path, rates: list[float], scale: str) -> None:
    study = made.study(base={"model": "resnet_20", "epochs": 5}, arms={}, axes={"lr": rates}, changes=["optimizer.lr"])
    found = made.runs(study, tmp_path, images=50, diverged=[(study.arms[1].name, 0)])
    comparison = compare(study, found)
    picture = by_id(interactive.figures(comparison, words=WORDS))["setting"]
    assert f"diverged are not shown: {study.arms[1].name} (1)." in picture.note
    seeds, means = picture.figure["data"]
    assert means["x"] == rates
    assert sorted(seeds["x"]) == sorted(rate for s in comparison.arms for rate in s.arm.at.values() for _ in s.top1)
    assert picture.figure["layout"]["xaxis"]["type"] == scale


def test_trials_mark_the_chosen_one(tmp_path: Path) -> None:
    tries = {"try": {"weight_decay": [0.0005, 0.001]}}
    base, slow = {"model": "resnet_20", "epochs": 5, **tries}, {"lr": 0.01, **tries}
    study = made.study(base=base, arms={"slow": slow}, changes=["optimizer.lr"])
    comparison = compare(study, made.runs(study, tmp_path, images=100))
    picture = by_id(interactive.figures(comparison, words=WORDS))["trials"]
    names = picture.figure["layout"]["yaxis"]["ticktext"]
    for score in comparison.arms:
        for trial in score.trials:
            place = names.index(f"<b>{score.name}</b>") + 1 + score.trials.index(trial)
            (trace,) = [trace for trace in picture.figure["data"] if trace["y"][0] == place]
            assert names[place].strip() == trial.name
            assert trace["x"][-1] == pytest.approx(100 * np.mean(list(trial.val_top1.values())))
            assert ("-open" in trace["marker"]["symbol"][-1]) != trial.chosen


def test_the_confusion_matrix_is_the_sum_over_seeds(comparison: Comparison, pictures: dict[str, Picture]) -> None:
    figure = pictures["confusion"].figure
    runs = [predictions.read(Run(r.folder).predictions("test")) for r in comparison.arm("fixed_k5").runs.values()]
    expected = sum(metrics.confusion_matrix(run) for run in runs)
    cells = numbers(figure["data"][0]["customdata"])
    np.testing.assert_array_equal(cells[..., 0], expected)
    np.testing.assert_allclose(cells[..., 1], 100 * expected / expected.sum(axis=1, keepdims=True), rtol=1e-6)
    labels = [button["label"] for button in figure["layout"]["updatemenus"][0]["buttons"]]
    assert labels == [f"{arm}, {kind}" for arm in ("fixed_k5", "none") for kind in ("classes", "superclasses")]
    supers = numbers(figure["data"][1]["customdata"])
    assert supers.shape == (2, 2, 2)
    assert supers[..., 0].sum() == expected.sum()
    true, called, n = metrics.top_confusions(expected, 1)[0]
    assert f"class {true} called class {called} ({100 * n / expected[true].sum():.1f} %)" in pictures["confusion"].note


def test_reliability_tells_the_error_that_runs_report(comparison: Comparison, pictures: dict[str, Picture]) -> None:
    traces = pictures["reliability"].figure["data"]
    names = [trace["name"] for trace in traces if trace.get("name")]
    assert len(names) == 5
    for score in comparison.arms:
        error = np.mean([record.summary["test"]["ece"] for record in score.runs.values()])
        assert any(name.startswith(score.name) and name.endswith(f"{100 * error:.1f} %") for name in names)
    assert [trace["visible"] for trace in traces if trace.get("name")][:2] == [True, True]


def test_recall_is_sorted_by_what_is_gained(comparison: Comparison, pictures: dict[str, Picture]) -> None:
    _, control, best = pictures["recall"].figure["data"]
    gains = numbers(best["x"]) - numbers(control["x"])
    assert (np.diff(gains) <= 1e-4).all()
    assert gains.mean() == pytest.approx(20, abs=3)
    assert control["marker"]["color"] == GREY
    assert (best["name"], control["name"]) == ("fixed_k5", "none")


def test_runs_without_predictions_are_left_out_and_named(tmp_path: Path) -> None:
    study = made.study()
    comparison = compare(study, made.runs(study, tmp_path))
    missing, damaged, *_ = comparison.control.runs.values()
    Run(missing.folder).predictions("test").unlink()
    Run(damaged.folder).predictions("test").write_bytes(b"no Parquet")
    seen = by_id(interactive.figures(comparison, words=WORDS))
    for key in ("confusion", "reliability", "recall"):
        assert missing.name in seen[key].note
        assert damaged.name in seen[key].note
    for score in comparison.arms:
        for record in score.runs.values():
            Run(record.folder).predictions("test").unlink(missing_ok=True)
    assert "accuracy" in by_id(left := interactive.figures(comparison, words=WORDS))
    assert not {"confusion", "reliability", "recall"} & set(by_id(left))


def test_a_study_that_has_hardly_begun_shows_what_there_is(tmp_path: Path) -> None:
    study = made.study()
    assert interactive.figures(compare(study, {}), words=WORDS) == ()
    every = [(arm.name, seed) for arm in study.arms for seed in study.seeds]
    half = compare(study, made.runs(study, tmp_path / "half", half=every))
    assert list(by_id(interactive.figures(half, words=WORDS))) == ["curves"]
    without = [run for run in every if run[0] == "none"] + every[-1:]
    ragged = compare(study, made.runs(study, tmp_path / "ragged", missing=without[:2], diverged=without[2:]))
    assert list(by_id(interactive.figures(ragged, words=WORDS))) == ["accuracy", "curves", "confusion", "reliability"]


def test_losses_that_are_no_numbers_are_gaps(tmp_path: Path) -> None:
    study = made.study(seeds=1)
    found = made.runs(study, tmp_path)
    odd = {"val/loss": math.inf, "train/loss": 1e300, "val/top1": None, "lr": math.nan}
    rows = {key: ({"epoch": 1, **odd}, *record.rows[1:]) for key, record in found.items()}
    found = {key: dataclasses.replace(record, rows=rows[key]) for key, record in found.items()}
    figure = by_id(interactive.figures(compare(study, found), words=WORDS))["curves"].figure
    lines = [numbers(trace["x"]) for trace in figure["data"] if trace.get("hovertemplate")]
    assert len(lines) == 4 * 5
    assert all(line.tolist() == [2, 3, 4, 5] for line in lines)


def test_an_arm_looks_the_same_everywhere_and_the_eighth_like_no_other() -> None:
    arms = {f"arm {i}": {"lr": 0.01 * (i + 1)} for i in range(16)}
    study = made.study(arms=arms, changes=["optimizer.lr"])
    given = looks(compare(study, {}))
    assert given["none"].colour == GREY
    assert len(set(given.values())) == 17
    assert len({given[f"arm {i}"].colour for i in range(7)}) == 7
    assert given["arm 7"].colour == given["arm 0"].colour
    assert given["arm 7"].dash != given["arm 0"].dash


@given(st.text(max_size=30))
def test_a_name_is_safe_and_can_be_read_back(name: str) -> None:
    written = safe(name)
    assert not set(written) & set("<>$\n")
    assert "%{" not in written
    assert html.unescape(written) == (" ".join(name.split()) or "–")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Picture]:
    arms = {name: {"lr": 0.5 + i / 100} for i, name in enumerate(HOSTILE[1:])}
    tries = {"try": {"weight_decay": [0.0005, 0.001]}}
    study = made.study(
        base={"model": "resnet_20", "epochs": 5, **tries},
        arms={name: {**arm, **tries} for name, arm in arms.items()},
        changes=["optimizer.lr"],
        control=HOSTILE[0],
        references=[{"arm": IMAGE, "top1": 0.6, "source": IMAGE}],
    )
    found = made.runs(study, tmp_path_factory.mktemp("hostile"), names=(*HOSTILE, "same", "same", "same (2)", ""))
    return by_id(interactive.figures(compare(study, found), words=WORDS))


def test_no_name_becomes_markup(hostile: dict[str, Picture]) -> None:
    ours = re.compile(r"</?b>|<br>|<extra></extra>")
    for picture in hostile.values():
        assert not [text for text in texts(picture.figure) if re.search("[<>]|[$]a", ours.sub("", text))]
    categories = hostile["confusion"].figure["data"][0]["x"]
    assert len(set(categories)) == len(categories) == 10


@pytest.mark.skipif(not browser.installed(), reason="needs chromium on PATH")
def test_a_browser_draws_them_without_complaint(
    hostile: dict[str, Picture], pictures: dict[str, Picture], tmp_path: Path
) -> None:
    drawn = [*hostile.values(), *pictures.values()]
    figures = json.dumps([picture.figure for picture in drawn]).replace("</", "<\\/")
    page = tmp_path / "page.html"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><title>kept</title><body><script>{interactive.script()}</script>"
        f"<script>const figures = {figures};</script>",
        encoding="utf-8",
    )
    with browser.page() as tab:
        tab.open(page)
        tab.value(
            "Promise.all(figures.map(({data, layout}) => Plotly.newPlot("
            "document.body.appendChild(document.createElement('div')), data, layout))).then(() => true)"
        )
        plots = "[...document.querySelectorAll('.js-plotly-plot')]"
        assert tab.value(f"{plots}.length") == len(drawn)
        assert tab.value("document.querySelectorAll('img').length") == 0
        shown = tab.value(f"{plots}.map(plot => plot.textContent).join(' ')")
        assert not [name for name in HOSTILE if " ".join(name.split()) not in shown]
        curves = len(hostile) + list(pictures).index("curves")
        for place in range(4):  # a reader switches an arm off, then chooses each quantity
            tab.value(
                f"Plotly.restyle({plots}[{curves}], {{visible: 'legendonly'}}, [0]).then(() => "
                f"Plotly.update({plots}[{curves}], ...figures[{curves}].layout.updatemenus[0].buttons[{place}].args))"
                ".then(() => true)"
            )
            assert tab.value(f"{plots}[{curves}].data[0].visible") == "legendonly"
        assert tab.complaints == []
