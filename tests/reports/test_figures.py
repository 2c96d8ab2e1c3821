import io
import itertools
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from bakeoff.errors import DataError, StorageError
from bakeoff.reports.figures import confusion_matrix, render, save, training_curves

CHINESE = ("限速5公里", "禁止直行和左转", "停车让行", "无人看守铁路道口", "$x_1$", "<img src=x>", "مرحبا", "\udcff")


def rows(n: int, *, val: bool = True) -> list[dict[str, Any]]:
    made = []
    for epoch in range(1, n + 1):
        row = {"epoch": epoch, "step": 10 * epoch, "lr": 0.1 / epoch, "train/loss": 4 / epoch, "seconds": 1.0}
        if val:
            top1 = max(0.6 - 0.01 * abs(epoch - 7), 0.01)
            row |= {"val/loss": 4 / epoch + 0.1, "val/top1": top1, "val/top5": top1 + 0.3}
        made.append(row)
    return made


def shown(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]  # type: ignore[attr-defined]


def boxes(figure: Figure, *, min_size: float = 0) -> dict[Text, Any]:
    """Draw the figure; return the texts that were really drawn (ticks outside their axis are not) and where."""
    drawn: list[Text] = []
    original = Text.draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", lambda self, renderer: (drawn.append(self), original(self, renderer)))
        figure.canvas.draw()
    texts = [text for text in drawn if text.get_text().strip() and text.get_fontsize() >= min_size]
    return {text: text.get_window_extent() for text in texts}


def assert_readable(figure: Figure, *, smallest: float = 7.5) -> None:
    """Check that nothing is cut off and nothing overlaps; of what is 7.5 points (10 pixels at 800) or more."""
    extents = boxes(figure, min_size=smallest)
    assert extents
    for text, box in extents.items():
        assert figure.bbox.x0 <= box.x0, text
        assert box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0, text
        assert box.y1 <= figure.bbox.y1, text
    for (one, a), (other, b) in itertools.combinations(extents.items(), 2):
        if one.get_text() != other.get_text():
            overlap = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert min(overlap) <= 3 * figure.dpi / 100, (one, other)


def line_data(figure: Figure, panel: int, colour_index: int) -> np.ndarray:
    return np.asarray(figure.axes[panel].lines[colour_index].get_ydata(), dtype=float)


def test_curves_show_the_rows() -> None:
    table = rows(20)
    figure = training_curves(table, title="resnet_20/一", num_images=1000)
    np.testing.assert_allclose(line_data(figure, 0, 0), [row["train/loss"] for row in table])
    np.testing.assert_allclose(line_data(figure, 0, 1), [row["val/loss"] for row in table])
    np.testing.assert_allclose(line_data(figure, 1, 0), [100 * row["val/top5"] for row in table])
    np.testing.assert_allclose(line_data(figure, 1, 1), [100 * row["val/top1"] for row in table])
    np.testing.assert_allclose(line_data(figure, 2, 0), [row["lr"] for row in table])
    texts = shown(figure)
    assert "resnet_20/一" in texts
    assert "best epoch 7: 60.0 %" in texts
    assert "top-1 47.0" in texts
    assert "Validation top-1 47.0 % after epoch 20 (95 % interval 43.9 to 50.1, n = 1,000)" in texts


@pytest.mark.parametrize("n", [1, 2, 7, 300])
@pytest.mark.parametrize("val", [True, False])
def test_curves_of_any_length_are_readable(n: int, val: bool) -> None:
    figure = training_curves(rows(n, val=val), title="a_run_" * 30, num_images=5000)
    assert_readable(figure)
    assert Image.open(io.BytesIO(render(figure))).width == 1600


def test_without_validation_the_panel_says_so() -> None:
    figure = training_curves(rows(5, val=False))
    assert "not measured" in shown(figure)
    assert not any("best" in text for text in shown(figure))


def test_a_number_that_is_none_is_a_gap() -> None:
    table = rows(9)
    table[3]["train/loss"], table[4]["train/loss"], table[5]["train/loss"] = None, math.nan, math.inf
    table[6]["val/top1"] = math.nan  # the best one, were it not for this
    figure = training_curves(table)
    assert np.isnan(line_data(figure, 0, 0)).tolist() == [False] * 3 + [True] * 3 + [False] * 3
    assert any("best epoch 6:" in text for text in shown(figure))
    render(figure)


def test_a_run_that_was_never_finite_is_drawn() -> None:
    figure = training_curves([{"epoch": 1, "lr": 0.1, "train/loss": None, "val/top1": None, "val/top5": None}])
    assert shown(figure).count("not measured") == 2
    render(figure)


