"""The page is one file that says what the comparison says, runs nothing but its own scripts, and works in a browser."""

import base64
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from bakeoff.reports import page
from bakeoff.reports.words import in_language
from bakeoff.results import studies
from bakeoff.results.comparison import Comparison, compare
from tests import made
from tests.reports import browser
from tests.reports.browser import Page

ENGLISH = in_language("en")
NASTY = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "<!--<script>",
    "{{ 7 * 7 }} %s {0}",
    "' onmouseover='alert(3)",
    '" autofocus onfocus="alert(4)',
    "javascript:alert(5)",
    "注意力 🐱 | $a_b$",
    "\u202eright to left, مرحبا",
    "two\nlines & more",
)
VOID = ("meta", "br", "hr", "input", "img", "link")
TOP1 = {"none": 0.60, "fixed_k3": 0.61, "fixed_k5": 0.70, "fixed_k7": 0.64}


class Tree(HTMLParser):
    """Every element with its attributes, and the text in it; an element that is not closed fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, *tags: str) -> list[str]:
        return [text for tag, text in self.texts if tag in tags]


def nasty(root: Path) -> Comparison:
    """Return a study in which everything that a person names has a name that would like to run."""
    arms = {name: {"optimizer.lr": 0.01 + i / 100} for i, name in enumerate(NASTY[:6])}
    study = made.study(
        question=NASTY[1], control=NASTY[7], arms=arms, changes=["optimizer.lr"],
        references=[{"arm": NASTY[0], "top1": 0.7, "source": f"{NASTY[2]} https://example.org/"}],
        contrasts=[[NASTY[0], NASTY[1]]],
    )  # fmt: skip
    study = dataclasses.replace(study, name=NASTY[0])
    return compare(study, made.runs(study, root, names=NASTY, images=100, half=[(NASTY[3], 1)]))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def comparison(root: Path) -> Comparison:
    study = made.study(question="Does attention help?", seeds=4, typed=["epochs=3"])
    return compare(study, made.runs(study, root, top1=TOP1, spread=0.002, images=1000, classes=60))


@pytest.fixture(scope="module")
def written(comparison: Comparison, root: Path) -> Path:
    path = studies.folder(comparison.study, root=root) / "report.html"
    path.parent.mkdir(parents=True)
    path.write_text(page.html(comparison, words=ENGLISH), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tree(written: Path) -> Tree:
    return Tree(written.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    if browser.installed() is None:
        pytest.skip("needs chromium on PATH")
    with browser.page() as opened:
        yield opened


def test_the_answer_comes_first(tree: Tree) -> None:
    assert tree.text("h1") == tree.text("title") == ["Does attention help?"]
    assert tree.of("html") == [{"lang": "en"}]
    paragraphs = tree.text("p")
    assert paragraphs[1] == "Scaled down: epochs 5 → 3."
    assert re.match(r"\+\d+\.\d\d points on test \(95 % interval .* n = 4\): fixed_k5 beats none", paragraphs[2])


def test_every_part_is_there_and_can_be_reached(tree: Tree) -> None:
    ids = [attributes["id"] for _, attributes in tree.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    inside = {link["href"][1:] for link in tree.of("a") if link["href"].startswith("#")}
    parts = {"pictures", "leaderboard", "differences", "per_class", "confusions", "provenance", "glossary"}
    assert inside == parts | {"answer"}
    assert inside <= set(ids)


def test_every_row_leads_to_its_runs(tree: Tree, written: Path, comparison: Comparison) -> None:
    links = {unquote(link["href"]) for link in tree.of("a") if not link["href"].startswith("#")}
    led_to = {(written.parent / link).resolve() for link in links}
    assert led_to == {record.folder.resolve() for score in comparison.arms for record in score.runs.values()}
    assert all(folder.is_dir() for folder in led_to)


def test_nothing_lies_outside(tree: Tree) -> None:
    loading = {
        "src",
        "srcset",
        "data",
        "action",
        "poster",
        "background",
        "formaction",
        "ping",
        "manifest",
        "xlink:href",
    }
    for tag, attributes in tree.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form"), tag
        assert not loading & attributes.keys(), (tag, attributes)
        assert not [value for value in attributes.values() if re.search(r"https?:|//|javascript:", value)], attributes


def test_the_policy_lets_these_scripts_run_and_no_others(written: Path, tree: Tree) -> None:
    text = written.read_bytes().decode()
    (policy,) = [meta["content"] for meta in tree.of("meta") if "http-equiv" in meta]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    hashes = [[base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in of] for of in (scripts, styles)]
    assert rules["script-src"].split() == [f"'sha256-{hash}'" for hash in reversed(hashes[0])]
    assert rules["style-src"].split()[0] == f"'sha256-{hashes[1][0]}'"
    assert (len(scripts), len(styles)) == (2, 1)
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in rules["script-src"] + rules["style-src"]
    for tag, attributes in tree.elements:
        assert not [key for key in attributes if key.startswith("on") or key == "style"], (tag, attributes)


def test_pictures_have_words_for_those_who_cannot_see_them(written: Path, tree: Tree) -> None:
    plots = [attributes for attributes in tree.of("div") if attributes.get("class") == "plot"]
    assert len(plots) == len(tree.of("figure")) >= 5
    assert all(len(plot["aria-label"]) > 20 and plot["role"] == "img" for plot in plots)
    held = re.findall(r'<script type="application/json">(.*?)</script>', written.read_text("utf-8"), flags=re.DOTALL)
    assert len(held) == len(plots)
    assert all({"data", "layout"} <= json.loads(content).keys() and "<" not in content for content in held)


def test_names_are_only_names(tmp_path: Path) -> None:
    tree = Tree(page.html(nasty(tmp_path), words=ENGLISH))
    assert not tree.of("img")
    assert len([attributes for attributes in tree.of("script") if not attributes]) == 2
    names = {re.sub(r"\s+", " ", text) for text in tree.text("bdi", "h1", "title")}
    assert {re.sub(r"\s+", " ", name) for name in NASTY} <= names
    for _, attributes in tree.elements:
        assert not [key for key in attributes if key.startswith("on") or key == "autofocus"]


def test_the_best_is_marked_only_where_it_is_alone(tree: Tree, tmp_path: Path) -> None:
    kinds = [row.get("class", "") for row in tree.of("tr")]
    assert kinds.count("best") == kinds.count("control") == 1
    study = made.study(seeds=2)
    alike = Tree(page.html(compare(study, made.runs(study, tmp_path, images=50)), words=ENGLISH))
    assert "best" not in [row.get("class") for row in alike.of("tr")]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("case", ["empty", "half", "diverged", "validation only", "one seed"])
def test_any_state_of_a_study_has_a_page(case: str, language: str, tmp_path: Path) -> None:
    arms = [arm.name for arm in made.study().arms]
    runs = [(name, seed) for name in arms for seed in range(3)]
    options = {
        "empty": {"missing": runs},
        "half": {"half": runs[3:], "missing": runs[:1]},
        "diverged": {"diverged": runs[:2]},
        "validation only": {"test": False},
        "one seed": {},
    }[case]
    study = made.study(seeds=1 if case == "one seed" else 3)
    comparison = compare(study, made.runs(study, tmp_path, images=50, **options))  # type: ignore[arg-type]
    words = in_language(language)
    tree = Tree(page.html(comparison, words=words))
    assert tree.of("html") == [{"lang": language}]
    assert words("leaderboard") in tree.text("h2")
    assert set(comparison.warnings) <= set(tree.text("li"))
    assert not [text for tag, text in tree.texts if tag != "script" and re.search(r"\b(nan|None|NaT|<NA>)\b", text)]


def test_the_same_study_gives_the_same_page(comparison: Comparison, written: Path) -> None:
    assert page.html(comparison, words=ENGLISH) == written.read_text("utf-8")


def test_a_browser_has_nothing_to_complain_of(tab: Page, written: Path) -> None:
    tab.open(written)
    tab.draw_all()
    assert tab.complaints == []
    buttons = set(tab.value("[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)"))
    assert buttons == {"Download plot", "Zoom", "Pan", "Reset axes"}


def test_a_browser_runs_no_name(tab: Page, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page.html(nasty(tmp_path), words=ENGLISH), encoding="utf-8")
    tab.open(path)
    tab.draw_all()
    tab.value("document.querySelectorAll('th button').forEach(button => button.click())")
    assert tab.complaints == []
    assert tab.value("document.title") == NASTY[1]
    assert tab.value("document.querySelectorAll('main img, main iframe, main a[href^=javascript]').length") == 0


def test_a_script_that_was_slipped_in_is_refused(tab: Page, written: Path, tmp_path: Path) -> None:
    """The control of the two tests above: what they listen for is heard."""
    slipped = "<script>document.title = 'mine'</script><img src=x onerror=\"document.title = 'mine'\">"
    path = tmp_path / "report.html"
    path.write_text(written.read_text("utf-8").replace("<main>", f"<main>{slipped}"), encoding="utf-8")
    tab.open(path)
    tab.wait("document.querySelector('[data-drawn]') !== null")
    assert tab.value("document.title") == "Does attention help?"
    assert len([text for text in tab.complaints if "Content Security Policy" in text]) >= 2


def test_tables_sort_and_filter(tab: Page, written: Path) -> None:
    tab.open(written)
    rows = "[...document.querySelectorAll('#leaderboard tbody tr')]"
    arms = f"{rows}.filter(row => !row.hidden).map(row => row.querySelector('th bdi').textContent)"
    head = "document.querySelectorAll('#leaderboard thead button')"
    assert tab.value(arms)[0] == "fixed_k5"
    tab.value(f"{head}[1].click()")
    assert tab.value(arms) == sorted(tab.value(arms))
    tab.value(f"{head}[1].click()")
    assert tab.value(arms) == sorted(tab.value(arms), reverse=True)
    tab.value(f"{head}[4].click()")
    assert tab.value(arms)[0] == "fixed_k5"
    assert tab.value(arms)[-1] == "none", "what has no value comes last"
    tab.value(f"{head}[4].click()")
    assert tab.value(arms)[-1] == "none"
    assert tab.value("[...document.querySelectorAll('#leaderboard [aria-sort]')].map(h => h.ariaSort)") == ["ascending"]
    field = "document.querySelector('#leaderboard input')"
    for typed, left in (("fixed k", 3), ("k5 fixed", 1), ("FIXED_", 3), ("", 5)):
        tab.value(f"{field}.value = '{typed}'; {field}.dispatchEvent(new Event('input'))")
        assert len(tab.value(arms)) == left, typed
    tab.value(f"{field}.value = 'nothing has this'; {field}.dispatchEvent(new Event('input'))")
    assert tab.value(arms) == []
    assert not tab.value("document.querySelector('#leaderboard .none').hidden")


def test_a_picture_is_kept_dark_on_white_whatever_the_page_is(tab: Page, written: Path) -> None:
    tab.open(written, dark=True)
    tab.wait("document.querySelector('.plot').matches('[data-drawn]')")
    tab.value("Plotly.downloadImage = (figure, options) => { window.kept = Plotly.toImage(figure, options); }")
    tab.value("document.querySelector('.plot .modebar-btn').click()")
    drawn = unquote(tab.value("window.kept"))
    assert drawn.startswith("data:image/svg+xml,<svg")
    behind = drawn.partition("<rect")[2].partition(">")[0]
    assert "fill: rgb(255, 255, 255); fill-opacity: 1" in behind, behind
    assert "rgb(34, 34, 34)" in drawn
    assert "rgb(227, 229, 232)" not in drawn, "the ink of a dark page"


def test_light_and_dark_reach_the_pictures(tab: Page, written: Path) -> None:
    ink = "document.querySelector('.plot').layout.font.color"
    paper = "getComputedStyle(document.body).backgroundColor"
    seen = []
    for dark in (False, True):
        tab.open(written, dark=dark)
        tab.value("localStorage.clear()")
        tab.wait("document.querySelector('.plot').matches('[data-drawn]')")
        seen.append((tab.value(paper), tab.value(ink)))
        tab.value("document.getElementById('theme').click()")
        tab.wait(f"{ink} !== '{seen[-1][1]}'")
        seen.append((tab.value(paper), tab.value(ink)))
        tab.value("localStorage.clear()")
    assert seen[0] == seen[3]
    assert seen[1] == seen[2]
    assert seen[0] != seen[1]


def test_a_phone_scrolls_down_only(tab: Page, written: Path) -> None:
    tab.open(written, width=360, height=740, phone=True)
    tab.value("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    tab.draw_all()
    assert tab.value("document.documentElement.scrollWidth") <= 360
    assert tab.value("Math.max(...[...document.querySelectorAll('.plot svg')].map(svg => svg.clientWidth))") <= 360


def test_the_keyboard_reaches_everything(tab: Page, written: Path) -> None:
    tab.open(written)
    seen = []
    for _ in range(14):
        for kind in ("keyDown", "keyUp"):
            tab.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        seen.append(
            tab.value("document.activeElement.className || document.activeElement.id || document.activeElement.hash")
        )
        outline = tab.value("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", seen
    assert seen[:3] == ["skip", "theme", "#pictures"]


def test_paper_has_every_picture_and_everything_unfolded(tab: Page, written: Path, tmp_path: Path) -> None:
    tab.open(written, dark=True)
    tab.value(
        """window.printed = {};
        matchMedia('print').addEventListener('change', event => { if (event.matches) Object.assign(printed, {
          folded: document.querySelectorAll('details:not([open])').length,
          empty: [...document.querySelectorAll('.plot')].filter(plot => !plot.querySelector('.main-svg')).length,
          hints: [...document.querySelectorAll('.screen')].filter(hint => hint.offsetWidth).length,
          paper: getComputedStyle(document.body).backgroundColor,
          ink: document.querySelector('.plot').layout.font.color,
          widest: Math.max(...[...document.querySelectorAll('.main-svg')].map(s => s.getBoundingClientRect().width)),
          highest: Math.max(...[...document.querySelectorAll('.main-svg')].map(s => s.getBoundingClientRect().height)),
        }); });"""
    )
    tab.pdf(tmp_path / "report.pdf")
    printed = tab.value("printed")
    assert printed["folded"] == printed["empty"] == printed["hints"] == 0
    assert printed["paper"] == "rgb(255, 255, 255)"
    assert printed["ink"] != tab.value("document.querySelector('.plot').layout.font.color"), (
        "white on paper, dark after"
    )
    assert 600 <= printed["widest"] <= 681
    assert printed["highest"] <= 861
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 4
    assert tab.value("document.querySelectorAll('details[open]').length") == 0
    assert tab.complaints == []
