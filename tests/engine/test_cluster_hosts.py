"""Hosts that are cut off, frozen, slow, full or lost during a build: network namespaces, with their own /tmp each."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")
sys.path.insert(0, str(Path(__file__).parent))
from cluster_space import Event, ToldSpace, wait_for
from conftest import children_left
from hosts import HERE, Host, Process, Server, reason_against_hosts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: The scheduler gives up silent workers soon; workers and driver notice a cut connection late, as by default.
PATIENCE = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "2s"}


class Cluster:
    """Two hosts with a worker each, a scheduler, and a workspace that all of them share."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.space = ToldSpace(server.folder / "ws" if server.seen.samefile(server.folder) else server.seen / "ws", "")
        self.hosts = [self.server.host(f"node{number}", 10 + number) for number in (1, 2)]
        self.scheduler = self.server.start("scheduler", HERE, "0")
        wait_for((server.seen / "scheduler.txt").exists)
        self.address = (server.seen / "scheduler.txt").read_text()
        self.workers = [self.worker(host) for host in self.hosts]

    def worker(self, host: Host) -> Process:
        return self.server.start("worker", self.address, host.address, host.name, "1", host=host.pid)

    def build(self, **options: Any) -> Process:
        options = {"scenes": self.space.scenes, **options}
        return self.server.start("run", str(self.server.folder / "ws"), self.address, json.dumps(options))

    def begun(self, label: str, but: str = "") -> Event:
        """Wait until a stage begins; return on which host."""

        def events() -> list[Event]:
            return [e for e in self.space.events() if (e.kind, e.label) == ("begun", label) and e.host != but]

        return wait_for(events)[-1]

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def start_again(self) -> None:
        """Start another scheduler at the address of a dead one, and other workers."""
        for worker in self.workers:
            worker.wait(30)
        port = self.address.rpartition(":")[2]
        (self.server.folder / "scheduler.txt").unlink()
        self.scheduler = self.server.start("scheduler", HERE, port)
        wait_for((self.server.folder / "scheduler.txt").exists)
        self.workers = [self.worker(host) for host in self.hosts]

    def left(self) -> list[str]:
        """Return unfinished files that the next build does not remove."""
        driver = self.build()
        assert driver.wait(120) == 0, driver.said()
        cache = self.space.root / "cache"
        return [path.name for path in [*cache.glob("tmp/*"), *cache.glob("store/tmp/*")]]

    def story(self) -> str:
        said = "\n".join(f"--- {w.what}\n{w.said()}" for w in [self.scheduler, *self.workers])
        return "\n".join([*map(str, self.space.events()), said])


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    if reason := reason_against_hosts():
        pytest.skip(reason)
    server = Server(tmp_path / "shared", True, getattr(request, "param", ""), PATIENCE)
    try:
        yield Cluster(server)
    finally:
        server.close()


def test_a_host_that_was_cut_off_and_returns(cluster: Cluster) -> None:
    """Its job is done elsewhere; what it goes on writing is in no result, and is not recorded.

    Checkpoints are the exception, which attempts share: the next one waits until the first has ended.
    """
    cluster.space.scenes = ["a"]
    driver = cluster.build(settings={"seconds": 4.0}, torch=True, resumes=True)
    lost = cluster.host(cluster.begun("upper:a").host)
    lost.unplug()
    other = cluster.begun("upper:a", but=lost.name)
    lost.plug()
    assert driver.wait(120) == 0, driver.said() + cluster.story()
    assert f"upper:a: started again on {other.host}: the worker on {lost.name} was lost" in driver.said()
    assert f"built upper:a on {other.host}" in driver.said()
    assert cluster.space.shown() == cluster.space.expected()
    kinds = [(e.kind, e.host) for e in cluster.space.events() if e.label == "upper:a"]
    theirs, ours = lost.name, other.host
    assert kinds == [("begun", theirs), ("ended", theirs), ("begun", ours), ("ended", ours), ("built", ours)]
    assert cluster.left() == []


def test_a_host_that_is_frozen_for_a_while(cluster: Cluster) -> None:
    """Its job is done elsewhere meanwhile; then it goes on, in a directory that nobody reads any more."""
    cluster.space.scenes = ["a"]
    driver = cluster.build(settings={"seconds": 3.0})
    lost = cluster.host(cluster.begun("upper:a").host)
    time.sleep(1)
    lost.signal(signal.SIGSTOP)
    other = cluster.begun("upper:a", but=lost.name)
    time.sleep(1)
    lost.signal(signal.SIGCONT)
    assert driver.wait(120) == 0, driver.said() + cluster.story()
    assert f"built upper:a on {other.host}" in driver.said()
    assert cluster.space.shown() == cluster.space.expected()
    assert [e.kind for e in cluster.space.events() if e.label == "upper:a"].count("built") == 1
    assert cluster.left() == []


