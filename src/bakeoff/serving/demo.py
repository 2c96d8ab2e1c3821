"""A page on this machine that answers to dropped pictures. The one door to Gradio, an extra.

What it must not do is fenced twice: Gradio is told to leave it, and the browser is told by a Content-Security-Policy to
load nothing from anywhere else. An upload is deleted as soon as it was read.
"""

import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bakeoff.data import decode, listing
from bakeoff.errors import BakeoffError, DataError, RecipeError
from bakeoff.results.explanation import Explained
from bakeoff.serving import explain
from bakeoff.serving.explain import Prepared

if TYPE_CHECKING:
    import gradio

FIRST_PORT, NUM_PORTS = 7860, 100
LOCAL = ("localhost", "127.0.0.1", "[::1]")
MOST_WAITING = 32  # pictures
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio makes functions of its templates
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_SYSTEM_FONTS = ("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "PingFang SC", "Noto Sans CJK SC")
_FIXED_FONTS = ("ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

_Message = MutableMapping[str, Any]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[MutableMapping[str, Any], Callable[[], Awaitable[_Message]], _Send], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """How things look; pieces of HTML.

    Args:
        head: what stands above the place to drop pictures on.
        style: an element for the head of the page.
        answer: makes one of what there is to say of a picture.
        problem: makes one of a message.
    """

    head: str
    style: str
    answer: Callable[[Explained], str]
    problem: Callable[[str], str]


def require() -> None:
    """Ask for the package before anything is computed.

    Raises:
        RecipeError: it is not installed.
    """
    if find_spec("gradio") is None:
        raise RecipeError(
            "demo", found="no package gradio", expected="it to be installed", hint="pip install 'bakeoff[demo]'"
        )


def free_port(host: str, port: int | None) -> int:
    """Return a port that can be listened on: this one, any for 0, else the first that is free from 7860 on.

    Raises:
        RecipeError: it is taken, not allowed, or the host is not an address of this machine.
    """
    wanted = range(FIRST_PORT, FIRST_PORT + NUM_PORTS) if port is None else (port,)
    where, refusal = "--port", f"port {wanted[0]}"
    for number in wanted:
        try:
            family, kind, *_, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        except (OSError, UnicodeError) as error:
            where, refusal = "--host", f"'{host}' ({getattr(error, 'strerror', None) or error})"
            break
        try:
            with socket.socket(family, kind) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
                return int(trial.getsockname()[1])
        except OSError as error:
            refusal = f"{host}, port {number} ({error.strerror})"
    hint = "" if port is None else "Without --port the next free one is taken; --port 0 takes any."
    raise RecipeError(where, found=refusal, expected="an address of this machine that is free", hint=hint)


def is_local(host: str) -> bool:
    """Tell whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(prepared: Prepared, look: Look, *, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Show the page until somebody ends it, by Ctrl-C or SIGTERM.

    Args:
        prepared: for pictures.
        look: of the page.
        host: address to listen on.
        port: likewise, a free one.
        tell: receives the page's address once it is there.

    Raises:
        RecipeError: the address was taken meanwhile.
    """
    stopped = threading.Event()
    with TemporaryDirectory(prefix="bakeoff-demo-") as uploads, _signals(stopped), _settings(uploads, host=host):
        page = _page(prepared, look)
        try:
            address = _launch(page, look, host=host, port=port)
            tell(address)
            stopped.wait()
        except OSError as error:
            raise RecipeError("--port", found=f"port {port} ({error})", expected="a free one") from None
        finally:
            page.close(verbose=False)


def _page(prepared: Prepared, look: Look) -> "gradio.Blocks":
    """Lay the page out: what it is of, a place to drop a picture on, the answer to the last one."""
    import gradio

    def answer(path: str | None) -> tuple[None, str]:
        return None, look.problem("The upload did not arrive.") if path is None else _answer(prepared, look, path)

    page = gradio.Blocks(title="bakeoff demo", analytics_enabled=False)
    with page:
        gradio.HTML(look.head, elem_id="about", apply_default_css=False)
        drop = gradio.File(
            label="Drop a picture", file_count="single", type="filepath", height=150, elem_id="drop", buttons=[]
        )
        shown = gradio.HTML(elem_id="answer", apply_default_css=False)
        drop.upload(
            answer,
            inputs=[drop],
            outputs=[drop, shown],  # the place is empty again, for the next picture
            api_visibility="private",
            show_progress="minimal",
            show_progress_on=[shown],
            concurrency_limit=1,  # hooks on one network: one picture at a time
        )
    page.queue(api_open=False, max_size=MOST_WAITING)
    return page


def _answer(prepared: Prepared, look: Look, path: str) -> str:
    """Explain an upload, and delete it; whatever is wrong with it is a message on the page."""
    upload = Path(path)
    try:
        return look.answer(explain.picture(prepared, listing.read_file(upload), name=upload.name))
    except DataError as error:
        return look.problem(f"{upload.name}: found {error.found}; expected {error.expected}.")
    except BakeoffError as error:
        return look.problem(str(error))
    finally:
        upload.unlink(missing_ok=True)


def _launch(page: "gradio.Blocks", look: Look, *, host: str, port: int) -> str:
    """Listen, and return the address."""
    import gradio
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    fences = [Middleware(_Fence)]
    if is_local(host):  # no other site may have its name point here, and read what is asked of the page
        fences.append(Middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL, host, f"[{host}]"]))
    font, font_mono = ([gradio.themes.Font(name) for name in names] for names in (_SYSTEM_FONTS, _FIXED_FONTS))
    _, address, _ = page.launch(
        server_name=f"[{host}]" if ":" in host else host,
        server_port=port,
        share=False,
        inbrowser=False,
        prevent_thread_lock=True,
        quiet=True,
        show_error=False,
        allowed_paths=[],
        max_file_size=decode.MOST_BYTES,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        app_kwargs={"middleware": fences, "docs_url": None, "redoc_url": None, "openapi_url": None},
        theme=gradio.themes.Default(font=font, font_mono=font_mono),
        head=look.style,
    )
    return str(address)


class _Fence:
    """Adds to every response what the browser may do with it.

    Args:
        app: what answers.
    """

    def __init__(self, app: _App) -> None:
        self.app = app

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[_Message]], send: _Send
    ) -> None:
        """Answer a request."""

        async def fenced(message: _Message) -> None:
            if message["type"] == "http.response.start":
                more = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        await self.app(scope, receive, fenced)


@contextmanager
def _settings(uploads: str, *, host: str) -> Iterator[None]:
    """Set Gradio's environment, and put back what was there: settings of other pages do not hold for this one."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": uploads, **_no_proxy(before, host)}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _no_proxy(environment: Mapping[str, str], host: str) -> dict[str, str]:
    """Return what keeps Gradio from asking a proxy whether its own page is there."""
    named = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    value = ",".join(filter(None, (named, host, "localhost")))
    return {"no_proxy": value, "NO_PROXY": value}


@contextmanager
def _signals(stopped: threading.Event) -> Iterator[None]:
    """Set the event at Ctrl-C and SIGTERM."""
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda *_: stopped.set()) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
