"""The picture of the zoo: every network is in it, once, and every letter can be read."""

import itertools
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from bakeoff import catalogue
from bakeoff.reports.figures import Point, render, zoo

COUNTED = "one 3x32x32 picture, 100 classes"


def the_zoo() -> list[Point]:
    return [
        Point(name=name, family=model.family, params=catalogue.costs()[name].params, macs=catalogue.costs()[name].macs)
        for name, model in catalogue.MODELS.items()
    ]


def point(name: str, params: float, macs: float, family: str = "modern") -> Point:
    return Point(name=name, family=family, params=int(params), macs=int(macs))


def texts(figure: Figure) -> dict[str, Any]:
    """Draw the figure; return what is written in it and where, without the arrows of annotations."""
    drawn: list[Text] = []
    original = Text.draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", lambda self, renderer: (drawn.append(self), original(self, renderer)))
        figure.canvas.draw()
    return {t.get_text(): Text.get_window_extent(t) for t in drawn if t.get_visible() and t.get_text().strip()}


def middles(figure: Figure) -> np.ndarray:
    (axes,) = figure.axes
    return np.vstack([axes.transData.transform(dots.get_offsets()) for dots in axes.collections])


def test_every_network_of_the_catalogue_is_a_point_and_is_named() -> None:
    figure = zoo(the_zoo(), counted=COUNTED)
    dots = np.vstack([dots.get_offsets() for dots in figure.axes[0].collections])
    expected = sorted((costs.macs / 1e6, costs.params / 1e6) for costs in catalogue.costs().values())
    np.testing.assert_allclose(sorted(map(tuple, dots.tolist())), expected)
    written = " ".join(texts(figure)).replace(",", " ").replace(".", " ").replace(":", " ").split()
    assert not [name for name in catalogue.MODELS if written.count(name) < 1]
    assert all(name in figure.get_label() for name in catalogue.MODELS)


def test_every_label_can_be_read_at_800_pixels() -> None:
    figure = zoo(the_zoo(), counted=COUNTED)
    found = texts(figure)
    px = figure.bbox.width / 800
    for text, box in found.items():
        assert figure.bbox.x0 <= box.x0, text
        assert box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0, text
        assert box.y1 <= figure.bbox.y1, text
        assert box.height >= 8 * px, text
    for (one, a), (other, b) in itertools.combinations(found.items(), 2):
        assert min(a.x1, b.x1) - max(a.x0, b.x0) <= 0 or min(a.y1, b.y1) - max(a.y0, b.y0) <= 2 * px, (one, other)
    labels = [box for text, box in found.items() if text.partition(" ")[0] in catalogue.MODELS and ":" not in text]
    assert len(labels) > 30
    for box, (x, y) in itertools.product(labels, middles(figure)):
        assert not (box.x0 < x < box.x1 and box.y0 < y < box.y1)


def test_networks_that_would_cover_each_other_share_a_label_and_are_listed() -> None:
    points = [point("one", 1e6, 1e8), point("two", 1.02e6, 0.99e8), point("far", 9e6, 1e9)]
    found = texts(zoo([*points, point("else", 1e6, 1e8, family="small_convnet")], counted=COUNTED))
    assert {"one (+1)", "one (+1): two.", "far", "else"} <= set(found)  # another family has another colour
    assert "two" not in found
    assert not [text for text in texts(zoo(points[::2], counted=COUNTED)) if "Within" in text]


def test_what_it_was_counted_for_stands_in_the_picture_and_its_text() -> None:
    figure = zoo([point("one", 1.5e6, 2e9), point("two", 1e6, 1e8)], counted="a picture of 8 px")
    assert "a picture of 8 px" in " ".join(texts(figure))
    assert figure.get_label().endswith("for a picture of 8 px: one 1.50 M, 2,000 M; two 1.00 M, 100 M")


def test_the_same_zoo_gives_the_same_picture() -> None:
    points = the_zoo()[:12]
    assert render(zoo(points, counted=COUNTED)) == render(zoo(points, counted=COUNTED))


def test_a_crowd_without_room_is_drawn_all_the_same() -> None:
    crowd = [point(f"a_rather_long_name_of_a_network_{i}", 1e6 * 1.06**i, 1e8 * 1.06**i) for i in range(60)]
    assert len([t for t in texts(zoo(crowd, counted=COUNTED)) if t.startswith("a_rather")]) == 60
