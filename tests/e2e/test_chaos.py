"""Kills at random instants of every real stage: the build ends with the bytes of one that nobody disturbed.

`RVBUILD_CHAOS=200 pytest tests/e2e/test_chaos.py -s` kills more often and prints figures, RVBUILD_CHAOS_S=300
ends after so many seconds, and RVBUILD_CHAOS_SEED chooses other instants and, in turn, another task.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
from forks import Forks, disturb, wait_until_gone

from rvbuild.engine.keys.signature import hash_file
from rvbuild.engine.store.store import Store
from rvbuild.engine.upkeep.inventory import take_inventory
from rvbuild.rules import RULES

from .conftest import Space
from .projects import PROJECTS
from .test_property import STATES, write

ROUNDS = int(os.environ.get("RVBUILD_CHAOS", "0"))
SEED = int(os.environ.get("RVBUILD_CHAOS_SEED", "1"))
TASK = list(PROJECTS)[(SEED - 1) % len(PROJECTS)]
STAGES = [*RULES, "data"]


@pytest.fixture(scope="module")
def forks():
    made = Forks(Path(__file__).with_name("real_commands.py"))
    yield made
    made.close()


class Run:
    """The command in a process of its own, with stages inline or in workers."""

    def __init__(self, forks: Forks, space: Space, workers: bool = False) -> None:
        self.forks, self.space, self.workers = forks, space, workers

    def words(self, *words: str) -> list[str]:
        inline = not self.workers and words[0] not in ("clean", "data")
        return [str(self.space.root), *words, *(["--inline"] if inline else [])]

    def __call__(self, *words: str) -> int:
        return self.forks.run(*self.words(*words), output=self.space.root / "said.txt")

    def output(self) -> str:
        return (self.space.root / "said.txt").read_text()

    def start(self, *words: str) -> int:
        return self.forks.start(*self.words(*words), output=self.space.root / "said.txt")


def check(space: Space, expected: dict[str, bytes], change: str) -> None:
    """Nothing is shown that an undisturbed build would not show, and the store and the database are whole."""
    for path, content in space.shown().items():
        assert content == expected[path], (change, path)
    store = Store(space.root / "cache/store")
    for file in store.root.glob("objects/??/*"):
        assert hash_file(file) == file.parent.name + file.name, change
    inventory = take_inventory(store)
    assert inventory.broken() == {}, change
    assert not inventory.unreadable, change
    assert not list((store.root / "quarantine").iterdir()), change
    assert not list((space.root / "cache").glob("*damaged*")), change
    with contextlib.closing(sqlite3.connect(space.root / "cache/state.db")) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",), change


class Chaos:
    """A workspace in which everything was built, of which one stage at a time is built again and killed."""

    def __init__(self, forks: Forks, root: Path, template: Path, workers: bool) -> None:
        self.space = Space(root)
        shutil.copytree(template, root)
        self.luck = random.Random(SEED)
        self.run = Run(forks, self.space, workers)
        self.calm = Run(forks, self.space)
        self.counts: Counter[str] = Counter()
        write(self.space, TASK, dict.fromkeys(STATES, 0))
        if TASK == "segmentation":
            self.space.edit("stride_px = 16", 'stride_px = 16\nmosaic = "cog"')
        elif TASK == "cells":
            self.space.edit("lr = 1e-2", 'lr = 1e-2\n[predict]\nmosaic = "cog"')
        assert self.calm("build") == 0, self.calm.output()
        assert self.calm("data") == 0, self.calm.output()
        self.expected = self.space.shown()
        self.stages = [s for s in STAGES if any(path.startswith(f"{s}/") for path in self.expected)]
        self.luck.shuffle(self.stages)
        #: How long each stage is taken to run; learned from kills that came too early or too late.
        self.usual_s = dict.fromkeys(self.stages, 0.5)

    def round(self, number: int) -> None:
        stage = self.stages[number % len(self.stages)]
        command = "data" if stage == "data" else "build"
        assert self.calm("clean", stage) == 0, self.calm.output()
        for _ in range(self.luck.choice([1, 1, 2])):
            self.kill(stage, command)
        assert self.calm(command) == 0, self.calm.output()
        assert self.space.shown() == self.expected, stage
        assert not list((self.space.root / "cache/store/tmp").iterdir())

    def kill(self, stage: str, command: str) -> None:
        """Start the command, wait until the stage runs (or not), and kill the command or a worker some time after."""
        pid = self.run.start(command)
        if self.luck.random() < 0.8:
            self.wait_for_the_stage(pid)
        workers = self.run.workers or command == "data"
        did = f"{stage}: {disturb(pid, self.luck.uniform(0, self.usual_s[stage]), self.luck, workers)}"
        status = self.run.forks.wait()
        output = self.run.output()
        assert status in (0, 1, 130, -9, -15), f"{did}\n{output}"  # -15: before the command could listen
        assert "Traceback" not in output, f"{did}\n{output}"
        if status == 1:
            assert workers and re.search(r"the worker process (was killed|died of|was lost)", output), (
                f"{did}\n{output}"
            )
        if status == 130:
            assert "interrupted: finished artifacts are kept" in output, f"{did}\n{output}"
        ends = {0: "done before", 1: "a worker killed"}
        self.counts[f"{stage}: {ends.get(status, 'killed')}"] += 1
        self.usual_s[stage] = min(10.0, self.usual_s[stage] * (0.8 if status == 0 else 1.1))
        wait_until_gone(self.space.root)
        check(self.space, self.expected, did)

    def wait_for_the_stage(self, pid: int) -> None:
        """Wait until something is staged, or the command has ended."""
        deadline = time.monotonic() + 120
        while not any(path.is_dir() for path in (self.space.root / "cache/store/tmp").iterdir()):
            with contextlib.suppress(FileNotFoundError):
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    time.sleep(0.002)
                    assert time.monotonic() < deadline
                    continue
            return


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("workers", [False, True], ids=["inline", "workers"])
def test_random_kills_of_every_stage(forks, template, tmp_path, workers):
    chaos = Chaos(forks, tmp_path / "ws", template, workers)
    began = time.monotonic()
    until = began + float(os.environ.get("RVBUILD_CHAOS_S", "inf"))
    # Without a wish, one half of the stages inline and the other in workers.
    for number in range(ROUNDS) if ROUNDS else range(workers, len(chaos.stages), 2):
        if time.monotonic() > until:
            break
        chaos.round(number)
    print(f"\n{TASK}: {dict(sorted(chaos.counts.items()))} in {time.monotonic() - began:.0f} s")


def test_an_interrupted_training_resumes_and_ends_with_the_same_bytes(forks, space, tmp_path):
    """SIGTERM and Ctrl-C in turn, each during training: the rest is trained, and the bytes are the same."""
    space.edit("epochs = 2", "epochs = 12")
    other = Space(tmp_path / "uninterrupted")
    shutil.copytree(space.root, other.root)
    run = Run(forks, space)
    resume = space.root / "cache/store/resume"

    def checkpoint() -> list[int]:
        """Return what a checkpoint, whose name stays, has anew each time it is written."""
        return [path.stat().st_ino for path in resume.rglob("checkpoint.safetensors")]

    seen: list[int] = []
    for signal_number in (15, 2):
        pid = forks.start(*run.words("train"), output=space.root / "said.txt")
        deadline = time.monotonic() + 120
        while checkpoint() in ([], seen):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(pid, signal_number)
        assert forks.wait() == 130
        seen = checkpoint()
        assert "interrupted: finished artifacts are kept" in run.output()
        assert not (space.root / "cache/p/train").exists()
    assert run("train") == 0
    assert "continuing after epoch" in run.output()
    assert Run(forks, other)("train") == 0
    assert space.shown() == other.shown()
