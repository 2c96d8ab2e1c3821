"""A headless Chromium, driven by its DevTools protocol over a pipe: what a page does, says on its console, looks like.

python -m tests.reports.browser PAGE.html FOLDER writes screenshots and a PDF of a page, to be looked at.
"""

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    *("--disable-dev-shm-usage", "--allow-file-access-from-files=false", "--remote-debugging-pipe"),
)
PATIENCE_S = 60.0


def installed() -> str | None:
    """Return the path of Chromium, if there is one."""
    return shutil.which("chromium")


class Page:
    """One tab. Whatever goes wrong in it is kept in `complaints`: errors, refusals of the policy, dialogs, requests."""

    def __init__(self, to: int, back: int) -> None:
        self.to, self.back, self.ids, self.rest = to, back, itertools.count(1), b""
        self.complaints: list[str] = []
        self.session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        number = next(self.ids)
        message = {"id": number, "method": method, "params": parameters} | (
            {"sessionId": self.session} if self.session else {}
        )
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def open(
        self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False, phone: bool = False
    ) -> None:
        """Open a file in a window of this size, and wait until it is loaded."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.complaints.clear()
        self.call("Page.navigate", url=path.absolute().as_uri())
        self.wait("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """Return what an expression is worth in the page, as JSON; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + PATIENCE_S
        while not self.value(expression):
            assert time.monotonic() < until, f"never true: {expression}"
            time.sleep(0.02)

    def draw_all(self) -> None:
        """Scroll over the page until every picture is drawn."""
        for i in range(self.value("document.querySelectorAll('.plot').length")):
            self.value(f"document.querySelectorAll('.plot')[{i}].scrollIntoView({{behavior: 'instant'}})")
            self.wait(f"'drawn' in document.querySelectorAll('.plot')[{i}].dataset")
        self.value("window.scrollTo({top: 0, behavior: 'instant'})")

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write what is seen, or the whole page, as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}} if whole else {}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        """Print to PDF, with the page's own size of paper."""
        printed = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        path.write_bytes(base64.b64decode(printed["data"]))

    def _next(self) -> dict[str, Any]:
        """Return the next message from the browser; messages end with a zero byte."""
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.back], [], [], PATIENCE_S)
            assert ready, "Chromium says nothing"
            chunk = os.read(self.back, 1 << 20)
            assert chunk, "Chromium ended"
            self.rest += chunk
        message, _, self.rest = self.rest.partition(b"\0")
        content: dict[str, Any] = json.loads(message)
        return content

    def _note(self, event: dict[str, Any]) -> None:
        method, about = event.get("method", ""), event.get("params", {})
        if method == "Log.entryAdded" and about["entry"]["level"] in ("warning", "error"):
            self.complaints.append(about["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(about["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("warning", "error", "assert"):
            self.complaints.append(json.dumps(about["args"])[:500])
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"a dialog: {about['message']}")
            self.call("Page.handleJavaScriptDialog", accept=False)
        elif method == "Network.requestWillBeSent" and not about["request"]["url"].startswith(("file:", "data:")):
            self.complaints.append(f"a request of {about['request']['url'][:200]}")


@contextlib.contextmanager
def page() -> Iterator[Page]:
    """Start Chromium with a profile of its own, and end it."""
    command = installed()
    assert command
    pipes = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (*os.pipe(), *os.pipe())]
    hear, to, back, say = pipes

    def connect() -> None:  # in the child: Chromium reads from 3 and writes to 4
        os.dup2(hear, 3)
        os.dup2(say, 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            [command, *FLAGS, f"--user-data-dir={profile}"],
            preexec_fn=connect, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(hear)
        os.close(say)
        try:
            yield Page(to, back)
        finally:
            browser.terminate()
            browser.wait()
            os.close(to)
            os.close(back)


def main(source: Path, folder: Path) -> None:
    """Photograph a page in all its forms."""
    folder.mkdir(parents=True, exist_ok=True)
    with page() as seen:
        for name, form in {
            "light": {},
            "dark": {"dark": True},
            "phone": {"width": 360, "height": 740, "phone": True},
        }.items():
            seen.open(source, **form)  # type: ignore[arg-type]
            seen.draw_all()
            seen.screenshot(folder / f"{name}.png")
            print(name, *seen.complaints, sep="\n  ")
        seen.open(source)
        seen.pdf(folder / "print.pdf")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
