"""A world without data, for the tests of those who look for it."""

from pathlib import Path

import pytest

from bakeoff.errors import DataError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty world: no data, no hub, a cache of its own."""
    for variable, folder in {"HOME": "home", "BAKEOFF_DATA": "data", "BAKEOFF_CACHE": "cache"}.items():
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.setattr("bakeoff.data.places.hub", no_hub)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path


def no_hub(repository: str, part: str) -> tuple[Path, ...]:
    raise DataError(repository, found="no answer (a test)", expected="none")
