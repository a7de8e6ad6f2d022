"""Builds on a cluster of Dask: the same bytes and keys as here, whatever is lost meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cluster_space import ClusterSpace, interrupt_when_called, wait_for
from conftest import Space, children_left

from rvbuild.engine.cluster import connect
from rvbuild.engine.cluster.beacon import lit
from rvbuild.engine.cluster.connect import require_address
from rvbuild.engine.cluster.running import hosts_of
from rvbuild.engine.keys.artifact import Demand, Resource
from rvbuild.engine.run.worker import Job
from rvbuild.engine.run.workers import Interrupted
from rvbuild.errors import StageError, UsageError
from rvbuild.progress import Silent

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def workers() -> Iterator[str]:
    """Return the address of a cluster with two workers."""
    with cluster_of(2) as address:
        yield address


@contextlib.contextmanager
def cluster_of(count: int) -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=count, threads_per_worker=1, dashboard_address=":0", silence_logs=50, host="127.0.0.1"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def cluster(tmp_path: Path, workers: str) -> ClusterSpace:
    return ClusterSpace(tmp_path / "ws", workers)


def with_run(
    space: ClusterSpace,
    function: str,
    demand: Demand | None = None,
    **settings: Any,
) -> None:
    """Let the first stage of each scene be another function, which needs torch."""
    artifacts = [
        dataclasses.replace(
            artifact,
            run=f"fakestages:{function}",
            settings={"prefix": artifact.scene, **settings},
            resource=Resource.TORCH,
            demand=demand or Demand(cores=None),
        )
        if artifact.stage == "upper"
        else artifact
        for artifact in Space.artifacts(space)
    ]
    space.artifacts = lambda: artifacts  # type: ignore[method-assign]


@pytest.mark.parametrize("count", [2, 4])
def test_bytes_and_keys_are_those_of_a_local_build(cluster: ClusterSpace, tmp_path: Path, count: int) -> None:
    here = Space(tmp_path / "here")
    for name in "abcdef"[: count + 2]:
        here.write(name, name)
        cluster.write(name, name)
    cluster.scenes = here.scenes = list("abcdef"[: count + 2])
    with cluster_of(count) if count > 2 else contextlib.nullcontext(cluster.address) as cluster.address:
        assert here.run() == cluster.run(jobs=8)
    assert cluster.shown() == here.shown()
    assert (cluster.states(), here.states()) == (dict.fromkeys(cluster.keys, "fresh"), cluster.states())
    assert cluster.keys == here.keys
    assert {outcome.host for outcome in cluster.outcomes.values()} == {os.uname().nodename}


@pytest.mark.parametrize("count", [2, 4])
def test_as_many_jobs_with_torch_run_at_once_as_there_are_workers(cluster: ClusterSpace, count: int) -> None:
    cluster.scenes = list("abcd"[:count])
    cluster.write("d", "d")
    with_run(cluster, "meet", count=count)
    with cluster_of(count) if count > 2 else contextlib.nullcontext(cluster.address) as cluster.address:
        assert cluster.run(jobs=4)["last"] == "built"
    assert cluster.shown()["upper/a/out.txt"] == f"{count} met".encode()
    assert not hosts_of(cluster.root / "cache")


def test_the_driver_opens_no_output(cluster: ClusterSpace) -> None:
    opened: list[str] = []

    def hook(event: str, arguments: Any) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | Path):
            opened.append(os.fsdecode(arguments[0]))

    sys.addaudithook(hook)
    assert cluster.run(jobs=4)["last"] == "built"
    names = [path.rpartition("/")[2] for path in opened]
    assert "out.txt" not in names and "joined.txt" not in names
    objects = {path.parent.name + path.name for path in (cluster.root / "cache/store/objects").glob("*/*")}
    assert objects and not [
        path for path in opened if "".join(path.split("/")[-2:]) in objects or path[-30:] in objects
    ]


def test_a_child_killed_for_memory_fails_its_artifact_and_leaves_the_worker(cluster: ClusterSpace) -> None:
    cluster.write("a", "crash")
    result = cluster.run(jobs=4, keep_going=True)
    assert (result["upper:a"], result["upper:b"], result["upper:c"]) == ("failed", "built", "built")
    message = cluster.outcomes["upper:a"].message
    assert f"on {os.uname().nodename}: the worker process was killed (out of memory?" in message
    cluster.write("a", "fail")
    assert cluster.run(jobs=4, keep_going=True)["upper:a"] == "failed"
    assert cluster.outcomes["upper:a"].message == "the text says fail"


def test_a_job_whose_worker_is_lost_runs_again_in_a_directory_of_its_own(cluster: ClusterSpace) -> None:
    cluster.scenes = ["a"]
    with_run(cluster, "once", losses=1)
    assert cluster.run()["last"] == "built"
    assert cluster.shown()["upper/a/out.txt"] == b"done"
    assert (cluster.root / "attempts.txt").read_text() == "xx"
    assert not list((cluster.root / "cache/store/tmp").iterdir())


def test_an_interrupt_kills_what_runs(cluster: ClusterSpace) -> None:
    cluster.write("a", "slow")
    cluster.settings["upper"]["seconds"] = 60
    stop = threading.Thread(target=interrupt_when_called, args=(cluster.root,))
    stop.start()
    with pytest.raises(KeyboardInterrupt):
        cluster.run(jobs=4)
    stop.join()
    assert children_left(cluster.root, 10, but=[os.getpid()]) == []


DRIVER = textwrap.dedent(
    """
    import sys
    sys.path[:0] = sys.argv[3:]
    from cluster_space import ClusterSpace, Path
    space = ClusterSpace(Path(sys.argv[1]), sys.argv[2])
    space.write("a", "slow")
    space.settings["upper"]["seconds"] = 60
    space.run(jobs=4)
    """
)


def test_no_child_outlives_a_killed_driver(tmp_path: Path, workers: str) -> None:
    root = tmp_path / "killed"
    command = [sys.executable, "-c", DRIVER, str(root), workers, str(Path(__file__).parent)]
    driver = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    assert wait_for(lambda: (root / "calls.txt").exists())
    assert wait_for(lambda: hosts_of(root / "cache"), 10)
    driver.kill()
    driver.wait()
    assert children_left(root, 10, but=[os.getpid()]) == []
    assert hosts_of(root / "cache") == {}


def test_a_directory_that_is_not_shared_is_refused(
    cluster: ClusterSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another directory has no file of the driver, or another one; there, all locks are free."""
    from rvbuild.engine.cluster import executor as module

    def elsewhere(session: str, folders: dict[str, Path]) -> Any:
        @contextlib.contextmanager
        def beacon() -> Iterator[Any]:
            with lit(session, folders) as ours:
                path, _ = ours.files["store"]
                path.rename(path.with_name("moved"))
                yield ours

        return beacon()

    monkeypatch.setattr(module, "lit", elsewhere)
    executor = cluster.executor([])
    with pytest.raises(StageError, match=rf"{os.uname().nodename} does not see the store .* must be shared"):
        executor.run(Job("os:getpid", {}, reports=False), Silent())
    executor.close()


