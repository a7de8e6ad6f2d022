"""A cluster whose workers share no file system with the driver: files go through a remote store."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cluster_space import MORE, interrupt_when_called, wait_for
from conftest import STAGES, Space, children_left

from rvbuild.engine.cluster import executor as module
from rvbuild.engine.cluster.beacon import lit
from rvbuild.engine.cluster.executor import Cluster
from rvbuild.engine.keys.artifact import Demand
from rvbuild.engine.remote.exchange import Exchange
from rvbuild.engine.run.execute import Builder
from rvbuild.engine.run.worker import Job
from rvbuild.engine.run.workers import Inline
from rvbuild.errors import StageError
from rvbuild.progress import Silent

pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: Whether a worker can get a mount namespace of its own, in which the workspaces of the driver are hidden.
HIDES = shutil.which("unshare") is not None and not subprocess.call(
    ["unshare", "-m", "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
)
FAR = """
def bad(inputs, settings, outputs, progress):
    from rvbuild.errors import DataError
    progress.note(f"reads {inputs['text'][0]}")
    raise DataError(f"{inputs['text'][0]}: is bad")

def count(inputs, settings, outputs, progress, resume):
    "Count attempts in the checkpoints; the first is killed."
    _called("count")
    with (resume / "attempts").open("a") as file:
        file.write("x")
    attempts = (resume / "attempts").read_text()
    if len(attempts) < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    (outputs / "out.txt").write_text(view(inputs["text"], {}))

def pair(inputs, settings, outputs, progress, resume):
    "Wait for the other process; the first one has checkpoints, also when the other has ended."
    from rvbuild.cores import part_of_work
    part = part_of_work()
    folder = Path(__file__).with_name(f"pair-{part.port}")
    folder.mkdir(exist_ok=True)
    text = view(inputs["text"], {})
    (folder / str(part.rank)).write_text(text)
    deadline = time.monotonic() + 100
    while len(list(folder.iterdir())) < part.processes and time.monotonic() < deadline:
        time.sleep(0.05)
    if part.rank == 0:
        (resume / "attempts").write_text("x")
        time.sleep(2)
        texts = [path.read_text() for path in folder.iterdir()]
        (outputs / "out.txt").write_text(f"{' '.join(texts)} {(resume / 'attempts').read_text()}")
