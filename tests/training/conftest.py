"""What several tests of training share."""

import logging

import pytest


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What the package logs, whether or not a command line before this test took its log from the root."""
    log = logging.getLogger("bakeoff")
    monkeypatch.setattr(log, "handlers", [caplog.handler])
    monkeypatch.setattr(log, "propagate", False)
    return caplog
