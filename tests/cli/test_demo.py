"""The page as a person uses it: a real process, a real browser, pictures dropped, nothing asked of anybody else."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from importlib.util import find_spec
from pathlib import Path

import pytest

from bakeoff import cli
from bakeoff.recipe import resolve
from bakeoff.results.store import Run
from bakeoff.serving import demo, predict
from bakeoff.training import run as training
from bakeoff.training import trained
from tests.cli.test_cli import ROOT
from tests.data import pictures
from tests.reports import browser
from tests.reports.browser import Page

TINY = "tests.training.tiny:staged"
RUN = Path("logs") / TINY.replace(":", ".") / "first"
SETTINGS = ("data.size=16", "batch_size=8", "epochs=2", "device=cpu", "compile=false", "threads=1", "augment.flip=none")
HOSTILE = "<img src=x onerror=alert(1)>"
TEMPLATE = "${alert(2)}{{value}}`<%= 7 %>"
CLASSES = ("red", HOSTILE, TEMPLATE)

# The command line in a process that writes down every address that it asks for or connects to.
WATCHED = """
import os, sys
asked = open(os.environ["ASKED"], "a", buffering=1)
def hook(event, arguments):
    if event == "socket.getaddrinfo":
        print(arguments[0], file=asked)
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        print(arguments[1][0], file=asked)
sys.addaudithook(hook)
from bakeoff.cli import main
main()
"""

needs_gradio = pytest.mark.skipif(find_spec("gradio") is None, reason="needs the extra bakeoff[demo]")
needs_browser = pytest.mark.skipif(browser.installed() is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, a finished run on them, and files to drop."""
    folder = tmp_path_factory.mktemp("demo")
    pictures.folder(folder / "shapes", {"train": dict.fromkeys(CLASSES, 16), "test": dict.fromkeys(CLASSES, 2)})
    recipe = resolve(TINY, overrides=["data=folder:shapes", *SETTINGS], plugins=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        training.start(recipe, folder / RUN)
    (folder / "broken.png").write_bytes(b"no picture")
    pictures.draw(folder / "new.png", pictures.COLOURS["red"], seed=999, size=(40, 30))
    return folder


@dataclass(frozen=True)
class Served:
    """A page that is there."""

    process: subprocess.Popen[str]
    address: str
    folder: Path
    own: Path

    def stop(self, kind: signal.Signals) -> int:
        """End it, and return its exit code."""
        self.process.send_signal(kind)
        return self.process.wait(timeout=60)

    def check(self) -> None:
        """After its end: it asked nobody else, complained of nothing, and left nothing."""
        asked = set((self.own / "asked.txt").read_text().split())
        assert asked, "not even its own address: nothing was watched"
        assert asked <= {"127.0.0.1", "localhost", "::1"}
        assert (self.own / "stderr.txt").read_text() == ""
        assert not list(self.own.glob("bakeoff-demo-*"))


def start(folder: Path, own: Path, *arguments: str) -> Served:
    """Start the command, and wait until it says where its page is; `own` is where it keeps what it leaves."""
    settings = {"ASKED": str(own / "asked.txt"), "TMPDIR": str(own), "OMP_NUM_THREADS": "1"}
    with (own / "stderr.txt").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHED, "demo", "first", f"model={TINY}", "--port", "0", "--json", *arguments],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **settings}, stdout=subprocess.PIPE, stderr=errors,
            text=True,
        )  # fmt: skip
    assert process.stdout is not None
    said = ""
    while not said.endswith("}\n"):
        line = process.stdout.readline()
        assert line, (own / "stderr.txt").read_text()
        said += line
    return Served(process, json.loads(said)["address"], folder, own)


