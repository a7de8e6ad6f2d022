"""`--procs` from the command line: a kill, other numbers of processes, and the same files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rvbuild import rules
from rvbuild.project.load import load
from rvbuild.rules.train import with_processes

from .conftest import Space

SHARDED = "epochs = 20\nshards = 4\nthreads = 1"


@pytest.fixture
def sharded(space: Space) -> Space:
    space.edit("epochs = 2", SHARDED)
    return space


def start(space: Space, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rvbuild", *words],
        cwd=space.root,
        env={**os.environ, **space.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def descendants(pid: int) -> dict[int, int]:
    """Return the processes below one, with their parents."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
    below = {pid: 0}
    for _ in parents:
        more = {child: parent for child, parent in parents.items() if parent in below and child not in below}
        if not more:
            break
        below |= more
    del below[pid]
    return below


def until(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.timeout(900)
def test_a_kill_and_other_numbers_of_processes_change_no_byte(sharded: Space) -> None:
    live = sharded.root / "cache/p/live/log.jsonl"

    def epochs() -> int:
        return len(live.read_text().splitlines()) if live.exists() else 0

    run = start(sharded, "train", "--procs", "2")
    until(lambda: epochs() >= 1, 300)
    # The training processes are the children of one, and nobody else's parent.
    below = descendants(run.pid)
    leaves = {child: parent for child, parent in below.items() if child not in below.values()}
    pairs = [child for child, parent in leaves.items() if list(leaves.values()).count(parent) == 2]
    os.kill(max(pairs), signal.SIGKILL)
    out = run.communicate(timeout=120)[0]
    failed = re.findall(r"failed +train +process [12] of 2 of the training was killed \(out of memory\? try fewer", out)
    assert run.returncode == 1 and len(failed) == 1, out

    ended = sharded.rvbuild("train", "--procs", "1", inline=False)
    assert ended.status == 0, ended.out + ended.err
    assert (after := re.search(r"train: continuing after epoch (\d+)", ended.out)) and 1 <= int(after[1]) < 20
    after_kills = sharded.shown()
    assert live.read_bytes() == after_kills["train/log.jsonl"]
    again = sharded.rvbuild("train", "-B", "--procs", "4", inline=False)
    assert again.status == 0 and "not reproducible" not in again.err + again.out
    assert sharded.shown() == after_kills


def test_more_processes_than_shards(sharded: Space) -> None:
    run = sharded.rvbuild("train", "--procs", "5")
    assert run.status == 2
    assert "--procs 5: train.shards of p is 4, and each process needs a shard; set shards = 5 in [train]" in run.err
    sharded.edit("shards = 4\n", "")
    run = sharded.rvbuild("train", "--procs", "2")
    assert run.status == 2 and "train.shards of p is not set" in run.err and "or leave --procs out" in run.err


def test_more_processes_than_gpus(sharded: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rvbuild.rules.train.card_count", lambda: 2)
    run = sharded.rvbuild("train", "--procs", "4")
    assert run.status == 2
    assert "--procs 4: each process needs a GPU of its own, and there are 2; give another number" in run.err
    sharded.edit("shards = 4", 'shards = 4\ndevice = "cuda:1"')
    run = sharded.rvbuild("train", "--procs", "2")
    assert run.status == 2 and "and train.device of p is cuda:1; give another number" in run.err


def test_who_computes_on_a_cluster(sharded: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many processes as shards, if workers have slots for them; GPUs of this machine do not matter."""
    monkeypatch.setattr("rvbuild.rules.train.card_count", lambda: 2)
    (train,) = rules.train.artifacts(load(sharded.project), "")
    on_cluster = [with_processes(train, count, True).demand.processes for count in (None, 1, 3)]
    assert on_cluster == [4, 1, 3] and with_processes(train, None, False) == train
    assert with_processes(train, None, True).settings == train.settings


def test_shards_that_a_batch_does_not_have(sharded: Space) -> None:
    sharded.edit("shards = 4", "shards = 8")
    run = sharded.rvbuild("status")
    assert run.status == 2 and "8 shards of a batch of 4 chips; each needs at least one" in run.err
    sharded.edit("shards = 8", 'shards = 4\naugment = ["cutmix"]')
    assert "cutmix" in sharded.rvbuild("status").err