"""


@dataclasses.dataclass
class Far:
    """Two workers that cannot see the directory `there`, in which the driver has workspaces."""

    address: str
    there: Path
    code: Path
    scratch: Path
    workers: list[subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    from distributed import LocalCluster

    base = tmp_path_factory.mktemp("far")
    there, code, scratch = base / "there", base / "code", base / "scratch"
    for folder in (there, code, scratch):
        folder.mkdir()
    (code / "fakestages.py").write_text(STAGES + MORE + FAR)
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(
            LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50, host="127.0.0.1")
        )
        address = cluster.scheduler_address
        words = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
        words += ["--local-directory", str(scratch), "--host", "127.0.0.1"]
        if HIDES:
            hide = f"mount -t tmpfs none '{there}' && exec \"$@\""
            words = ["unshare", "-m", "sh", "-c", hide, "sh", *words]
        workers = []
        for number in (1, 2):
            log = stack.enter_context((base / f"worker-{number}.log").open("wb"))
            worker = subprocess.Popen(
                [*words, "--name", f"w{number}"], cwd="/", stdout=log, stderr=log, start_new_session=True
            )
            workers.append(worker)
            stack.callback(_end, worker)
        yield Far(address, there, code, scratch / "dask-scratch-space" / "rvbuild", workers)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class FarSpace(Space):
    """A workspace of the driver; results of `upper` are only read by other stages."""

    def __init__(self, root: Path, far: Far, remote: Path | None) -> None:
        super().__init__(root)
        self.far, self.remote = far, None if remote is None else str(remote)
        for name in "abc":
            self.write(name, name)
        (far.code / "calls.txt").unlink(missing_ok=True)
        (far.code / "attempts.txt").unlink(missing_ok=True)

    def opened(self, forced: frozenset[str] = frozenset()) -> Any:
        workspace, plan, builder, recorder = super().opened(forced)
        exchange = None if self.remote is None else Exchange(self.remote, self.root, workspace.store)
        here, cache = builder._executor, self.root / "cache"
        environment = {"PYTHONPATH": str(self.far.code)}
        executor = Cluster(
            self.far.address, environment, cache, cache / "store", (), None, recorder.note, exchange, here
        )
        return workspace, plan, Builder(plan, executor, recorder, staying=["upper"]), recorder

    def calls(self) -> list[str]:
        path = self.far.code / "calls.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def space(far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FarSpace:
    if not HIDES:  # the workers see the workspace, but they are told of files that are not there

        @contextlib.contextmanager
        def unseen(session: str, folders: dict[str, Path]) -> Iterator[Any]:
            with lit(session, folders) as beacon:
                for path, _ in beacon.files.values():
                    path.rename(path.with_name("moved"))
                yield beacon

        monkeypatch.setattr(module, "lit", unseen)
    return FarSpace(far.there / tmp_path.name, far, tmp_path / "remote")


def here(tmp_path: Path) -> Space:
    local = Space(tmp_path / "here")
    for name in "abc":
        local.write(name, name)
    return local


def test_bytes_and_keys_are_those_of_a_local_build(space: FarSpace, tmp_path: Path) -> None:
    local = here(tmp_path)
    opened: list[str] = []

    def hook(event: str, arguments: Any) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | Path):
            opened.append(os.fsdecode(arguments[0]))

    result = local.run()
    sys.addaudithook(hook)
    assert space.run(jobs=4) == result
    by_driver = list(opened)
    assert any("files go through" in line for line in space.recorder.lines)
    # What only other stages read stays in the remote store: no byte of it comes here.
    shown = local.shown()
    assert space.shown() == {name: text for name, text in shown.items() if not name.startswith("upper/")}
    upper = {path.name for path in (tmp_path / "here/cache/store/objects").glob("*/*") if path.read_text() in "ABC"}
    assert len(upper) == 3
    assert not [path for path in by_driver if path.rpartition("/")[2] in {"out.txt", *upper}]
    objects = {path.name for path in (tmp_path / "remote/objects").glob("*/*")}
    assert objects > {path.name for path in (tmp_path / "here/cache/store/objects").glob("*/*")}
    states = space.states()
    assert (local.states(), space.keys) == (dict.fromkeys(local.states(), "fresh"), local.keys)
    assert {label for label, state in states.items() if state != "fresh"} == {"upper:a", "upper:b", "upper:c"}
    assert {outcome.host for outcome in space.outcomes.values()} == {os.uname().nodename}

    space.calls()
    assert set(space.run(jobs=4).values()) == {"fresh"} and space.calls() == []
    space.write("a", "other")
    assert space.run(jobs=4) == {
        **dict.fromkeys(("upper:a", "join", "last"), "built"),
        **dict.fromkeys(("upper:b", "upper:c"), "fresh"),
    }
    assert space.shown()["last/joined.txt"] == b"OTHER|B|C!"
    assert not list((tmp_path / "remote/sessions").iterdir())
    assert not list(space.far.scratch.glob("jobs/*/*"))


def test_without_a_cluster_results_that_stayed_are_restored(space: FarSpace) -> None:
    space.run(jobs=4)
    local = Space(space.root)
    local.remote = space.remote
    assert local.states()["upper:a"] == "restorable"
    assert set(local.run().values()) == {"restored", "fresh"}
    assert local.shown()["upper/a/out.txt"] == b"A"
    # What is here and not there is sent.
    shutil.rmtree(Path(str(space.remote)) / "objects")
    space.settings["join"]["end"] = "?"
    assert space.run(jobs=4)["join"] == "built"
    assert space.shown()["joined.txt"] == b"A|B|C?"


def test_a_job_whose_worker_is_lost_runs_again(space: FarSpace) -> None:
    space.scenes = ["a"]
    artifacts = [
        dataclasses.replace(a, run="fakestages:once", settings={**a.settings, "losses": 1}) if a.stage == "upper" else a
        for a in Space.artifacts(space)
    ]
    space.artifacts = lambda: artifacts  # type: ignore[method-assign]
    assert space.run()["last"] == "built"
    assert (space.far.code / "attempts.txt").read_text() == "xx"
    assert space.shown()["last/joined.txt"] == b"done!"


def test_checkpoints_stay_on_the_machine_of_the_worker(space: FarSpace) -> None:
    space.scenes = ["a"]
    artifacts = [
        dataclasses.replace(a, run="fakestages:count", resume_ignores=()) if a.stage == "upper" else a
        for a in Space.artifacts(space)
    ]
    space.artifacts = lambda: artifacts  # type: ignore[method-assign]
    assert space.run(keep_going=True)["upper:a"] == "failed"
    assert len(list(space.far.scratch.glob("resume/*/attempts"))) == 1
    assert space.run()["upper:a"] == "built"
    assert space.calls() == ["count", "count", "join", "join"]
    assert not list(space.far.scratch.glob("resume/*"))


def test_processes_of_a_training_are_on_several_workers(space: FarSpace) -> None:
    space.scenes = ["a"]
    demand = Demand(cores=1, processes=2)
    artifacts = [
        dataclasses.replace(a, run="fakestages:pair", resume_ignores=(), demand=demand) if a.stage == "upper" else a
        for a in Space.artifacts(space)
    ]
    space.artifacts = lambda: artifacts  # type: ignore[method-assign]
    assert space.run()["last"] == "built", space.outcomes
    assert space.shown()["last/joined.txt"] == b"a a x!"
    assert not list(space.far.scratch.glob("resume/*"))


def test_messages_name_the_files_of_the_driver(space: FarSpace) -> None:
    space.scenes = ["a"]
    artifacts = [
        dataclasses.replace(a, run="fakestages:bad") if a.stage == "upper" else a for a in Space.artifacts(space)
    ]
    space.artifacts = lambda: artifacts  # type: ignore[method-assign]
    assert space.run(keep_going=True)["upper:a"] == "failed"
    assert space.outcomes["upper:a"].message == f"{space.source('a')}: is bad"


def test_an_interrupt_kills_what_runs(space: FarSpace) -> None:
    space.write("a", "slow")
    space.settings["upper"]["seconds"] = 60
    stop = threading.Thread(target=interrupt_when_called, args=(space.far.code,))
    stop.start()
    with pytest.raises(KeyboardInterrupt):
        space.run(jobs=4)
    stop.join()
    assert children_left(space.far.scratch / "jobs", 10) == []


DRIVER = textwrap.dedent(
    """
    import sys
    sys.path[:0] = sys.argv[6:]
    from test_no_shared_files import Far, FarSpace, Path
    there, code, scratch, root = map(Path, sys.argv[2:6])
    space = FarSpace(root, Far(sys.argv[1], there, code, scratch, []), code.parent / "remote")
    space.write("a", "slow")
    space.settings["upper"]["seconds"] = 60
    space.run(jobs=4)
    """
)


@pytest.mark.skipif(not HIDES, reason="needs a mount namespace")
def test_nothing_outlives_a_killed_driver(space: FarSpace) -> None:
    far = space.far
    command = [sys.executable, "-c", DRIVER, far.address, far.there, far.code, far.scratch, space.root]
    driver = subprocess.Popen([*map(str, command), str(Path(__file__).parent)], cwd=Path(__file__).parents[2])
    wait_for(lambda: (far.code / "calls.txt").exists())
    driver.kill()
    driver.wait()
    assert children_left(far.scratch / "jobs", 10) == []
    assert children_left(far.scratch / "log", 20) == []  # the processes that start them
    assert wait_for(lambda: not list(far.scratch.glob("jobs/*")))


def test_a_store_that_cannot_be_used_is_refused(
    space: FarSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def message() -> str:
        _, _, builder, _ = space.opened()
        with pytest.raises(StageError) as caught:
            builder._executor.run(Job("os:getpid", {}, reports=False), Silent())
        builder._executor.close()
        return str(caught.value)

    monkeypatch.setenv("RVBUILD_REMOTE_READ_ONLY", "1")
    assert "RVBUILD_REMOTE_READ_ONLY is set" in message()
    monkeypatch.delenv("RVBUILD_REMOTE_READ_ONLY")
    monkeypatch.setenv("RVBUILD_REMOTE_KEY", "a secret of some letters")
    assert "RVBUILD_REMOTE_KEY is set" in message()
    monkeypatch.delenv("RVBUILD_REMOTE_KEY")
    space.remote = None
    assert "must be shared" in (text := message()) and "set RVBUILD_REMOTE to a store" in text
    if HIDES:
        space.remote = str(space.root / "remote")  # the workers have no such directory
        assert f"has another remote store at {space.root}/remote than the driver" in message()


def test_questions_about_files_are_answered_here(space: FarSpace) -> None:
    _, _, builder, _ = space.opened()
    assert isinstance(builder._executor._here, Inline)
    assert builder._executor.run(Job("os:getpid", {}, reports=False), Silent()) == os.getpid()
    builder._executor.close()
