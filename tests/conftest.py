"""What every test stands on: one thread, a cache of its own, real data where there is some."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: a busy machine is not a failure. On CI the same examples each time: a red build can be repeated.
settings.register_profile("house", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("house")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """One thread a process: threads belong to a result, and xdist brings its own processes."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Point the image cache to a temporary folder, shared by the workers of one test run."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if os.environ.get("PYTEST_XDIST_WORKER") else root) / "image-cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKEOFF_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def what_a_command_changes() -> Iterator[None]:
    """Put back what a command line run inside this process sets for itself: the package's log, the search path."""
    log, path = logging.getLogger("bakeoff"), list(sys.path)
    handlers, level, propagate = list(log.handlers), log.level, log.propagate
    yield
    log.handlers, log.propagate = handlers, propagate
    log.setLevel(level)  # besides setting it, forgets what loggers below remember of it
    sys.path[:] = path


@pytest.fixture(scope="session")
def bakeoff_data() -> Path:
    """Return the folder of real data sets, or skip."""
    folder = os.environ.get("BAKEOFF_DATA")
    if not folder or not (Path(folder) / "cifar100").is_dir():
        pytest.skip("needs BAKEOFF_DATA with the real cifar100/ in it")
    return Path(folder).resolve()