def test_what_a_worker_must_see(tmp_path: Path) -> None:
    with lit("s", {"store": tmp_path / "store"}) as beacon:
        assert beacon.problem() is None and not beacon.is_out()
        path, state = beacon.files["store"]
        other = dataclasses.replace(beacon, files={"store": (path, state._replace(inode=1))})
        assert "other sizes, times or inodes" in str(other.problem())
        copied = tmp_path / "copy"
        copied.write_text(beacon.nonce)
        local = dataclasses.replace(beacon, files={"store": (copied, state.__class__(*_state(copied)))})
        assert "can take a lock in the store" in str(local.problem()) and local.is_out()
        copied.write_text("other")
        assert "has another store" in str(local.problem())
    assert beacon.is_out()


def test_what_a_killed_driver_has_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "killed.session").write_text("nonce")
    (tmp_path / "killed.json").write_text("{}")
    with lit("alive", {"workspace": tmp_path}), lit("other", {"workspace": tmp_path}):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["alive.session", "other.session"]
    assert list(tmp_path.iterdir()) == []


def _state(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def test_another_version_is_refused(cluster: ClusterSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    from rvbuild.engine.cluster import connect

    monkeypatch.setattr(connect, "code_digest", lambda: str(os.getpid()))
    executor = cluster.executor([])
    with pytest.raises(StageError, match="has other code of rvbuild than the driver"):
        executor.run(Job("os:getpid", {}, reports=False), Silent())
    executor.close()


@pytest.mark.parametrize("text", ["local", "local:0", "local:x", "host:8786", "tcp://host", "http://host:1"])
def test_a_text_that_names_no_cluster(text: str) -> None:
    with pytest.raises(UsageError, match="names no cluster; expected local:N"):
        require_address(text, "--on")


def test_nobody_answers_at_an_address(cluster: ClusterSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "_START_S", 1.0)
    cluster.address = "tcp://127.0.0.1:9"
    notes: list[str] = []
    executor = cluster.executor(notes)
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(UsageError, match=r"tcp://127\.0\.0\.1:9: no Dask scheduler answers there"):
            executor.at_once()
    assert time.monotonic() - began < 20
    assert notes == ["tcp://127.0.0.1:9: nobody answers there yet: waiting for up to 1 s …"]
    executor.close()


def test_a_scheduler_that_is_just_starting_is_awaited() -> None:
    with contextlib.ExitStack() as closing, socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
        place.close()

        def start(_: str) -> None:
            closing.enter_context(
                distributed.LocalCluster(n_workers=0, scheduler_port=port, host="127.0.0.1", dashboard_address=":0")
            )

        client = connect.connected(f"tcp://127.0.0.1:{port}", closing, start, threading.Event())
        assert client.status == "running"


def test_waiting_for_a_scheduler_can_be_interrupted(cluster: ClusterSpace) -> None:
    cluster.address = "tcp://127.0.0.1:9"
    executor: Any = None

    def interrupt(_: str) -> None:
        executor.interrupt()

    executor = cluster.executor([])
    executor._note = interrupt
    with pytest.raises(Interrupted):
        executor.at_once()
    executor.close()


def test_a_job_that_loses_worker_after_worker_fails(cluster: ClusterSpace) -> None:
    cluster.scenes = ["a"]
    with_run(cluster, "once", losses=9)
    assert cluster.run(keep_going=True)["upper:a"] == "failed"
    assert "its worker was lost 4 times" in cluster.outcomes["upper:a"].message
    assert (cluster.root / "attempts.txt").read_text() == "xxxx"