def test_a_slow_host_is_waited_for(cluster: Cluster) -> None:
    """No job runs twice because it is slow: the host is stopped again and again, but not for long."""
    cluster.space.scenes = ["a", "b", "c"]
    driver = cluster.build(settings={"seconds": 1.0})
    slow = cluster.host(cluster.begun("upper:a").host)
    while driver.status() is None:
        slow.signal(signal.SIGSTOP)
        time.sleep(0.5)
        slow.signal(signal.SIGCONT)
        time.sleep(0.2)
    assert driver.wait(1) == 0, driver.said() + cluster.story()
    assert cluster.space.shown() == cluster.space.expected()
    begun = [e.label for e in cluster.space.events() if e.kind == "begun"]
    assert sorted(begun) == ["join", "last", "upper:a", "upper:b", "upper:c"]


def test_a_host_without_power_and_a_full_disk(cluster: Cluster) -> None:
    """A loss runs again elsewhere; a full /tmp fails what needs it there, and names the host."""
    cluster.space.scenes = ["a", "b"]
    settings = {"seconds": 2.0}
    scratch = cluster.space.root / "scratch.txt"
    scratch.write_text("node1")
    driver = cluster.build(settings=settings)
    assert driver.wait(120) == 1, driver.said() + cluster.story()
    assert "on node1: the disk is full: " in driver.said() and " or /tmp (No space" in driver.said(), driver.said()
    assert "built upper:" in driver.said() and "on node2" in driver.said()  # which stays
    # There is room now, and another host loses its power meanwhile.
    scratch.unlink()
    driver = cluster.build(settings=settings)
    event = wait_for(lambda: [e for e in cluster.space.events() if e.kind == "begun" and e.pid][2:])[0]
    cluster.host(event.host).signal(signal.SIGKILL)
    assert driver.wait(120) == 0, driver.said() + cluster.story()
    assert cluster.space.shown() == cluster.space.expected()
    assert [e.label for e in cluster.space.events() if e.kind == "built"].count(event.label) == 1
    assert len([e for e in cluster.space.events() if e.kind == "built" and e.label.startswith("upper")]) == 2


@pytest.mark.parametrize("cluster", ["96m"], indirect=True)
def test_a_shared_disk_that_is_full(cluster: Cluster) -> None:
    """What did not fit fails with a message; what was built stays, and the next build goes on."""
    cluster.space.scenes = ["a", "b"]
    (cluster.space.root / "ballast").write_bytes(b"x" * (82 << 20))
    settings = {"seconds": 0.2, "more": "x" * 1024, "times": 4 << 10}  # 4 MB, twice: in the store and the workspace
    driver = cluster.build(settings=settings)
    assert driver.wait(120) == 1, driver.said() + cluster.story()
    assert "the disk is full" in driver.said() and "Traceback" not in driver.said(), driver.said()
    assert "rvbuild.engine" not in driver.said()
    (cluster.space.root / "ballast").unlink()
    built = [e.label for e in cluster.space.events() if e.kind == "built"]
    assert len(built) < 4
    driver = cluster.build(settings=settings)
    assert driver.wait(120) == 0, driver.said() + cluster.story()
    assert cluster.space.shown()["upper/b/out.txt"] == b"B" + b"x" * (4 << 20)
    ever = [e.label for e in cluster.space.events() if e.kind == "built"]
    assert {"join", "last", *built} <= set(ever) and len(ever) == len(set(ever))


def test_a_driver_that_is_killed_and_a_scheduler_that_dies(cluster: Cluster) -> None:
    """All processes of stages end within ten seconds on all hosts; the next build goes on."""
    cluster.space.scenes = ["a", "b"]
    others = [worker.pid for worker in cluster.workers]
    driver = cluster.build(settings={"seconds": 30.0})
    cluster.begun("upper:a"), cluster.begun("upper:b")
    driver.kill()
    assert children_left(cluster.space.root, 10, but=others) == []

    driver = cluster.build(settings={"seconds": 30.1})
    wait_for(lambda: [e for e in cluster.space.events() if e.kind == "begun"][3:])
    cluster.scheduler.kill()
    assert driver.wait(30) == 1
    assert driver.said().count("the connection to the scheduler of the cluster was lost; run again") == 1
    assert children_left(cluster.space.root, 10, but=others) == []

    cluster.start_again()
    driver = cluster.build()
    assert driver.wait(120) == 0, driver.said() + cluster.story()
    assert cluster.space.shown() == cluster.space.expected()


def test_another_file_system_on_a_host_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    """A worker whose workspace is not the driver's gets no jobs, and the message names its host."""
    cluster.hosts[0].cover(cluster.space.root)
    driver = cluster.build()
    assert driver.wait(120) == 0, driver.said() + cluster.story()
    assert "warning: node1 does not see the workspace" in driver.said()
    assert {e.host for e in cluster.space.events() if e.kind == "begun"} == {"node2"}
