"""`--procs` on a cluster: one training over several workers, with the files of one process."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from .conftest import Space
from .test_shards import descendants, sharded, start, until

pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

__all__ = ["sharded"]


def of_command(pid: int, *words: str) -> list[int]:
    """Return the processes below one whose command line has all words."""
    pids = []
    for child in descendants(pid):
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes().decode()
        except OSError:
            continue
        if all(word in command for word in words):
            pids.append(child)
    return pids


def test_a_worker_is_lost_and_no_byte_changes(sharded: Space) -> None:
    live = sharded.root / "cache/p/live/log.jsonl"

    def epochs() -> int:
        return len(live.read_text().splitlines()) if live.exists() else 0

    run = start(sharded, "train", "--on", "local:2", "--procs", "2")
    until(lambda: epochs() >= 1 or run.poll() is not None, 600)
    hosts = of_command(run.pid, "rvbuild.engine.cluster.host")
    assert len(hosts) == 2, run.communicate()
    worker = descendants(run.pid)[hosts[1]]
    os.kill(worker, signal.SIGKILL)
    out = run.communicate(timeout=600)[0]
    assert run.returncode == 0, out
    assert re.search(r"started again in [12] process(es)? on 127\.0\.0\.1", out), out
    assert re.search(r"train: continuing after epoch \d+", out), out
    shown = sharded.shown()
    again = sharded.process("train", "-B", "--procs", "1")
    assert again.status == 0 and "not reproducible" not in again.err + again.out
    assert sharded.shown() == shown
