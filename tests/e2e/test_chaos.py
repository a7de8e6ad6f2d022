"""Kills at random instants of every real stage: the build ends with the bytes of one that nobody disturbed.

`RVBUILD_CHAOS=200 pytest tests/e2e/test_chaos.py -s` kills more often and prints figures.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "build"))
from forks import Forks, disturb, wait_until_gone

from rvbuild.build.fingerprint import hash_file
from rvbuild.build.inventory import take_inventory
from rvbuild.build.store import Store

from .conftest import Space

ROUNDS = int(os.environ.get("RVBUILD_CHAOS", "12"))
SEED = int(os.environ.get("RVBUILD_CHAOS_SEED", "1"))


@pytest.fixture(scope="module")
def forks():
    made = Forks(Path(__file__).with_name("real_commands.py"))
    yield made
    made.close()


class Run:
    """The command in a process of its own, with stages inline."""

    def __init__(self, forks: Forks, space: Space) -> None:
        self.forks, self.space = forks, space

    def words(self, *words: str) -> list[str]:
        return [str(self.space.root), *words, "--inline"]

    def __call__(self, *words: str) -> int:
        return self.forks.run(*self.words(*words), output=self.space.root / "said.txt")

    def said(self) -> str:
        return (self.space.root / "said.txt").read_text()

    def kill(self, after_s: float, luck: random.Random, *words: str) -> tuple[int, str]:
        pid = self.forks.start(*self.words(*words), output=self.space.root / "said.txt")
        did = disturb(pid, after_s, luck, workers=False)
        return self.forks.wait(), did


def check(space: Space, expected: dict[str, bytes], what: str) -> None:
    """Nothing is shown that an undisturbed build would not show, and the store is whole."""
    for path, content in space.shown().items():
        assert content == expected[path], (what, path)
    store = Store(space.root / "cache/store")
    for file in store.root.glob("objects/??/*"):
        assert hash_file(file) == file.parent.name + file.name, what
    inventory = take_inventory(store)
    assert inventory.broken() == {}, what
    assert not inventory.unreadable, what


@pytest.mark.timeout(7200)
def test_random_kills_of_every_stage(forks, built_template, template, tmp_path):
    expected = Space(built_template).shown()
    luck = random.Random(SEED)
    counts: Counter[str] = Counter()
    began = time.monotonic()
    usual_s = None
    rounds = 0
    while rounds < ROUNDS:
        space = Space(tmp_path / "ws")
        shutil.copytree(template, space.root)
        run = Run(forks, space)
        if usual_s is None:
            start = time.monotonic()
            assert run("build") == 0, run.said()
            usual_s = time.monotonic() - start
            assert space.shown() == expected
            shutil.rmtree(space.root / "cache")
        for _ in range(6):
            # Half of the kills soon after the last one's progress, so that each stage is hit.
            after_s = luck.uniform(0, usual_s if luck.random() < 0.5 else usual_s / 4)
            status, did = run.kill(after_s, luck, "build")
            rounds += 1
            assert status in (0, 130, -9, -15), run.said()  # -15: before the command could listen
            assert "Traceback" not in run.said(), run.said()
            shown = {p.partition("/")[0] for p in space.shown()}
            counts["done before" if status == 0 else f"killed with {len(shown)} stages shown"] += 1
            wait_until_gone(space.root)
            check(space, expected, did)
        assert run("build") == 0, run.said()
        assert space.shown() == expected
        assert not list((space.root / "cache/store/tmp").iterdir())
        shutil.rmtree(space.root)
    print(f"\n{dict(sorted(counts.items()))} in {time.monotonic() - began:.0f} s")


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
    for how in (15, 2):
        pid = forks.start(*run.words("train"), output=space.root / "said.txt")
        deadline = time.monotonic() + 120
        while checkpoint() in ([], seen):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(pid, how)
        assert forks.wait() == 130
        seen = checkpoint()
        assert "interrupted: what was finished is kept" in run.said()
        assert not (space.root / "cache/p/train").exists()
    assert run("train") == 0
    assert "continues after epoch" in run.said()
    assert Run(forks, other)("train") == 0
    assert space.shown() == other.shown()
