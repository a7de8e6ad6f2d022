"""How tests run here: how busy a machine is decides no test, and chance none of a machine that checks changes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Threads of torch that wait for each other sleep, as in worker processes: cores are shared with those.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # there is such a process for each core
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RVBUILD_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "rvbuild", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("rvbuild")

WHOLE = ("e2e", "fuzz", "test_wheel.py", "test_benchmarks.py")
"""Parts of the tests that are slow from end to end: they run commands, readers in children, and installs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of such parts as slow, as `@pytest.mark.slow` marks single ones elsewhere.

    Files with slow tests come first: processes that run files side by side then end at about the same time.
    """
    slow = set()
    for item in items:
        if Path(item.path).relative_to(Path(__file__).parent).parts[0] in WHOLE:
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("slow"):
            slow.add(item.path)
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def _state_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what users trust, and the key that signs their caches, out of the home of whoever runs the tests.

    It is one for all tests: a cache that was signed with another key is set aside, and built anew.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.delenv("RVBUILD_TRUST", raising=False)
        yield


@pytest.fixture(scope="module")
def every_core() -> Iterator[None]:
    """Let stages compute with as many threads as there are cores, as they do for users."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RVBUILD_THREADS", raising=False)
        yield


@pytest.fixture(autouse=True)
def _same_module_path() -> Iterator[None]:
    """Take off the module path what a test adds: modules of its workspace would be found by later tests."""
    before = list(sys.path)
    yield
    sys.path[:] = before