def test_validation_every_other_epoch_is_one_line() -> None:
    table = [row if i % 2 else {k: v for k, v in row.items() if "val" not in k} for i, row in enumerate(rows(10))]
    assert np.isfinite(line_data(training_curves(table), 1, 1)).all()


def test_an_axis_that_does_not_start_at_zero_says_so() -> None:
    high = [row | {"val/top1": 0.9 + row["epoch"] / 100, "val/top5": 1.0} for row in rows(5)]
    titles = [axes.get_title(loc="left") for axes in training_curves(high).axes]
    starts = [axes.get_ylim()[0] for axes in training_curves(high).axes]
    assert [("not at 0" in title) for title in titles] == [start != 0 for start in starts] == [False, True, False]


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        training_curves([])


def test_a_confusion_matrix_groups_classes_and_shares_rows() -> None:
    matrix = np.array([[6, 0, 2], [0, 0, 0], [1, 3, 4]])
    figure = confusion_matrix(matrix, ("a", "b", "c"), superclasses=("x", "y"), superclass_of=(1, 0, 1))
    image = figure.axes[0].images[0].get_array()
    expected = np.array([[np.nan, np.nan, np.nan], [0, 0.75, 0.25], [3 / 8, 1 / 8, 4 / 8]])
    np.testing.assert_allclose(np.ma.filled(image, np.nan), expected)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["b", "a", "c"]
    texts = shown(figure)
    listed = [text for text in texts if "→" in text and "Most" not in text]
    assert listed == ["c → b", "a → c", "c → a"]
    assert [text for text in texts if re.fullmatch(r"\d+ of \d+", text)] == ["3 of 8", "2 of 8", "1 of 8"]
    assert any("10 of 16 right, 62.5 %" in text and "1 without images" in text for text in texts)


@pytest.mark.parametrize("num_classes", [1, 2, 10, 20, 100])
def test_a_confusion_matrix_of_any_size_is_readable(num_classes: int) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.poisson(0.3, (num_classes, num_classes)) + 90 * np.eye(num_classes, dtype=int)
    names = [f"rather_long_name_of_class_{c}" for c in range(num_classes)]
    parents = [c % 20 for c in range(num_classes)]
    groups = [f"large_omnivores_and_herbivore_{p}" for p in range(20)] if num_classes == 100 else []
    figure = confusion_matrix(matrix, names, superclasses=groups, superclass_of=parents if groups else ())
    assert_readable(figure)
    names_px = figure.axes[0].get_yticklabels()[0].get_fontsize() / 72 * figure.dpi
    assert names_px >= 12
    if num_classes <= 20:
        assert_readable(figure, smallest=0)


def test_names_in_any_script_are_drawn_without_a_warning(tmp_path: Path) -> None:
    matrix = 5 * np.eye(8, dtype=int) + np.arange(64).reshape(8, 8) % 3
    figure = confusion_matrix(matrix, CHINESE, title="交通标志 $x")
    assert_readable(figure)
    assert set(CHINESE[:7]) <= set(shown(figure))
    save(figure, tmp_path / "matrix.png")
    with Image.open(tmp_path / "matrix.png") as image:
        assert "无人看守铁路道口" in image.info["Description"] or "限速5公里" in image.info["Description"]


def test_another_name_gives_another_picture() -> None:
    one, other = (render(confusion_matrix(np.eye(2, dtype=int), ("停", name))) for name in "左右")
    pictures = [np.asarray(Image.open(io.BytesIO(data))) for data in (one, other)]
    assert pictures[0].shape == pictures[1].shape
    assert (pictures[0] != pictures[1]).any()


def test_a_file_has_the_same_bytes_whenever_and_under_whatever_settings(tmp_path: Path) -> None:
    save(training_curves(rows(5), title="run"), tmp_path / "new" / "one.png")
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "savefig.bbox": "tight", "savefig.dpi": 10}):
        save(training_curves(rows(5), title="run"), tmp_path / "other.png")
    assert dict(mpl.rcParams) == before
    assert (tmp_path / "new" / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    with Image.open(tmp_path / "other.png") as image:
        assert set(image.info) == {"Description", "dpi"}
        assert image.info["Description"].startswith("Training curves of run, 5 epochs. Validation top-1 58.0 %")


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match=r"curves\.png"):
        save(training_curves(rows(2)), tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []


def test_drawing_needs_no_torch_and_no_window() -> None:
    code = "import sys, bakeoff.reports.figures; print([m for m in sys.modules if m in ('torch', 'matplotlib.pyplot')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
