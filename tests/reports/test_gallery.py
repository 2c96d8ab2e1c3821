"""The gallery is one file that says what was found, draws it where it was, runs nothing, and works in a browser."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bakeoff.recipe import resolve
from bakeoff.reports import gallery
from bakeoff.results.explanation import Alike, Explained, Explanation, Guess, Heat, Section
from tests.reports import browser
from tests.reports.browser import Page
from tests.reports.test_page import NASTY, Tree

RECIPE = resolve("resnet_20")
CORNER = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 4]], dtype=np.float32)


def colour(level: int, *, channels: int = 3) -> np.ndarray:
    return np.full((8, 8, channels), level, dtype=np.uint8)


def picture(
    *, label: str | None, guess: str, near: tuple[str, ...] = (), heat: np.ndarray = CORNER, name: str = "picture 7"
) -> Explained:
    return Explained(
        name=name,
        pixels=colour(90),
        label=None if label is None else Guess(name=label, probability=0.125),
        guesses=(Guess(name=guess, probability=0.75), Guess(name="eel", probability=0.0625)),
        heats=tuple(Heat(of=of, values=heat) for of in dict.fromkeys((guess, label)) if of is not None),
        nearest=tuple(
            Alike(index=40 + i, label=of, similarity=0.9 - i / 10, pixels=colour(i)) for i, of in enumerate(near)
        ),
    )


def made(*pictures: Explained, pair: tuple[str, str] = ("cat", "dog"), **changes: object) -> str:
    sections = (
        Section(kind="mistakes", num=30, pictures=pictures),
        Section(kind="unsure", num=1000, pictures=pictures),
        Section(kind="pair", num=len(pictures), pictures=pictures, pair=pair),
    )
    whole = {"num_images": 1000, "num_mistakes": 30, "only": None, "layer": "layer3", "sections": sections, **changes}
    return gallery.html(Explanation(**whole), recipe=RECIPE, folder=Path("logs/resnet_20/first"))  # type: ignore[arg-type]


PAGE = made(
    picture(label="cat", guess="dog", near=("dog", "dog"), name="picture 7"),
    picture(label="cat", guess="dog", near=("dog", "cat"), name="picture 8"),
)


def decoded(source: str) -> Image.Image:
    kind, _, content = source.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_the_page_says_what_was_found() -> None:
    tree = Tree(PAGE)
    assert tree.text("h1") == tree.text("title") == ["resnet_20 on cifar100: where it looked"]
    answer = "It is wrong on 30 of 1,000 validation pictures. Of those shown, 1 label should be looked at."
    assert answer in tree.text("p")
    headings = ["The most confident mistakes", "The least certain answers", "cat or dog", "How it was computed"]
    assert tree.text("h2") == headings
    assert "2 of 30 pictures that are wrong, the most certain first." in tree.text("p")
    assert tree.text("span").count("look at the label") == 3  # once in each section
    assert "75.0 %" in tree.text("span")


def test_every_picture_has_words() -> None:
    alts = [image["alt"] for image in Tree(PAGE).of("img")]
    for expected in (
        "picture 7, labelled cat, taken for dog, 75.0 %",
        "what speaks for dog is strongest at the lower right",
        "what speaks for cat is strongest at the lower right",
        "training picture 41, labelled cat, similarity 0.80",
    ):
        assert expected in alts
    below = [image for image in Tree(PAGE).of("img") if not image["alt"]]  # the picture again, under its heat map
    assert len(below) == 3 * 2 * 2


def test_it_is_one_file_without_a_script() -> None:
    tree = Tree(PAGE)
    assert not tree.of("script")
    assert not tree.of("link")
    assert all(image["src"].startswith("data:image/png;base64,") for image in tree.of("img"))
    assert all(link["href"].startswith("#") for link in tree.of("a"))
    (policy,) = (meta["content"] for meta in tree.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script-src ;" in policy


def test_heat_is_drawn_where_it_is() -> None:
    (first, *_) = (image for image in Tree(PAGE).of("img") if image["alt"].startswith("what speaks"))
    drawn = np.asarray(decoded(first["src"]).convert("RGBA")).astype(int)
    hot, cold = drawn[-1, -1], drawn[0, 0]
    np.testing.assert_array_equal(hot[:3], [253, 231, 36])  # viridis's ends, as matplotlib has them
    np.testing.assert_array_equal(cold[:3], [68, 1, 84])
    assert hot[3] > cold[3] > 0
    # even in lightness: the order of places is the same without colour
    grey = drawn[..., :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(np.diagonal(grey)) >= -1).all()


def test_a_map_is_stretched_between_the_middles_of_its_places() -> None:
    """A place of a 3x3 map is a third of the picture: its middle has its value."""
    values = np.zeros((3, 3), dtype=np.float32)
    values[0, 2] = 1
    text = made(picture(label="cat", guess="cat", heat=values))
    (first, *_) = (image for image in Tree(text).of("img") if image["alt"].startswith("what speaks"))
    assert first["alt"].endswith("upper right")
    levels = np.asarray(decoded(first["src"]))
    side = gallery.SIDE_PX
    assert levels[side // 6, 5 * side // 6] >= 245
    assert levels[side // 2, side // 2] <= 5
    assert 100 < levels[side // 6, 2 * side // 3] < 155  # halfway between two middles


def test_no_place_is_said_in_words() -> None:
    text = made(picture(label="cat", guess="dog", heat=np.zeros((3, 3), dtype=np.float32)))
    labels = [element["aria-label"] for element in Tree(text).of("div") if "aria-label" in element]
    assert labels.count("no place speaks for dog") == 3


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_pictures_are_shown_as_they_are(channels: int) -> None:
    pixels = np.arange(64 * channels, dtype=np.uint8).reshape(8, 8, channels)
    found = np.asarray(decoded(gallery._png(gallery._picture(pixels))))
    np.testing.assert_array_equal(found, pixels if channels == 3 else pixels[..., 0])


def test_own_pictures_have_no_label() -> None:
    own = picture(label=None, guess="dog", near=("dog",), name="inbox/a.png")
    section = Section(kind="pictures", num=1, pictures=(own,))
    tree = Tree(made(num_images=1, num_mistakes=None, only="eel", sections=(section,)))
    assert "1 picture: what the network takes them for, and where it would look for eel." in tree.text("p")
    assert tree.text("h2") == ["The pictures", "How it was computed"]
    assert not tree.of("nav")
    assert "inbox/a.png, taken for dog, 75.0 %" in [image["alt"] for image in tree.of("img")]
    assert "look at the label" not in tree.text("span")


def test_a_network_without_maps_has_no_scale() -> None:
    plain = Explained(name="picture 7", pixels=colour(3), label=None, guesses=(Guess(name="dog", probability=1.0),))
    section = Section(kind="pictures", num=1, pictures=(plain,))
    tree = Tree(made(num_images=1, num_mistakes=None, layer=None, sections=(section,), notes=("it has no map",)))
    assert len(tree.of("img")) == 1
    assert "it has no map" in tree.text("li")


def test_nothing_to_show_is_said() -> None:
    tree = Tree(made(num_mistakes=0, sections=()))
    assert "There is no such picture." in tree.text("p")


def nasty() -> str:
    pictures = [
        picture(label=name, guess=NASTY[(i + 1) % len(NASTY)], near=(name, NASTY[0]), name=f"inbox/{name}")
        for i, name in enumerate(NASTY)
    ]
    return made(*pictures, pair=(NASTY[0], NASTY[1]), layer=NASTY[5], only=NASTY[4], notes=(NASTY[2],))


def test_a_name_is_only_a_name() -> None:
    tree = Tree(nasty())
    assert not tree.of("script")
    assert not [attributes for _, attributes in tree.elements if any(key.startswith("on") for key in attributes)]
    shown = tree.text("bdi")
    for name in NASTY:
        assert name in shown


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    if browser.installed() is None:
        pytest.skip("needs chromium on PATH")
    with browser.page() as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_has_nothing_to_complain_of(tab: Page, tmp_path: Path, dark: bool) -> None:
    path = tmp_path / "index.html"
    path.write_text(nasty(), encoding="utf-8")
    tab.open(path, dark=dark)
    assert tab.complaints == []
    assert tab.value("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_a_phone_scrolls_down_only(tab: Page, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(nasty(), encoding="utf-8")
    tab.open(path, width=360, height=740, phone=True)
    assert tab.value("document.documentElement.scrollWidth") <= 360


def test_a_heat_map_lies_on_its_picture(tab: Page, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(PAGE, encoding="utf-8")
    tab.open(path)
    boxes = tab.value(
        "[...document.querySelector('.stack').children].map(e => JSON.stringify(e.getBoundingClientRect()))"
    )
    assert len(boxes) == 2
    assert boxes[0] == boxes[1]
