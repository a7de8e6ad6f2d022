"""Jobs of several processes on a cluster: all at once, on several workers, and started again when one is lost."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Recorder, Space
from test_cluster import ClusterSpace, with_run

from rvbuild.engine.cluster import together
from rvbuild.engine.cluster.executor import Cluster
from rvbuild.engine.cluster.offers import Offers
from rvbuild.engine.keys.artifact import Artifact, Demand, Resource
from rvbuild.errors import StageError

pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PARTS = '''
from rvbuild.cores import part_of_work
from rvbuild.errors import DataError, PeerLostError

def parts(inputs, settings, outputs, progress):
    """Meet the other processes in a directory of this attempt; what the settings name happens to the last one."""
    part = part_of_work()
    folder = Path(__file__).with_name(f"meeting-{settings['prefix']}-{part.port}")
    folder.mkdir(exist_ok=True)
    (folder / str(part.rank)).write_text(str(worker_of(os.getpid())))
    deadline = time.monotonic() + 100
    while len(list(folder.iterdir())) < part.processes:
        time.sleep(0.05)
        if time.monotonic() > deadline:
            raise PeerLostError("the others have not come")
    attempts = Path(__file__).with_name("attempts.txt")
    if part.rank == part.processes - 1 and settings.get("happens"):
        with attempts.open("a") as file:
            file.write(f"{part.processes} ")
        if len(attempts.read_text().split()) <= settings["times"]:
            if settings["happens"] == "worker":
                os.kill(worker_of(os.getpid()), signal.SIGKILL)
            if settings["happens"] == "process":
                os.kill(os.getpid(), signal.SIGKILL)
            if settings["happens"] == "error":
                raise DataError("the labels are wrong")
            time.sleep(100)
    elif settings.get("happens"):
        while not attempts.exists() or len(attempts.read_text().split()) <= settings["times"]:
            time.sleep(0.05)
    if part.rank == 0:
        workers = {path.read_text() for path in folder.iterdir()}
        (outputs / "out.txt").write_text(f"{part.processes} on {len(workers)}")
'''


class Lines(Recorder):
    def begins(self, artifact: Any, decision: Any) -> Any:
        recorder = self

        class Noting:
            def start(self, *words: Any) -> None: ...

            def advance(self, n: int = 1) -> None: ...

            def note(self, message: str) -> None:
                recorder.lines.append(message)

        return Noting()


@pytest.fixture(scope="module")
def workers() -> Iterator[str]:
    """Return the address of a cluster with two workers of two slots each."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=2,
        resources={"torch": 2},
        dashboard_address=None,
        silence_logs=50,
        host="127.0.0.1",
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def space(tmp_path: Path, workers: str, monkeypatch: pytest.MonkeyPatch) -> ClusterSpace:
    space = ClusterSpace(tmp_path / "ws", workers)
    space.scenes = ["a"]
    with (space.root / "fakestages.py").open("a") as file:
        file.write(PARTS)
    monkeypatch.setattr(together, "_RETURN_S", 1.0)
    monkeypatch.setitem(Space.opened.__globals__, "Recorder", Lines)  # several modules are called conftest
    return space


def wanting(space: ClusterSpace, processes: int, **settings: Any) -> None:
    with_run(space, "parts", demand=Demand(cores=1, processes=processes), **settings)


def notes(space: ClusterSpace) -> list[str]:
    return [line for line in space.recorder.lines if "process" in line]


def test_processes_are_on_all_workers_at_once(space: ClusterSpace) -> None:
    wanting(space, 4)
    assert space.run()["last"] == "built"
    assert space.shown()["upper/a/out.txt"] == b"4 on 2" and not notes(space)
    assert not list((space.root / "cache/store/tmp").iterdir())


def test_processes_are_no_more_than_slots(space: ClusterSpace) -> None:
    wanting(space, 8)
    assert space.run()["last"] == "built"
    assert space.shown()["upper/a/out.txt"] == b"4 on 2"
    assert notes(space) == ["4 processes instead of 8: workers have no more slots"]


def test_two_jobs_that_want_all_slots_do_not_wait_for_each_other(space: ClusterSpace) -> None:
    space.scenes = ["a", "b", "c"]
    wanting(space, 4)
    assert space.run(jobs=4)["last"] == "built"
    assert [space.shown()[f"upper/{name}/out.txt"] for name in "abc"] == [b"4 on 2"] * 3


