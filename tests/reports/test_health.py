"""The page of an examined data set: escaped, self-contained, small, and quiet in a browser."""

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bakeoff.reports import health
from tests.reports import browser

EVIL = "<img src=x onerror=alert(1)>\"'&"


def shot(seed: int) -> health.Shot:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
    return health.Shot(name=f"{EVIL}{seed}.png", about=f"train: {EVIL}", media="image/png", content=buffer.getvalue())


def content(num_cases: int = 3) -> health.Health:
    cases = tuple(health.Case(note=EVIL, shots=(shot(2 * i), shot(2 * i + 1)), more=i) for i in range(num_cases))
    unreadable = health.Case(note="no bytes", shots=(health.Shot(name="gone.png", about="train: a"),))
    section = {"title": f"found {EVIL}", "meaning": EVIL, "advice": EVIL, "num_pictures": 1234}
    return health.Health(
        name=f"folder:{EVIL}",
        sections=(
            health.Section(kind="copies", severity="error", cases=cases, more=1234, **section),
            health.Section(kind="broken", severity="warning", cases=(unreadable,), **section),
            health.Section(kind="plain", severity="note", cases=(health.Case(note=EVIL, shots=()),), **section),
        ),
        classes=("a", EVIL),
        counts={"train": (1000, 3), "test": (5, 0)},
        following=(f"bakeoff train {EVIL}",),
    )


def test_names_are_only_names() -> None:
    page = health.html(content())
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert page.count("<script") == 0


def test_every_picture_is_there_and_has_a_text() -> None:
    page = health.html(content(3))
    pictures = re.findall(r'<img class="exact" src="data:image/png;base64,[^"]+" alt="([^"]+)">', page)
    assert len(pictures) == 6
    assert all("train: &lt;img" in text for text in pictures)
    assert "gone.png" in page
    assert "1,234 more are in the output of --json" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


def test_the_same_content_gives_the_same_page() -> None:
    assert health.html(content()) == health.html(content())


def test_half_characters_of_names_do_not_stop_it() -> None:
    assert "?" in health.html(dataclasses.replace(content(), name="\udcff"))


@pytest.mark.parametrize(
    ("severities", "said"),
    [
        (("error", "error", "warning"), "2 things to mend"),
        (("warning", "note"), "Nothing is plainly wrong; one thing to look at."),
        (("note",), "Nothing was found that is wrong."),
        ((), "Nothing was found that is wrong."),
    ],
)
def test_the_answer(severities: tuple[str, ...], said: str) -> None:
    assert health.answer(severities).startswith(said)


def test_a_set_without_findings_has_a_page() -> None:
    page = health.html(dataclasses.replace(content(), sections=(), following=()))
    assert "Nothing was found that is wrong." in page
    assert "1,000" in page


def test_a_full_page_is_small() -> None:
    assert health.MOST_ON_PAGE * 6_000 * 4 / 3 < 5e6  # a picture of 72 pixels as JPEG has at most about so many bytes
    assert len(health.html(content(health.MOST_CASES))) < 1e6


@pytest.mark.skipif(browser.installed() is None, reason="needs Chromium")
def test_a_browser_has_nothing_to_complain_of(tmp_path: Path) -> None:
    (tmp_path / "health.html").write_text(health.html(content()))
    with browser.page() as tab:
        tab.open(tmp_path / "health.html", width=360, height=740, phone=True)
        assert tab.complaints == []
        assert tab.value("[...document.images].every(image => image.naturalWidth === 32)")
        assert tab.value("document.documentElement.scrollWidth <= 360")
