"""The pictures of a study: every arm, every interval, every letter readable, whatever the arms are called."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from bakeoff.errors import DataError
from bakeoff.reports import tables
from bakeoff.reports.canvas import ARMS as COLOURS
from bakeoff.reports.canvas import GREY, render
from bakeoff.reports.study_figures import (
    ablation_analysis,
    accuracy_by_setting,
    accuracy_comparison,
    architecture_comparison,
    colours,
    drawn,
    efficiency_analysis,
)
from bakeoff.reports.tradeoffs import Point, front
from bakeoff.results.comparison import Comparison
from tests.reports.studies import ARMS, compared, every, exactly, priced
from tests.reports.test_figures import shown

DRAW = (accuracy_comparison, ablation_analysis, architecture_comparison, efficiency_analysis)


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    references = [{"arm": "none", "top1": 0.688, "source": "He et al., 2016 <b>"}]
    study = {"contrasts": [["fixed_k3", "fixed_k5"]], "references": references}
    return priced(compared(tmp_path_factory.mktemp("five"), study=study, top1={"fixed_k5": 0.7}, images=300))


def many(root: Path, count: int, *, name: str = "arm {}", seeds: int = 3) -> Comparison:
    rng = np.random.default_rng(0)
    arms = {name.format(i): (0.5 + i / 200 + rng.normal(0, 0.004, seeds)).tolist() for i in range(count - 1)}
    return priced(exactly(root, {"none": [0.5, 0.51, 0.505][:seeds], **arms}, question=f"{count} 个 arms?"))


def where(figure: Figure) -> dict[Text, Any]:
    """Draw the figure; return the texts that were really drawn, and where: an annotation without its line."""
    found: list[Text] = []
    original = Text.draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", lambda self, renderer: (found.append(self), original(self, renderer)))
        figure.canvas.draw()
    return {text: Text.get_window_extent(text) for text in found if text.get_text().strip()}


def assert_readable(figure: Figure) -> None:
    extents = where(figure)
    pixel = figure.bbox.width / 800
    for text, box in extents.items():
        assert figure.bbox.x0 <= box.x0, text
        assert box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0, text
        assert box.y1 <= figure.bbox.y1, text
        assert text.get_fontsize() >= 7.5, text
    for (one, a), (other, b) in itertools.combinations(extents.items(), 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(across, down) <= 3 * pixel, (one, other)


@pytest.mark.parametrize("draw", DRAW)
def test_five_arms_are_readable_and_named_in_the_alt_text(five: Comparison, draw: Any) -> None:
    figure = draw(five)
    assert_readable(figure)
    label = figure.get_label()
    assert len(label) > 60
    assert "fixed_k5" in label
    if draw in (accuracy_comparison, architecture_comparison):
        assert all(name in label for name in ARMS)


@pytest.mark.parametrize(
    "name", ["a_rather_long_name_$x_1$_of_an_arm_that_goes_on_and_on_{}", "注意力模块很长的名字核大小不同 {}", "<b> {}"]
)
def test_names_of_any_length_and_script_are_readable(tmp_path: Path, name: str) -> None:
    comparison = many(tmp_path, 6, name=name)
    for draw in DRAW:
        assert_readable(draw(comparison))


def test_sixty_arms_are_all_there(tmp_path: Path) -> None:
    comparison = many(tmp_path, 60, seeds=1)
    figure = accuracy_comparison(comparison)
    assert {"none", *(f"arm {i}" for i in range(59))} <= set(shown(figure))
    assert figure.get_figheight() < 20
    assert_readable(figure)
    assert_readable(efficiency_analysis(comparison))


def test_every_mean_and_every_interval_is_where_it_belongs(five: Comparison) -> None:
    (axes,) = accuracy_comparison(five).axes
    lines = [(line.get_xdata(), line.get_ydata()) for line in axes.lines]
    for y, row in enumerate(tables.leaderboard(five).to_dict("records")):
        own = [np.asarray(x, dtype=float) for x, at in lines if np.all(np.asarray(at) == y)]
        assert any(np.allclose(x, [100 * row["top1_low"], 100 * row["top1_high"]]) for x in own if len(x) == 2)
        assert any(np.allclose(x, 100 * row["top1"]) for x in own if len(x) == 1)


def test_numbers_of_others_are_hollow_and_have_their_source(five: Comparison) -> None:
    figure = accuracy_comparison(five)
    hollow = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert [float(line.get_xdata()[0]) for line in hollow] == [pytest.approx(68.8)]
    assert "◇ none, 68.8 % by others: He et al., 2016 <b>" in shown(figure)


def test_only_what_is_beyond_noise_is_filled(tmp_path: Path) -> None:
    top1 = {"none": [0.60, 0.61, 0.605], "sure": [0.70, 0.711, 0.704], "unsure": [0.61, 0.60, 0.607]}
    comparison = exactly(tmp_path, top1)
    (axes,) = ablation_analysis(comparison).axes
    marks = {int(line.get_ydata()[0]): line for line in axes.lines if line.get_marker() == "o"}
    assert marks[0].get_markerfacecolor() == marks[0].get_markeredgecolor()
    assert marks[1].get_markerfacecolor() == "white"


def test_arms_without_a_difference_are_named_and_one_pair_has_its_n(tmp_path: Path) -> None:
    comparison = compared(tmp_path, diverged=every(["fixed_k3"], 3), missing=[("adaptive", 1), ("adaptive", 2)])
    figure = ablation_analysis(comparison)
    assert "No seed finished in common with none, so not shown: fixed_k3." in shown(figure)
    assert sum("(n = 1, no interval)" in text for text in shown(figure)) == 1
    assert_readable(figure)


def test_the_band_of_noise_is_that_of_two_runs(five: Comparison) -> None:
    assert five.floor is not None
    noise = 100 * math.sqrt(2) * five.floor.sd
    (axes,) = ablation_analysis(five).axes
    (band,) = axes.patches
    assert band.get_extents().transformed(axes.transData.inverted()).x1 == pytest.approx(noise)
    assert any(f"±{noise:.2f} points" in text for text in shown(axes.figure))
    assert any(f"±{1.96 * noise:.2f}" in text for text in shown(axes.figure)), "not cut"


def test_an_axis_that_does_not_start_at_zero_says_so(five: Comparison, tmp_path: Path) -> None:
    assert any("not at 0" in text for text in shown(accuracy_comparison(five)))
    low = exactly(tmp_path, {"none": [0.05, 0.06, 0.04], "a": [0.5, 0.52, 0.49]})
    figure = accuracy_comparison(low)
    assert not any("not at 0" in text for text in shown(figure))
    assert figure.axes[0].get_xlim()[0] <= 0


def test_one_seed_has_a_point_and_no_line(tmp_path: Path) -> None:
    comparison = priced(exactly(tmp_path, {"none": [0.5], "a": [0.6]}))
    for draw in DRAW:
        assert_readable(draw(comparison))
    assert {len(line.get_xdata()) for line in accuracy_comparison(comparison).axes[0].lines} == {1}


def test_diverged_and_missing_arms_keep_their_row(tmp_path: Path) -> None:
    comparison = compared(tmp_path, diverged=[*every(["fixed_k3"], 3), ("none", 0)], missing=every(["adaptive"], 3))
    figure = accuracy_comparison(comparison)
    texts = shown(figure)
    assert {*ARMS, "no finished run, 3 diverged", "no finished run"} <= set(texts)
    assert any(text.endswith("(n = 2), 1 diverged") for text in texts)
    assert_readable(figure)
    assert_readable(architecture_comparison(comparison))


def test_nothing_to_show_is_an_error_for_each_and_no_figure_for_all(tmp_path: Path) -> None:
    comparison = compared(tmp_path, missing=every(ARMS, 3))
    for draw in (*DRAW, accuracy_by_setting):
        with pytest.raises(DataError):
            draw(comparison)
    assert drawn(comparison) == {}


def test_an_arm_has_one_colour_and_the_control_is_grey(five: Comparison) -> None:
    own = colours(five)
    assert own["none"] == GREY
    assert [own[name] for name in ARMS[1:]] == list(COLOURS[:4])


def test_a_numeric_axis_is_drawn_in_its_order(tmp_path: Path) -> None:
    study = {"arms": {}, "axes": {"optimizer.lr": [0.3, 0.001, 0.02]}, "changes": ["optimizer.lr"]}
    lost = [("lr=0.3", 0)]
    comparison = compared(tmp_path, study=study, top1={"lr=0.001": 0.3, "lr=0.02": 0.5}, images=100, diverged=lost)
    figure = drawn(comparison)["accuracy_by_setting"]
    (axes,) = figure.axes
    line = next(line for line in axes.lines if len(line.get_xdata()) == 3)
    assert list(line.get_xdata()) == [0.001, 0.02, 0.3]
    means = {score.arm.at.get("optimizer.lr"): score.mean for score in comparison.arms}
    assert list(line.get_ydata()) == [pytest.approx(100 * means[lr].estimate) for lr in line.get_xdata()]
    assert axes.get_xscale() == "log"
    assert "Runs that diverged are not shown: lr=0.3 (1)." in shown(figure)
    assert_readable(figure)


def test_arms_that_are_no_axis_have_no_such_figure(five: Comparison) -> None:
    assert set(drawn(five)) == {
        *("accuracy_comparison", "ablation_analysis", "efficiency_analysis", "architecture_comparison")
    }
    with pytest.raises(DataError):
        accuracy_by_setting(five)


def test_a_cost_in_which_arms_are_alike_has_no_panel(five: Comparison, tmp_path: Path) -> None:
    labels = [axes.get_xlabel() for axes in efficiency_analysis(five).axes]
    assert [label.partition(",")[0] for label in labels] == ["parameters", "training time"]
    alike = exactly(tmp_path, {"none": [0.5], "a": [0.6]})
    assert "efficiency_analysis" not in drawn(alike)


def test_numbers_of_others_on_test_do_not_stand_beside_validation(tmp_path: Path) -> None:
    references = [{"arm": "none", "top1": 0.9, "source": "others"}]
    figure = accuracy_comparison(compared(tmp_path, study={"references": references}, test=False, images=50))
    assert not [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert not any("◇" in text for text in shown(figure))


def test_the_front_is_what_none_beats() -> None:
    places = [(1, 50), (2, 49), (2, 60), (3, 60), (4, 70), (1, 40)]
    points = [Point(name=f"{x} {y}", colour="", x=x, y=y, low=y, high=y) for x, y in places]
    assert [point.name for point in front(points)] == ["1 50", "2 60", "4 70"]
    for point in points:
        beaten = any(o.x <= point.x and o.y >= point.y and (o.x, o.y) != (point.x, point.y) for o in points)
        assert (point in front(points)) != beaten


def test_the_same_comparison_gives_the_same_bytes(five: Comparison) -> None:
    assert render(ablation_analysis(five)) == render(ablation_analysis(five))
