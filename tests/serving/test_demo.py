"""What the page is made of: one picture explained as `explain` does, a free address, a fence around Gradio."""

import asyncio
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bakeoff.errors import DataError, RecipeError
from bakeoff.serving import demo, explain
from bakeoff.training import assembly, trained
from bakeoff.training.trained import Trained
from tests.training import runs, tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("demo") / "logs" / "tiny" / "first"
    return trained.load(runs.start(folder, model=tiny.STAGED), plugin=tiny.STAGED)


def png(*, level: int = 90, size: tuple[int, int] = (20, 12)) -> bytes:
    noise = np.random.default_rng(level).integers(-40, 41, (size[1], size[0], 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(level + noise, 0, 255).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def test_a_picture_is_explained_as_explain_does(model: Trained, tmp_path: Path) -> None:
    prepared = explain.prepare(model, near=3)
    for level in (40, 120, 200):
        path = tmp_path / f"{level}.png"
        path.write_bytes(png(level=level))
        found = explain.picture(prepared, path.read_bytes(), name=path.name)
        (section,) = explain.pictures(model, [path], near=3).sections
        (expected,) = section.pictures
        assert found.name == f"{level}.png, 20 x 12 pixels"
        assert found.label is None
        assert found.guesses == expected.guesses
        assert [(alike.index, alike.label, alike.similarity) for alike in found.nearest] == [
            (alike.index, alike.label, alike.similarity) for alike in expected.nearest
        ]
        (heat,), (expected_heat,) = found.heats, expected.heats
        assert heat.of == found.guesses[0].name == expected_heat.of
        np.testing.assert_array_equal(heat.values, expected_heat.values)


def test_training_pictures_are_looked_at_once(model: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = explain.prepare(model, near=2)
    monkeypatch.setattr(assembly, "load", None)
    seen: list[int] = []
    monkeypatch.setattr(explain, "plain", lambda images, _plain=explain.plain, **o: _watched(seen, images, _plain, o))
    assert len(explain.picture(prepared, png(), name="a.png").nearest) == 2
    assert seen == [1, 1]  # for the heat map and for the features: never more than the picture


def _watched(seen: list[int], images: Any, plain: Any, options: dict[str, Any]) -> Any:
    seen.append(len(images))
    return plain(images, **options)


def test_no_training_data_are_read_where_no_neighbours_are_wanted(
    model: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "load", None)
    prepared = explain.prepare(model, near=0)
    assert explain.picture(prepared, png(), name="a.png").nearest == ()


def test_a_broken_picture_is_refused(model: Trained) -> None:
    with pytest.raises(DataError, match=r"a\.png"):
        explain.picture(explain.prepare(model, near=0), png()[:50], name="a.png")


LOOK = demo.Look(head="", style="", answer=lambda picture: f"answer {picture.name}", problem=lambda text: text)


@pytest.mark.parametrize(("content", "said"), [(png(), "answer a.png, 20 x 12 pixels"), (png()[:50], "a.png: found ")])
def test_an_upload_is_answered_and_deleted(model: Trained, tmp_path: Path, content: bytes, said: str) -> None:
    upload = tmp_path / "a.png"
    upload.write_bytes(content)
    assert demo._answer(explain.prepare(model, near=0), LOOK, str(upload)).startswith(said)
    assert not upload.exists()


def test_an_upload_that_is_gone_is_a_message(model: Trained, tmp_path: Path) -> None:
    gone = str(tmp_path / "a.png")
    assert demo._answer(explain.prepare(model, near=0), LOOK, gone).startswith("a.png: found ")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_a_port_that_is_taken_is_refused(taken: int) -> None:
    with pytest.raises(RecipeError, match=f"--port: found 127.0.0.1, port {taken} .*--port 0 takes any"):
        demo.free_port("127.0.0.1", taken)


def test_the_next_free_port_is_taken(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "FIRST_PORT", taken)
    assert taken < demo.free_port("127.0.0.1", None) < taken + demo.NUM_PORTS


def test_where_all_are_taken_that_is_said(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "FIRST_PORT", taken)
    monkeypatch.setattr(demo, "NUM_PORTS", 1)
    with pytest.raises(RecipeError, match="--port"):
        demo.free_port("127.0.0.1", None)


@pytest.mark.parametrize("host", ["no such host", "256.0.0.1", "", "é" * 70])
def test_what_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(RecipeError, match="an address of this machine"):
        demo.free_port(host, 0)


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)]
)
def test_who_can_reach_it_is_known(host: str, local: bool) -> None:
    assert demo.is_local(host) is local


def test_without_gradio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"pip install 'bakeoff\[demo\]'"):
        demo.require()


def test_settings_of_other_pages_do_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SHARE", "True")
    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", "/")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    before = dict(os.environ)
    with demo._settings("uploads", host="127.0.0.1"):
        set_by_us = {name: value for name, value in os.environ.items() if name.startswith("GRADIO_")}
        assert set_by_us == {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": "uploads"}
        assert os.environ["no_proxy"] == "inside.example,127.0.0.1,localhost"
    assert dict(os.environ) == before


def test_the_fence_is_in_every_response() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"c"})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(demo._Fence(app)({"type": "http"}, send, send))  # type: ignore[arg-type]
    headers = dict(sent[0]["headers"])
    assert headers[b"a"] == b"b"
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert sent[1] == {"type": "http.response.body", "body": b"c"}
