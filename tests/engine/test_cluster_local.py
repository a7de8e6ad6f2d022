"""The workers of `local:N` come back, whatever ends them; so do what they offer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cluster_space import ClusterSpace, wait_for

from rvbuild.engine.cluster import connect, local
from rvbuild.engine.cluster.link import Link
from rvbuild.engine.run.workers import Interrupted
from rvbuild.errors import StageError

pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: Runs in each worker when it starts, twice; a start fails, or hangs, if there is a file that says so.
PRELOAD = """
import os, time
from pathlib import Path

for name in ("fail", "hang"):
    try:
        Path({folder!r}, name).unlink()
    except OSError:
        continue
    if name == "hang":
        time.sleep(1000)
    raise RuntimeError("the disk is full")
"""


class Here:
    """Two workers, and what was noted of them."""

    def __init__(self, folder: Path, closing: contextlib.ExitStack) -> None:
        self.folder = folder
        self.notes: list[str] = []
        address = local.started(2, folder, closing, self.notes.append, threading.Event())
        self.client = connect.connected(address, closing, self.notes.append, threading.Event())

    def pids(self) -> dict[str, int]:
        """Return the process of each worker that answers."""
        pids = self.client.run(os.getpid, on_error="return")
        return {address: pid for address, pid in pids.items() if isinstance(pid, int)}

    def others(self, than: set[int], count: int) -> set[int]:
        """Wait for two workers, so many of them new, and return their processes."""
        wait_for(lambda: len(pids := set(self.pids().values())) == 2 and len(pids - than) == count, 100)
        return set(self.pids().values())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    (tmp_path / "preload.py").write_text(PRELOAD.replace("{folder!r}", repr(str(tmp_path))))
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__PRELOAD", f'["{tmp_path}/preload.py"]')
    with contextlib.ExitStack() as closing:
        yield Here(tmp_path, closing)


def test_lost_workers_come_back_also_if_a_start_fails(here: Here) -> None:
    before = set(here.pids().values())
    (here.folder / "fail").touch()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    after = here.others(before, 2)
    (note,) = here.notes
    assert "of local:2 cannot be started again: RuntimeError: the disk is full (" in note
    os.kill(max(after), signal.SIGKILL)  # and once more
    here.others(after, 1)


def test_a_worker_that_hangs_or_has_left_is_replaced(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_HANGS_S", 4.0)
    before = here.pids()
    (here.folder / "hang").touch()  # what replaces it hangs as well, once
    address, pid = min(before.items())
    os.kill(pid, signal.SIGSTOP)
    here.client.sync(here.client.scheduler.unregister, address=address, stimulus_id="test")  # as it was not heard
    after = here.others(set(before.values()), 1)
    assert pid not in after and not (here.folder / "hang").exists()
    here.client.retire_workers([address for address in here.pids() if address in before])  # it closes itself
    here.others(after, 1)


def test_a_build_whose_workers_are_all_lost(tmp_path: Path) -> None:
    space = ClusterSpace(tmp_path / "ws", "local:2")
    space.scenes = ["a", "b"]
    for name in space.scenes:
        space.write(name, f"{name} held")
    killed: list[int] = []

    def kill() -> None:
        calls = space.root / "calls.txt"
        wait_for(lambda: calls.exists() and len(calls.read_text().split()) == 2, 100)
        killed.extend(int(pid) for pid in _workers(os.getpid()))
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        (space.root / "go").touch()

    killing = threading.Thread(target=kill)
    killing.start()
    assert space.run(jobs=2)["last"] == "built", space.outcomes
    killing.join()
    assert len(killed) == 2 and _workers(os.getpid()) == []


def _workers(driver: int) -> list[str]:
    """Return the workers among the children of a process."""
    children = Path(f"/proc/{driver}/task").glob("*/children")
    pids = [pid for path in children for pid in path.read_text().split()]
    return [pid for pid in pids if b"cluster.local" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_first_start_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "preload.py").write_text("raise RuntimeError('no memory')")
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__PRELOAD", f'["{tmp_path}/preload.py"]')
    with (
        contextlib.ExitStack() as closing,
        pytest.raises(StageError, match="local:1: a worker cannot be started: RuntimeError: no memory"),
    ):
        local.started(1, tmp_path, closing, print, threading.Event())
    assert _workers(os.getpid()) == []
    stopped = threading.Event()
    stopped.set()
    with contextlib.ExitStack() as closing, pytest.raises(Interrupted):
        local.started(1, tmp_path, closing, print, stopped)
    assert _workers(os.getpid()) == []


class Scheduler:
    """What a client of Dask knows; its own cache of workers is empty, as it is at times."""

    status = "running"
    offers: dict[str, Any] | None = None

    def __init__(self) -> None:
        self.scheduler = self

    async def identity(self, n_workers: int) -> dict[str, Any]:
        assert n_workers == -1
        if self.offers is None:
            raise OSError("no connection")
        return {"id": "s", "workers": self.offers}

    def scheduler_info(self) -> dict[str, Any]:
        return {"id": "s", "workers": {}}

    def sync(self, function: Any, **arguments: Any) -> Any:
        return asyncio.run(function(**arguments))


def test_offers_are_not_those_of_the_cache_of_the_client() -> None:
    link = Link("tcp://s:1", "session", lambda text: None, threading.Event(), lambda: None)
    link.client = Scheduler()
    link.client.offers = {"tcp://a:1": {"resources": {"session": 2}}, "tcp://b:1": {"resources": {}}}
    link.wait_for_workers()
    assert link.offers(0) == {"tcp://a:1": {"session": 2}}
    link.client.offers = None
    began = time.monotonic()
    assert link.offers(0) == {"tcp://a:1": {"session": 2}} and time.monotonic() - began < 5