def test_a_killed_process_is_missing_in_the_next_attempt(space: ClusterSpace) -> None:
    wanting(space, 4, happens="process", times=1)
    assert space.run()["last"] == "built", space.outcomes
    assert space.shown()["upper/a/out.txt"] == b"3 on 2"
    (note,) = notes(space)
    assert note.startswith("started again in 3 processes on 127.0.0.1 (3): on ") and "was killed" in note
    assert (space.root / "attempts.txt").read_text() == "4 3 "


def test_a_lost_worker(space: ClusterSpace) -> None:
    wanting(space, 4, happens="worker", times=1)
    assert space.run()["last"] == "built", space.outcomes
    assert (space.root / "attempts.txt").read_text() in ("4 2 ", "4 4 ")
    assert "the worker on 127.0.0.1 was lost" in notes(space)[0]


def test_an_error_of_one_ends_all(space: ClusterSpace) -> None:
    wanting(space, 2, happens="error", times=9)
    began = time.monotonic()
    assert space.run(keep_going=True)["upper:a"] == "failed"
    assert space.outcomes["upper:a"].message == "the labels are wrong"
    assert (space.root / "attempts.txt").read_text() == "2 " and time.monotonic() - began < 60


def test_processes_that_are_lost_again_and_again(space: ClusterSpace) -> None:
    wanting(space, 2, happens="process", times=9)
    assert space.run(keep_going=True)["upper:a"] == "failed"
    message = space.outcomes["upper:a"].message
    assert message.startswith("its processes were lost 4 times; the last time, on ") and "was killed" in message
    assert len((space.root / "attempts.txt").read_text().split()) == 4


def offering(offers: Mapping[str, Mapping[str, float]]) -> Offers:
    every = {address: {"s": 2, **offer} for address, offer in offers.items()}
    return Offers(lambda since_s: every, "s")


LARGE = {"rvbuild.memory": 100, "rvbuild.compute": 1, "rvbuild.torch": 0, "rvbuild.gpu": 0}
SMALL = {"rvbuild.memory": 10, "rvbuild.compute": 2, "rvbuild.torch": 2, "rvbuild.gpu": 0}


def artifact(resource: Resource, demand: Demand) -> Artifact:
    return Artifact("x:p", "p", "x", None, "m:f", 1, {}, (), "cache/p", resource=resource, demand=demand)


def test_memory_is_that_of_workers_that_have_all_else() -> None:
    offers = offering({"l": LARGE, "s": SMALL})
    needs = offers.needs("torch", Demand(cores=1, memory=50))
    assert needs["rvbuild.memory"] == 10 and offers.having(needs) == [{"s": 2, **SMALL}]
    assert offers.needs("cpu", Demand(memory=50))["rvbuild.memory"] == 50
    assert offers.slots(offers.needs("torch", Demand(cores=1, memory=5))) == {"l": 0, "s": 2}


def test_what_no_worker_can_build() -> None:
    anywhere, on_gpu = (
        artifact(Resource.TORCH, Demand(cores=1, device="auto")),
        artifact(Resource.TORCH, Demand(device="cuda")),
    )
    assert offering({}).lacking([anywhere]) == []
    assert offering({"l": LARGE}).lacking([anywhere]) == ["x (needs compute and torch)"]
    offers = offering({"l": LARGE, "s": SMALL})
    assert offers.lacking([anywhere, *[on_gpu] * 6]) == ["x, x, x, x and 2 more (needs compute, torch and gpu)"]


def test_a_build_that_can_never_be_placed_is_refused_at_once(tmp_path: Path) -> None:
    told: list[str] = []
    cluster = Cluster("tcp://127.0.0.1:1", {}, tmp_path, tmp_path, (), None, told.append)
    cluster.link.client = object()
    cluster.offers = offering({"l": LARGE})
    wanting = artifact(Resource.TORCH, Demand(cores=1))
    cluster.require([wanting])
    assert told == ["warning: no worker can build x (needs compute and torch): it will wait for one that joins"]
    cluster.fixed = 1
    with pytest.raises(StageError, match=r"no worker of tcp://127.0.0.1:1 can build\n  x \(needs compute and torch\)"):
        cluster.require([wanting])