@pytest.fixture(scope="module")
def served(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    before = sorted(folder.iterdir())
    found = start(folder, tmp_path_factory.mktemp("served"))
    with found.process:
        try:
            yield found
            assert found.stop(signal.SIGINT) == 0
            found.check()
            assert sorted(folder.iterdir()) == before
        finally:
            found.process.kill()


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser.page() as seen:
        yield seen


def visit(tab: Page, served: Served, *, phone: bool = False) -> None:
    width, height = (360, 740) if phone else (1280, 900)
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
    tab.complaints.clear()
    tab.call("Page.navigate", url=served.address)
    tab.wait("document.querySelector('#drop input[type=file]') !== null")


def drop(tab: Page, path: Path) -> None:
    """Give the page a file, and wait until it has answered to this one."""
    tab.value("document.querySelector('#answer .demo')?.remove()")
    root = tab.call("DOM.getDocument")["root"]["nodeId"]
    place = tab.call("DOM.querySelector", nodeId=root, selector="#drop input[type=file]")["nodeId"]
    tab.call("DOM.setFileInputFiles", files=[str(path)], nodeId=place)
    tab.wait("document.querySelector('#answer .demo') !== null")


def texts(tab: Page, selector: str) -> list[str]:
    found: list[str] = tab.value(
        f"[...document.querySelectorAll({json.dumps(selector)})].map(node => node.textContent.trim())"
    )
    return found


def complaints(tab: Page, served: Served) -> list[str]:
    """Return what went wrong; the page's own requests are none, nor is a remark that Gradio makes of itself."""
    ours = (f"a request of {served.address}", f"a request of blob:{served.address}")
    return [text for text in tab.complaints if not text.startswith(ours) and "Method not implemented." not in text]


@needs_gradio
@needs_browser
@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_a_dropped_picture_is_answered(served: Served, tab: Page, phone: bool) -> None:
    folder = served.folder
    visit(tab, served, phone=phone)
    drop(tab, folder / "new.png")
    model = trained.load(Run(folder / RUN), plugin=TINY)
    (expected,) = predict.predict(model, [folder / "new.png"])
    assert texts(tab, "#answer .guesses .name") == list(expected.classes)
    assert texts(tab, "#answer .guesses .percent") == [f"{100 * share:.1f} %" for share in expected.probabilities]
    assert texts(tab, "#answer .verdict .guess") == [expected.classes[0]]
    assert texts(tab, "#answer .where") == ["new.png, 40 x 30 pixels"]
    assert len(texts(tab, "#answer .stack .heat")) == 1
    assert set(texts(tab, "#answer .nearest .name")) <= set(CLASSES)
    drawn = "[...document.querySelectorAll('#answer img')].map(image => image.naturalWidth > 0 && image.width > 0)"
    tab.wait(f"{drawn}.every(Boolean)")
    assert len(tab.value(drawn)) == 1 + 2 + 5 + 1  # the picture, twice under its heat map, the nearest, the scale
    assert tab.value("document.documentElement.scrollWidth <= window.innerWidth")
    assert complaints(tab, served) == []


@needs_gradio
@needs_browser
def test_one_picture_after_another_and_a_broken_one(served: Served, tab: Page) -> None:
    visit(tab, served)
    drop(tab, served.folder / "broken.png")
    (message,) = texts(tab, "#answer .problem")
    assert message.startswith("broken.png: found bytes that do not decode")
    assert "Traceback" not in tab.value("document.body.innerText")
    for name in ("new.png", "broken.png", "new.png"):
        drop(tab, served.folder / name)
        assert bool(texts(tab, "#answer .card")) is (name == "new.png")
    left = [path for path in served.own.rglob("*.png") if path.is_file()]
    assert not left  # uploads are gone once they were read
    assert complaints(tab, served) == []


@needs_gradio
@needs_browser
@pytest.mark.parametrize("name", CLASSES)
def test_a_name_is_a_name(served: Served, tab: Page, name: str) -> None:
    visit(tab, served)
    drop(tab, next((served.folder / "shapes" / "test" / name).iterdir()))
    assert set(texts(tab, "#answer .guesses .name")) == set(texts(tab, "#about .names li")) == set(CLASSES)
    assert tab.value("document.querySelectorAll('img[src=x]').length") == 0
    assert complaints(tab, served) == []


def _plain(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def ask(served: Served, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    request = urllib.request.Request(served.address + path, headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.status, _plain(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _plain(error.headers), error.read().decode()


@needs_gradio
def test_it_gives_nothing_else_away(served: Served) -> None:
    code, headers, page = ask(served, "")
    assert code == 200
    assert "connect-src 'self'" in headers["content-security-policy"]
    assert str(served.folder) not in page
    run = served.folder / RUN
    for file in (run / "recipe.yaml", served.folder / "new.png"):
        assert ask(served, f"gradio_api/file={file}")[0] in (403, 404)
    assert ask(served, "", Host="elsewhere.example")[0] == 400
    assert json.loads(ask(served, "gradio_api/info")[2]) == {"named_endpoints": {}, "unnamed_endpoints": {}}
    for path in ("docs", "openapi.json", "monitoring"):
        assert str(run) not in ask(served, path)[2]


@needs_gradio
def test_sigterm_ends_it_cleanly(folder: Path, tmp_path: Path) -> None:
    found = start(folder, tmp_path, "--near", "0", "--host", "localhost")
    with found.process:
        assert found.stop(signal.SIGTERM) == 0
    found.check()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "RUN"),
        (("third", "--root", "logs"), 2, "no such run"),
        (("first", "photo.png"), 2, "expected one run"),
        (("first", "lr=3"), 2, "nothing but model="),
        (("first", "--port", "70000"), 2, "--port"),
        (("first", f"model={TINY}", "--port", "TAKEN"), 2, "--port 0 takes any"),
        (("first", f"model={TINY}", "--host", "elsewhere"), 2, "--host: found 'elsewhere'"),
    ],
)
def test_mistakes_are_one_message(
    folder: Path,
    arguments: tuple[str, ...],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(demo, "find_spec", lambda name: name)
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: real("" if host == "elsewhere" else host, *a, **k))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        words = [str(taken.getsockname()[1]) if word == "TAKEN" else word for word in arguments]
        found = cli.run(["demo", *words])
    error = " ".join(capsys.readouterr().err.split())
    assert found == code, error
    assert message in error


def test_without_gradio_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    assert cli.run(["demo", "first", f"model={TINY}"]) == 2
    assert "pip install 'bakeoff[demo]'" in capsys.readouterr().err
