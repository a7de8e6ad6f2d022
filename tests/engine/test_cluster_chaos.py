"""Kills at random on a cluster: the bytes and keys of a local build, no process left, nothing built twice.

`RVBUILD_CHAOS=100 pytest tests/engine/test_cluster_chaos.py -s` kills more often and prints figures;
RVBUILD_CHAOS_SEED chooses other instants.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("distributed")
sys.path.insert(0, str(Path(__file__).parent))
from cluster_space import Event, ToldSpace, wait_for
from conftest import children_left
from forks import descendants
from hosts import Process, Server

ROUNDS = int(os.environ.get("RVBUILD_CHAOS", "5"))
SEED = int(os.environ.get("RVBUILD_CHAOS_SEED", "1"))
SCENES = ["a", "b", "c", "d", "e"]
WORKERS = 2
SECONDS = 0.2
#: What is done to a running build, and how often.
DEEDS = {
    "kill a stage": 2,
    "kill the host of a pool": 2,
    "kill a forkserver": 1,
    "kill a worker": 4,
    "stop a worker for a while": 2,
    "kill the scheduler": 2,
    "kill the driver": 2,
    "interrupt the driver": 1,
}
LOSSES = {deed for deed in DEEDS if deed.startswith(("kill", "interrupt"))}


class Chaos:
    """A cluster, and a workspace that is edited and built on it while things are killed."""

    def __init__(self, root: Path, server: Server, luck: random.Random) -> None:
        self.server = server
        self.luck = luck
        self.folder = root / "cluster"
        self.space = ToldSpace(root / "ws", "", seconds=SECONDS)
        self.here = ToldSpace(root / "here", "", seconds=SECONDS)
        self.space.scenes = self.here.scenes = SCENES
        self.count = 0
        self.deeds: list[tuple[float, str]] = []
        self.counts: Counter[str] = Counter()
        self.scheduler: Process | None = None
        self.workers: dict[str, Process] = {}
        self.port = "0"
        for name in SCENES:
            self.edit(name)
        self.repair()
        assert self.start().wait(60) == 0, self.story()

    def story(self) -> str:
        """Return all that was done and told, for the message of a failure."""
        lines = [(at, f"** {deed}") for at, deed in self.deeds]
        lines += [(e.at, f"{e.kind} {e.label} {e.text} (process {e.pid})") for e in self.space.events()]
        start = min(at for at, _ in lines) if lines else 0.0
        return "\n".join([f"seed {SEED}:", *(f"{at - start:8.3f} {text}" for at, text in sorted(lines))])

    def tell(self, deed: str) -> None:
        self.deeds.append((time.monotonic(), deed))

    def edit(self, name: str) -> None:
        """Give a scene a text that it never had."""
        self.count += 1
        for space in (self.space, self.here):
            space.write(name, f"{name}{self.count}")
        self.tell(f"edit {name}")

    def repair(self) -> None:
        """Start what is missing; another scheduler has the same address, and other workers."""
        if self.scheduler is None or self.scheduler.status() is not None:
            for worker in self.workers.values():
                worker.end()
            (self.folder / "scheduler.txt").unlink(missing_ok=True)
            self.scheduler = self.server.start("scheduler", "127.0.0.1", self.port)
            while not (self.folder / "scheduler.txt").exists():
                assert self.scheduler.status() is None, self.scheduler.said()
                time.sleep(0.01)
            self.address = (self.folder / "scheduler.txt").read_text()
            self.port = self.address.rpartition(":")[2]
        for number in range(WORKERS):
            worker = self.workers.get(f"w{number}")
            if worker is None or worker.status() is not None:
                self.tell(f"start w{number}")
                self.workers[f"w{number}"] = self.server.start("worker", self.address, "127.0.0.1", f"w{number}")

    def start(self) -> Process:
        options = {"scenes": SCENES, "jobs": self.luck.choice([2, 6]), "settings": {"seconds": SECONDS}}
        self.tell("start the driver")
        return self.server.start("run", str(self.space.root), self.address, json.dumps(options))

    def round(self) -> None:
        for name in self.luck.sample(SCENES, self.luck.randint(1, 3)):
            self.edit(name)
        driver = self.start()
        began = time.monotonic()
        for _ in range(self.luck.randint(1, 3)):
            after_s, is_early = self.luck.uniform(0, 0.5), self.luck.random() < 0.3
            while driver.status() is None and not is_early and not self.has_begun(began):
                time.sleep(0.02)
            time.sleep(after_s)
            if driver.status() is None:
                self.disturb(driver)
                if self.luck.random() < 0.5:
                    self.repair_later()
        self.repair_later()  # without any worker, a driver waits for one
        status = self.end_of(driver)
        assert status in (0, 1, 130, -9), self.story() + driver.said()
        assert "Traceback" not in driver.said() or status in (130, -9), self.story() + driver.said()
        self.counts[f"ended with {status}"] += 1
        self.check_no_child()
        self.repair()

    def has_begun(self, since: float) -> bool:
        return any(event.kind == "begun" and event.at > since for event in self.space.events())

    def end_of(self, driver: Process) -> int:
        """Wait for the end of a driver, which always comes."""
        with contextlib.suppress(pytest.fail.Exception):
            return driver.wait(120)
        return int(pytest.fail(f"{self.story()}\nthe driver still runs:\n{driver.said()}"))

    def repair_later(self) -> None:
        """Start lost workers again while the build runs, as a nanny does; the scheduler stays lost."""
        if self.scheduler is not None and self.scheduler.status() is None:
            self.repair()

    def disturb(self, driver: Process) -> None:
        deed = self.luck.choices(list(DEEDS), list(DEEDS.values()))[0]
        worker = self.luck.choice(list(self.workers.values()))
        below = [pid for pid in descendants(worker.pid) if worker.status() is None]
        hosts = [pid for pid in below if b"cluster.host" in _command(pid)]
        if deed == "kill the driver":
            driver.kill()
        elif deed == "interrupt the driver":
            driver.kill(signal.SIGINT)
        elif deed == "kill the scheduler":
            assert self.scheduler is not None
            self.scheduler.kill()
        elif deed == "kill a worker":
            worker.kill()
        elif deed == "stop a worker for a while":
            worker.kill(signal.SIGSTOP)
            time.sleep(self.luck.uniform(0.1, 1.0))
            worker.kill(signal.SIGCONT)
        else:
            stages = [pid for pid in below if pid in {event.pid for event in self.space.events()}]
            forkservers = [pid for pid in below if b"forkserver" in _command(pid) and pid not in stages]
            among = {"stage": stages, "host": hosts, "forkserver": forkservers}
            victims = next(pids for word, pids in among.items() if word in deed)
            if not victims:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.luck.choice(victims), signal.SIGKILL)
        self.tell(deed)
        self.counts[deed] += 1

    def check_no_child(self) -> None:
        others = [os.getpid(), *(process.pid for process in self.workers.values())]
        left = children_left(self.space.root, 10, but=others)
        commands = [_command(int(pid)).replace(b"\0", b" ").decode() for pid in left]
        assert left == [], f"left 10 s after the driver: {left} {commands}\n{self.story()}"

    def finish(self) -> None:
        """Run to the end: all is as if nothing had happened."""
        driver = self.start()
        assert self.end_of(driver) == 0, self.story() + driver.said()
        assert self.space.shown() == self.space.expected(), self.story()
        assert not list((self.space.root / "cache/tmp").iterdir())
        assert not [path for path in (self.space.root / "cache/store/tmp").iterdir() if path.is_dir()]

    def compare(self) -> None:
        """Build here as well: the same files, keys and contents in the store."""
        self.here.run(jobs=2)
        assert self.space.shown() == self.here.shown(), self.story()
        assert set(self.space.states().values()) == {"fresh"} == set(self.here.states().values()), self.story()
        assert self.space.keys == self.here.keys, self.story()
        objects = [
            {p.parent.name + p.name for p in (s.root / "cache/store/objects").glob("*/*")}
            for s in (self.here, self.space)
        ]
        assert objects[0] <= objects[1], self.story()

    def check_calls(self) -> None:
        """Between two runs of the same stage on the same inputs something was lost, and it was not done before."""
        losses = [at for at, deed in self.deeds if deed in LOSSES]
        last: dict[str, Event] = {}
        built: dict[str, str] = {}  # label -> text that was built
        for event in self.space.events():
            if event.kind == "begun":
                assert built.get(event.label) != event.text, f"{event} was built before\n{self.story()}"
                before = last.get(event.label)
                if before is not None and before.text == event.text:
                    lost = any(before.at < at < event.at for at in losses)
                    assert lost, f"{event} ran twice though nothing was lost\n{self.story()}"
                    self.counts["runs again after a loss"] += 1
                last[event.label] = event
            elif event.kind == "built":
                built[event.label] = last[event.label].text


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "cluster")
    yield server
    server.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_random_kills_on_a_cluster(tmp_path: Path, server: Server) -> None:
    chaos = Chaos(tmp_path, server, random.Random(SEED))
    began = time.monotonic()
    for number in range(ROUNDS):
        chaos.round()
        if number % 3 == 2:
            chaos.finish()
    chaos.finish()
    chaos.compare()
    chaos.check_calls()
    if os.environ.get("RVBUILD_CHAOS_STORY"):
        print(chaos.story())
    print(f"\n{dict(sorted(chaos.counts.items()))} in {time.monotonic() - began:.0f} s")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_that_join_later(tmp_path: Path, server: Server) -> None:
    """One has other code, one cannot start its part, one has a clock of its own: only the last gets jobs."""
    root = tmp_path / "ws"
    space = ToldSpace(root, "")
    server.start("scheduler", "127.0.0.1", "0")
    wait_for((tmp_path / "cluster/scheduler.txt").exists)
    address = (tmp_path / "cluster/scheduler.txt").read_text()
    clock = {"CLOCK_OFF": "3600", "PYTHONPATH": str(root)}
    server.start("worker", address, "127.0.0.1", "off", "2", environment=clock)
    options = {"scenes": space.scenes, "settings": {"seconds": 1.0}}
    driver = server.start("run", str(root), address, json.dumps(options))
    wait_for(lambda: [event for event in space.events() if event.kind == "begun"])
    server.start("worker", address, "127.0.0.1", "other", "2", "code")
    server.start("worker", address, "127.0.0.1", "broken", "2", "session")
    wait_for(lambda: (tmp_path / "cluster/scratch/broken").exists() and (tmp_path / "cluster/scratch/other").exists())
    assert driver.wait(120) == 0, driver.said()
    assert space.shown() == space.expected()
    assert f"warning: {os.uname().nodename} has other code of rvbuild than the driver; it gets no jobs" in driver.said()
    assert "cannot take part (RuntimeError: spoiled); it gets no jobs" in driver.said()
    logs = [path.name for path in (root / "cache/log/cluster").iterdir()]
    assert logs == [f"{os.uname().nodename}-off"]
    newest = max(path.stat().st_mtime for path in (root / "cache/store/objects").glob("*/*"))
    assert newest > time.time() + 1800
    # Nothing depends on the times of another clock.
    space.settings_of_all = options["settings"]
    assert set(space.states().values()) == {"fresh"}
    assert set(space.run().values()) == {"fresh"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_scheduler_that_is_replaced_or_hangs(tmp_path: Path, server: Server) -> None:
    """Another one at the same address knows nothing of the session; one that hangs does not hold up Ctrl-C."""
    chaos = Chaos(tmp_path, server, random.Random(SEED))
    for name in SCENES:
        chaos.edit(name)
    options = json.dumps({"scenes": SCENES, "jobs": 2, "settings": {"seconds": 4.0}})
    for is_replaced in (True, False):
        driver = server.start("run", str(chaos.space.root), chaos.address, options)
        began = time.monotonic()
        wait_for(lambda began=began: chaos.has_begun(began))
        assert chaos.scheduler is not None
        if is_replaced:
            chaos.scheduler.end()
            chaos.repair()
            assert driver.wait(40) == 1
            assert driver.said().count("the connection to the scheduler of the cluster was lost; run again") == 1
        else:
            chaos.scheduler.kill(signal.SIGSTOP)
            driver.kill(signal.SIGINT)
            assert driver.wait(40) == 130
        chaos.check_no_child()
