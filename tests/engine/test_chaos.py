"""Kills at random instants, of builds and of whatever works on a store: nothing is lost, nothing half-written is seen.

Builds run inline, in workers, and on the workers of `--on local:2`; whatever is killed below them, all processes end.

`RVBUILD_CHAOS=1000 pytest tests/engine/test_chaos.py -s` kills more often and prints figures;
RVBUILD_CHAOS_SEED chooses other instants.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Space
from forks import Forks, disturb, wait_until_gone

from rvbuild.engine.keys.signature import hash_file
from rvbuild.engine.store.store import Store
from rvbuild.engine.upkeep.inventory import take_inventory

ROUNDS = int(os.environ.get("RVBUILD_CHAOS", "40"))
SEED = int(os.environ.get("RVBUILD_CHAOS_SEED", "1"))


@pytest.fixture
def forks():
    made = Forks(Path(__file__).with_name("chaos_commands.py"))
    yield made
    made.close()


class Chaos:
    """A workspace that is edited and disturbed; `allowed` has every content that each path may ever have shown."""

    def __init__(self, root: Path, forks: Forks, executor: str, luck: random.Random) -> None:
        self.pool = executor != "inline"
        self.on = executor if executor.startswith("local:") else ""
        self.space = Space(root / "ws", self.pool)
        self.remote = root / "remote"
        self.forks = forks
        self.luck = luck
        self.allowed: dict[str, set[bytes]] = {}
        self.counts: Counter[str] = Counter()
        self.texts = dict.fromkeys("abc", "")
        self.prefix = ""
        for name in "abc":
            self.edit(name)
        began = time.monotonic()
        assert self.command("run") == 0, self.output()
        self.usual_s = time.monotonic() - began

    def edit(self, name: str) -> None:
        slow = "slow " if self.on else ""  # as the start of a cluster is: kills shall not hit that alone
        self.texts[name] = slow + name * self.luck.choice([1, 1000, 300_000]) + str(self.luck.randrange(4))
        self.space.write(name, self.texts[name])

    def expected(self) -> dict[str, bytes]:
        upper = {n: self.prefix + text.upper() for n, text in self.texts.items()}
        joined = "|".join(upper[n] for n in "abc")
        shown = {f"upper/{n}/out.txt": text for n, text in upper.items()}
        shown |= {"joined.txt": joined, "last/joined.txt": f"{joined}!"}
        return {path: text.encode() for path, text in sorted(shown.items())}

    def words(self, name: str) -> list[str]:
        for path, content in self.expected().items():
            self.allowed.setdefault(path, set()).add(content)
        settings = {"upper": {"prefix": self.prefix, "seconds": 0.3}, "join": {}, "last": {"end": "!"}}
        options = {
            "pool": self.pool,
            "on": self.on,
            "settings": settings,
            "jobs": self.luck.choice([1, 3]),
            "remote": str(self.remote),
        }
        return [name, str(self.space.root), json.dumps(options)]

    def command(self, name: str) -> int:
        return self.forks.run(*self.words(name), output=self.space.root / "said.txt")

    def output(self) -> str:
        return (self.space.root / "said.txt").read_text()

    def round(self) -> None:
        if self.luck.random() < (0.9 if self.on else 0.6):
            self.edit(self.luck.choice("abc"))
        if self.luck.random() < 0.1:
            self.prefix = self.luck.choice(["", "x"])
        name = self.luck.choice(["run"] * (20 if self.on else 6) + ["gc", "push", "pull", "free", "verify"])
        pid = self.forks.start(*self.words(name), output=self.space.root / "said.txt")
        long_s = self.usual_s * (1.0 if name == "run" else 0.3)
        did = disturb(pid, self.luck.uniform(0, long_s), self.luck, self.pool)
        status = self.forks.wait()
        assert status in (0, 1, 130, -9, -15), self.output()  # -15: before the command could listen
        assert "Traceback" not in self.output() or status in (130, -9), self.output()
        ends = {0: "done before", 1: "a worker killed"}
        self.counts[f"{name}: {ends.get(status, 'killed')}"] += 1
        wait_until_gone(self.space.root, 10 if self.on else 120)
        self.check_after_a_kill(f"{name}, {did}")

    def check_after_a_kill(self, change: str) -> None:
        for path, content in self.space.shown().items():
            assert content in self.allowed[path], (change, path)
        for root in (self.space.root / "cache/store", self.remote):
            for file in (root / "objects").glob("??/[0-9a-f]*"):
                assert hash_file(file) == file.parent.name + file.name, change
            inventory = take_inventory(Store(root))
            assert inventory.broken() == {}, change
            assert all(p.name.startswith(".") for p in inventory.unreadable), change  # of a killed push
        assert not list((self.space.root / "cache/store/quarantine").iterdir()), change
        assert not list((self.space.root / "cache").glob("*damaged*")), change
        with contextlib.closing(sqlite3.connect(self.space.root / "cache/state.db")) as db, db:
            assert db.execute("pragma integrity_check").fetchone() == ("ok",), change
        db.close()

    def finish(self) -> None:
        """Run to the end: all is as if nothing had happened."""
        assert self.command("run") == 0, self.output()
        assert self.space.shown() == self.expected()
        assert self.command("run") == 0
        assert set(line.split()[0] for line in self.output().splitlines()) == {"fresh"}, self.output()
        for folder in ("cache/tmp", "cache/store/tmp"):
            assert not list((self.space.root / folder).iterdir())
        self.counts["finished as undisturbed"] += 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("executor", "share"), [("inline", 1), ("workers", 2), ("local:2", 5)])
def test_random_kills(tmp_path, forks, executor, share):
    if executor.startswith("local:"):
        pytest.importorskip("distributed")
    luck = random.Random(SEED)
    chaos = Chaos(tmp_path, forks, executor, luck)
    began = time.monotonic()
    for number in range(-(-ROUNDS // share)):
        chaos.round()
        if number % 4 == 3:
            chaos.finish()
    chaos.finish()
    print(f"\n{dict(sorted(chaos.counts.items()))} in {time.monotonic() - began:.0f} s")
