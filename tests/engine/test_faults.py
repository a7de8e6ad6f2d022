"""Faults that really happen: killed workers, killed runs, inputs edited meanwhile, two runs at once."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import STAGES, children_in, children_left

from rvbuild.engine.keys.artifact import ContentDigest, Source
from rvbuild.engine.remote.store import RemoteStore
from rvbuild.engine.run.worker import Job
from rvbuild.engine.run.workers import Inline, Pool
from rvbuild.engine.upkeep.inventory import take_inventory
from rvbuild.engine.workspace import Workspace, locked
from rvbuild.errors import StoreError, WorkerDiedError
from rvbuild.progress import Silent


def test_a_killed_worker_is_a_failure_not_a_hang(new_space):
    space = new_space(pool=True)
    for name, text in {"a": "a", "b": "crash", "c": "c"}.items():
        space.write(name, text)
    result = space.run(jobs=2, keep_going=True)
    assert result["upper:b"] == "failed"
    assert "killed (out of memory?" in space.outcomes["upper:b"].message
    assert result["upper:a"] == result["upper:c"] == "built"
    space.write("b", "b")
    assert space.run(jobs=2)["last"] == "built"


def test_a_dead_worker_says_what_it_was_reading(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "reads_and_dies.py").write_text(
        textwrap.dedent("""
            import os, signal
            from rvbuild.files.readers import reading

            def run(paths, number):
                with reading(paths[0], "as a raster"):
                    pass
                with reading(paths[1], "as a vector file"):
                    os.kill(os.getpid(), number)
        """)
    )
    pool = Pool({}, tmp_path / "log")
    job = {"paths": ["good.tif", "bad.gpkg"], "number": signal.SIGABRT}
    try:
        with pytest.raises(
            WorkerDiedError, match=r"died of SIGABRT while it read bad.gpkg; is the file damaged\?"
        ) as died:
            pool.run(Job("reads_and_dies:run", job, reports=False), Silent())
        assert died.value.files == ("bad.gpkg",)
        with pytest.raises(WorkerDiedError, match=r"was killed \(out of memory\?.*\) while it read bad.gpkg; its"):
            pool.run(
                Job("reads_and_dies:run", {**job, "number": signal.SIGKILL}, reports=False),
                Silent(),
            )
        with pytest.raises(WorkerDiedError, match=r"died of SIGABRT; its output is in") as died:
            pool.run(Job("os:abort", {}, reports=False), Silent())
        assert died.value.files == ()
    finally:
        pool.close()


def test_semaphores_of_killed_processes_are_no_news() -> None:
    """Workers end by a signal: what data loaders and libraries had would be a warning of Python's on the terminal."""
    code = """
        import multiprocessing, os, signal
        from rvbuild.engine.run import workers
        with workers.apart({}):
            pass
        lock = multiprocessing.get_context("forkserver").Lock()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "", "")


def the_forkserver() -> int:
    from multiprocessing import forkserver

    return int(forkserver._forkserver._forkserver_pid)


@pytest.mark.slow
def test_a_killed_server_of_workers_is_a_failure_and_the_run_goes_on(new_space):
    """The process that starts workers is a process like others to a kernel that lacks memory."""
    space = new_space(pool=True)
    for name, text in {"a": "slow", "b": "b", "c": "c"}.items():
        space.write(name, text)
    space.settings["upper"]["seconds"] = 20

    def kill() -> None:
        wait_for_call(space)
        os.kill(the_forkserver(), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    result = space.run(keep_going=True)
    thread.join()
    assert result["upper:a"] == "failed"
    assert "was lost because the process that starts workers" in space.outcomes["upper:a"].message
    assert (result["upper:b"], result["upper:c"]) == ("built", "built")
    assert children_in(space.root) == []
    os.kill(the_forkserver(), signal.SIGKILL)  # and between two runs
    space.write("a", "a")
    assert space.run(jobs=2)["last"] == "built"


def test_workers_that_cannot_be_started_are_a_failure(new_space, monkeypatch):
    space = new_space(pool=True)
    for name in "abc":
        space.write(name, name)
    forked = Pool._fork
    left = iter([EOFError(), None, *[BlockingIOError(11, "Resource temporarily unavailable")] * 4])
    monkeypatch.setattr("rvbuild.engine.run.workers._PAUSES_S", (0.0, 0.0, 0.0))

    def fork(pool, log):
        error = next(left, None)
        if error is not None:
            raise error
        return forked(pool, log)

    monkeypatch.setattr(Pool, "_fork", fork)
    assert space.run("upper:p:a") == {"upper:a": "built"}
    assert space.run("upper:p:b") == {"upper:b": "failed"}
    assert "cannot start a worker process: [Errno 11] Resource temporarily" in space.outcomes["upper:b"].message


def test_an_unexpected_error_is_a_failure_that_is_said(space):
    space.settings["upper"] = {}  # the stage looks for a prefix
    result = space.run(keep_going=True)
    assert result["upper:a"] == "failed"
    assert space.outcomes["upper:a"].message == "KeyError: 'prefix'"
    assert "Traceback" in space.outcomes["upper:a"].detail


@pytest.mark.slow
def test_an_input_edited_while_its_stage_runs_is_never_recorded(new_space):
    space = new_space(pool=True)
    for name, text in {"a": "held", "b": "b", "c": "c"}.items():
        space.write(name, text)

    def edit() -> None:
        while not (space.root / "calls.txt").exists():
            time.sleep(0.01)
        space.write("a", "edited")
        (space.root / "go").touch()

    thread = threading.Thread(target=edit)
    thread.start()
    result = space.run("upper:p:a")
    thread.join()
    assert result["upper:a"] == "failed"
    assert "a.txt changed while upper:a was built from it" in space.outcomes["upper:a"].message
    assert not (space.root / "cache/p/upper/a/out.txt").exists()
    assert space.run("upper:p:a")["upper:a"] == "built"
    assert (space.root / "cache/p/upper/a/out.txt").read_text() == "EDITED"


def test_an_input_edited_and_put_back_during_a_run_is_never_recorded(space, monkeypatch):
    """As a checkout of another branch and back does, while one stage after the other runs."""
    real, text = Inline.run, space.source("b").read_text()

    def run(executor, job, progress):
        if "b.txt" in str(job.kwargs.get("inputs")):
            space.write("b", "x")  # of the same size
            made = real(executor, job, progress)
            space.write("b", text)
            return made
        return real(executor, job, progress)

    with monkeypatch.context() as patched:
        patched.setattr(Inline, "run", run)
        assert space.run("upper:p:b") == {"upper:b": "failed"}
    assert "b.txt changed while upper:b was built from it" in space.outcomes["upper:b"].message
    assert space.run()["upper:b"] == "built"
    assert (space.root / "cache/p/upper/b/out.txt").read_text() == "B"


def test_a_file_that_appears_beside_an_input_during_a_run_is_seen(space, monkeypatch):
    """The stage may have read it, and the key does not hold it."""
    real, sidecar = Inline.run, space.root / "b.txt.aux"
    space.appeared = lambda path: [sidecar] if path.name == "b.txt" and sidecar.exists() else []

    def run(executor, job, progress):
        if "b.txt" in str(job.kwargs.get("inputs")):
            sidecar.write_text("")
        return real(executor, job, progress)

    with monkeypatch.context() as patched:
        patched.setattr(Inline, "run", run)
        assert space.run("upper:p:b") == {"upper:b": "failed"}
    assert space.outcomes["upper:b"].message == (
        "b.txt.aux, which belongs to b.txt, appeared while upper:b was built from it: nothing was stored; run again"
    )
    assert space.run("upper:p:b") == {"upper:b": "failed"}
    assert (
        "b.txt.aux, which belongs to b.txt, appeared after this run began and before upper:b was built"
        in space.outcomes["upper:b"].message
    )
    sidecar.unlink()
    assert space.run("upper:p:b") == {"upper:b": "built"}


def test_a_view_with_a_file_that_appeared_is_not_kept_for_the_file_without_it(space, monkeypatch):
    space.view = ContentDigest("fakestages:view")
    space.write("b", "b")
    real, sidecar = Inline.run, space.root / "b.txt.aux"
    space.appeared = lambda path: [sidecar] if path.name == "b.txt" and sidecar.exists() else []

    def run(executor, job, progress):
        if job.function.endswith("view") and "b.txt" in str(job.kwargs):
            sidecar.write_text("")
        made = real(executor, job, progress)
        return "of the file with the other" if sidecar.exists() and job.function.endswith("view") else made

    with monkeypatch.context() as patched:
        patched.setattr(Inline, "run", run)
        assert space.run("upper:p:b") == {"upper:b": "failed"}
    sidecar.unlink()
    assert space.run("upper:p:b") == {"upper:b": "built"}
    space.write("b", "b # remark")
    assert space.run("upper:p:b")["upper:b"] in ("fresh", "restored")


def test_an_input_edited_before_its_stage_begins_is_planned_anew(space, monkeypatch):
    space.run()
    space.write("b", "x")
    space.run()
    for name in "ab":
        space.write(name, "y")
    space.calls()
    real, texts = Inline.run, iter(["b", "z"])

    def run(executor, job, progress):
        if "a.txt" in str(job.kwargs.get("inputs")):
            space.write("b", next(texts))
        return real(executor, job, progress)

    def build():
        result = space.run("upper:p:a", "upper:p:b", "join:p", forced=frozenset(["upper:p:a"]))
        return result, space.calls(), (space.root / "cache/p/joined.txt").read_text()

    monkeypatch.setattr(Inline, "run", run)
    result, calls, text = build()
    assert (result["upper:b"], result["join"], calls, text) == ("restored", "built", ["upper", "join"], "Y|B|C")
    space.write("b", "q")
    result, calls, text = build()
    assert (result["upper:b"], calls, text) == ("built", ["upper", "upper", "join"], "Y|Z|C")


def test_a_touch_before_a_stage_is_no_change_and_during_it_one(space, monkeypatch):
    real = Inline.run

    def run(executor, job, progress):
        for name in "bc":
            os.utime(space.source(name))
        return real(executor, job, progress)

    with monkeypatch.context() as patched:
        patched.setattr(Inline, "run", run)
        result = space.run("upper:p:a", "upper:p:b", "upper:p:c", keep_going=True)
    assert result == {"upper:a": "built", "upper:b": "failed", "upper:c": "failed"}
    assert set(space.run().values()) == {"built", "fresh"}


@pytest.mark.parametrize("back", [False, True])
def test_code_that_changes_during_a_run_may_be_any_that_a_worker_has_imported(space, monkeypatch, back):
    code = space.root / "own.py"
    code.write_text("A = 1")
    artifacts = [
        dataclasses.replace(a, inputs=(*a.inputs, Source("code", (code,), passed=False))) for a in space.artifacts()
    ]
    monkeypatch.setattr(space, "artifacts", lambda: artifacts)
    real = Inline.run

    def run(executor, job, progress):
        if back:
            code.write_text("A = 2")
            code.write_text("A = 1")
        return real(executor, job, progress)

    with monkeypatch.context() as patched:
        patched.setattr(Inline, "run", run)
        result = space.run("upper:p:a", "upper:p:b", keep_going=True)
    assert set(result.values()) == {"failed" if back else "built"}
    if back:
        assert "own.py changed while upper:a was built from it" in space.outcomes["upper:a"].message
        assert "own.py changed after this run began" in space.outcomes["upper:b"].message


def test_an_output_edited_and_put_back_while_another_stage_reads_it(space, monkeypatch):
    real, path = Inline.run, space.root / "cache/p/upper/b/out.txt"

    def run(executor, job, progress):
        if job.function.endswith("join") and path.exists():
            text = path.read_text()
            path.chmod(0o644)
            path.write_text("x")
            made = real(executor, job, progress)
            path.write_text(text)
            return made
        return real(executor, job, progress)

    with monkeypatch.context() as patched:
        patched.setattr(Inline, "run", run)
        assert space.run("join:p")["join"] == "failed"
    assert "out.txt, built by upper:b, changed while join read it" in space.outcomes["join"].message
    assert space.run("join:p")["join"] == "built"
    assert (space.root / "cache/p/joined.txt").read_text() == "A|B|C"


def test_a_view_of_a_file_that_changes_meanwhile_is_not_kept_for_what_it_was(space, monkeypatch):
    """Labels put back while they are digested: what was digested are others."""
    space.view = ContentDigest("fakestages:view")
    space.write("b", "b")
    real = Inline.run
    left = iter(range(2))

    def run(executor, job, progress):
        if job.function.endswith("view") and "b.txt" in str(job.kwargs) and next(left, None) is not None:
            space.write("b", "x")
            made = real(executor, job, progress)
            space.write("b", "b")
            return made
        return real(executor, job, progress)

    with monkeypatch.context() as patched:
        patched.setattr(Inline, "run", run)
        assert space.run("upper:p:b") == {"upper:b": "built"}
    assert (space.root / "cache/p/upper/b/out.txt").read_text() == "B"
    space.write("b", "x")
    assert space.run("upper:p:b") == {"upper:b": "built"}
    space.write("b", "b # remark")
    assert space.run("upper:p:b") == {"upper:b": "restored"}


RUN = textwrap.dedent(
    """
    import sys
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    from conftest import Space
    from rvbuild.engine.workspace import locked

    if __name__ == "__main__":
        import signal
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        space = Space(Path({root!r}), pool=True)
        space.settings["upper"]["seconds"] = {seconds!r}
        with locked(space.root, print):
            space.run(jobs=2)
    """
)


def start(space) -> subprocess.Popen[bytes]:
    script = space.root / "run.py"
    seconds = space.settings["upper"].get("seconds", 1)
    script.write_text(RUN.format(tests=str(Path(__file__).parent), root=str(space.root), seconds=seconds))
    return subprocess.Popen([sys.executable, str(script)], start_new_session=True)


def wait_for_call(space) -> None:
    deadline = time.monotonic() + 120
    while not (space.root / "calls.txt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.3])
def test_a_killed_run_leaves_nothing_half_done(new_space, delay):
    space = new_space(pool=True)
    for name, text in {"a": "held", "b": "b", "c": "c"}.items():
        space.write(name, text)
    process = start(space)
    wait_for_call(space)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert children_left(space.root, 60) == []
    for name, content in space.shown().items():
        assert content in (b"B", b"C"), name
    (space.root / "go").touch()
    assert space.run()["last"] == "built"
    assert (space.root / "cache/p/last/joined.txt").read_text() == "HELD|B|C!"
    assert not list((space.root / "cache/store/tmp").iterdir())


def test_two_runs_on_one_workspace_wait_for_each_other(tmp_path):
    lines: list[str] = []
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path, lines.append):
            order.append("second")

    with locked(tmp_path, lines.append):
        thread = threading.Thread(target=second)
        thread.start()
        while not lines:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert "waiting for another rvbuild" in lines[0]


@pytest.mark.slow
def test_two_processes_on_one_workspace_build_everything_once(new_space):
    space = new_space(pool=True)
    for name, text in {"a": "slow", "b": "b", "c": "c"}.items():
        space.write(name, text)
    runs = [start(space), start(space)]
    assert [run.wait(60) for run in runs] == [0, 0]
    assert sorted(space.calls()) == ["join", "join", "upper", "upper", "upper"]
    assert (space.root / "cache/p/last/joined.txt").read_text() == "SLOW|B|C!"


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_keeps_what_was_finished(new_space, signal_number):
    space = new_space(pool=True)
    space.settings["upper"]["seconds"] = 1  # as the process has it
    for name, text in {"a": "held", "b": "b", "c": "c"}.items():
        space.write(name, text)
    process = start(space)
    deadline = time.monotonic() + 120
    while not (space.root / "cache/p/upper/c/out.txt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal_number)
    process.wait(120)
    assert children_in(space.root) == []
    space.write("a", "a")
    result = space.run()
    assert (result["upper:a"], result["upper:b"], result["upper:c"]) == ("built", "fresh", "fresh")
    assert not list((space.root / "cache/store/tmp").iterdir())


@pytest.mark.slow
def test_an_edit_of_equal_size_with_the_time_put_back_is_seen(space):
    space.run()
    path = space.root / "a.txt"
    before = path.stat()
    time.sleep(0.03)
    path.write_text("z")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert space.run()["upper:a"] == "built"
    assert (space.root / "cache/p/last/joined.txt").read_text() == "Z|B|C!"
    output = space.root / "cache/p/joined.txt"
    before = output.stat()
    output.write_text("X|B|C")
    os.utime(output, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert space.run()["join"] == "restored"
    assert output.read_text() == "Z|B|C"


@pytest.mark.slow
@pytest.mark.parametrize("days", [-400, 400])
def test_a_clock_that_was_moved(space, monkeypatch, days):
    """Digests, records and temporary files are from another time; nothing is missed, nothing hangs, nothing is lost."""
    offset = days * 86400
    real, real_ns = time.time, time.time_ns
    with monkeypatch.context() as moved:
        moved.setattr(time, "time", lambda: real() + offset)
        moved.setattr(time, "time_ns", lambda: real_ns() + offset * 10**9)
        space.run()
        space.write("a", "x")
        assert space.run()["upper:a"] == "built"
        assert set(space.run().values()) == {"fresh"}
    space.write("a", "y")
    assert space.run()["upper:a"] == "built"
    assert set(space.run().values()) == {"fresh"}
    os.utime(space.root / "b.txt", (real() + offset, real() + offset))  # an input from the future, or from the past
    assert set(space.run().values()) == {"fresh"}
    space.write("b", "z")
    os.utime(space.root / "b.txt", (real() + offset, real() + offset))
    assert space.run()["upper:b"] == "built"
    assert (space.root / "cache/p/last/joined.txt").read_text() == "Y|Z|C!"


@pytest.mark.slow
def test_an_input_of_two_artifacts_edited_while_both_run(new_space, monkeypatch):
    """The first one that ends finds the edit; the second must not take the new content for what it was planned with."""
    space = new_space(pool=True)
    for name in "abc":
        space.write(name, "held slow")
    space.settings["upper"]["seconds"] = 0
    artifacts = space.artifacts()
    shared = dataclasses.replace(artifacts[1], inputs=(dataclasses.replace(artifacts[1].inputs[0]),))
    source = dataclasses.replace(shared.inputs[0], files=artifacts[0].inputs[0].files)
    late = {**shared.settings, "seconds": 0.6}
    artifacts[1] = dataclasses.replace(shared, inputs=(source,), settings=late)
    monkeypatch.setattr(space, "artifacts", lambda: artifacts)

    def edit() -> None:
        while (
            len((space.root / "calls.txt").read_text().splitlines() if (space.root / "calls.txt").exists() else ()) < 2
        ):
            time.sleep(0.01)
        space.write("a", "edited")
        (space.root / "go").touch()

    thread = threading.Thread(target=edit)
    thread.start()
    result = space.run("upper:p:a", "upper:p:b", jobs=2, keep_going=True)
    thread.join()
    assert result == {"upper:a": "failed", "upper:b": "failed"}
    assert all("a.txt changed while" in o.message for o in space.outcomes.values())


NAMES = ["with space", "it's", 'say "x"', "größe-北", "line\nbreak", "-n", "#", "a;b&c|d", "*?[x]", "%s{id}", "~"]


@pytest.mark.slow
def test_names_of_every_kind(new_space, tmp_path):
    """Files, folders and scenes whose names mean something to shells, patterns, URLs and terminals."""
    space = new_space(pool=True)
    space.root = tmp_path / 'work space\'s "ü"\n*'
    space.root.mkdir()
    (space.root / "fakestages.py").write_text(STAGES)
    space.scenes = NAMES
    for name in NAMES:
        space.write(name, name.strip())
    result = space.run(jobs=2)
    assert set(result.values()) == {"built"}, [o.message for o in space.outcomes.values() if o.message]
    for name in NAMES:
        expected = name.strip().upper().split("#")[0].strip()
        assert (space.root / f"cache/p/upper/{name}/out.txt").read_text() == expected
    assert set(space.run().values()) == {"fresh"}
    shutil.rmtree(space.root / "cache/p")
    assert set(space.run().values()) == {"restored"}
    folder = tmp_path / 'else where\'s "ö"#?%20'
    workspace = Workspace(space.root)
    moved = RemoteStore(str(folder)).push(workspace.store, take_inventory(workspace.store).actions, Silent())
    workspace.close()
    assert (moved.records, moved.problems) == (len(NAMES) + 2, ())
    other = new_space(pool=True)
    other.scenes = NAMES
    for name in NAMES:
        other.write(name, name.strip())
    workspace = Workspace(other.root)
    remote = RemoteStore(str(folder))
    remote.pull(workspace.store, sorted(remote.keys), Silent())
    workspace.close()
    assert set(other.run().values()) == {"restored"}


def test_a_worker_that_runs_out_of_memory_says_so(new_space):
    space = new_space(pool=True)
    for name, text in {"a": "hungry", "b": "b", "c": "c"}.items():
        space.write(name, text)
    result = space.run(jobs=2, keep_going=True)
    assert (result["upper:a"], result["upper:b"], result["join"]) == ("failed", "built", "skipped")
    assert "ran out of memory" in space.outcomes["upper:a"].message
    space.write("a", "a")
    assert space.run()["last"] == "built"


@pytest.fixture
def small_group():
    """A control group whose processes may use 80 MB together, or no test."""
    limits = {"memory/": "memory.limit_in_bytes", "": "memory.max"}
    for folder, limit in limits.items():
        group = Path("/sys/fs/cgroup", folder, f"rvbuild-test-{os.getpid()}")
        if not (group.parent / limit.replace(".max", ".stat")).exists():
            continue
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(80 << 20))
            yield group
            return
        except OSError:
            continue
        finally:
            group.rmdir()
    pytest.skip("cannot make a control group with a memory limit here")


@pytest.mark.slow
def test_a_worker_that_the_kernel_kills_for_memory_is_a_failure(new_space, small_group):
    space = new_space(pool=True)
    space.settings["upper"]["group"] = str(small_group)
    for name, text in {"a": "greedy", "b": "b", "c": "c"}.items():
        space.write(name, text)
    result = space.run(jobs=2, keep_going=True)
    assert (result["upper:a"], result["upper:b"], result["upper:c"]) == ("failed", "built", "built")
    assert "was killed (out of memory? try `-j 1` or a smaller batch)" in space.outcomes["upper:a"].message
    space.write("a", "a")
    assert space.run()["last"] == "built"


def test_keep_going_does_all_that_can_be_done(new_space):
    space = new_space(pool=True)
    for name, text in {"a": "fail", "b": "crash", "c": "c"}.items():
        space.write(name, text)
    result = space.run(jobs=2, keep_going=True)
    assert result == {
        "upper:a": "failed",
        "upper:b": "failed",
        "upper:c": "built",
        "join": "skipped",
        "last": "skipped",
    }
    assert space.outcomes["upper:a"].message == "the text says fail"
    assert "killed (out of memory?" in space.outcomes["upper:b"].message
    for name in "ab":
        space.write(name, name)
    again = space.run(jobs=2)
    assert (again["upper:c"], again["last"]) == ("fresh", "built")


@pytest.mark.slow
def test_what_is_in_the_way_of_an_output_is_moved_aside(space):
    """A directory in place of a file, a file in place of a directory; never a link, which somebody made on purpose."""
    space.run()
    expected = space.shown()
    output = space.root / "cache/p/upper/a/out.txt"

    def full_directory() -> None:
        output.unlink()
        output.mkdir()
        (output / "x").touch()

    def file_for_directory() -> None:
        shutil.rmtree(output.parent)
        output.parent.write_text("x")

    def file_above() -> None:
        shutil.rmtree(output.parent.parent)
        output.parent.parent.write_text("x")

    def pipe() -> None:
        output.unlink()
        os.mkfifo(output)

    for put in (full_directory, file_for_directory, file_above, pipe):
        put()
        assert "failed" not in space.run(keep_going=True).values(), put
        assert space.shown() == expected, put
    other_folder = space.root / "elsewhere"
    shutil.rmtree(output.parent)
    output.parent.symlink_to(other_folder)
    assert space.run(keep_going=True)["upper:a"] == "failed"
    assert "is a symbolic link" in space.outcomes["upper:a"].message
    assert not other_folder.exists()


@pytest.mark.timeout(60)
def test_a_pipe_is_no_input(space):
    space.source("a").unlink()
    os.mkfifo(space.source("a"))
    assert space.run("upper:p:a") == {"upper:a": "failed"}
    assert "text is missing" in space.outcomes["upper:a"].message


def test_a_workspace_whose_name_is_no_text_is_refused(tmp_path):
    root = tmp_path / os.fsdecode(b"w\xff")
    root.mkdir()
    with pytest.raises(StoreError, match="is not valid UTF-8; rename it"):
        Workspace(root)


LEARN = """
import os

def learn(inputs, settings, outputs, resume, progress):
    if "EDIT" in os.environ:
        inputs["text"][0].write_text(os.environ["EDIT"])
    text = inputs["text"][0].read_text()
    earlier = resume / "checkpoint"
    (resume / "resumed").write_text(earlier.read_text() if earlier.exists() else "no")
    earlier.write_text(text)
    if os.environ.get("LEARN") == "badly":
        raise ValueError("no")
    if os.environ.get("LEARN") == "interrupted":
        raise KeyboardInterrupt
    if os.environ.get("LEARN") == "killed":
        os._exit(9)
    (outputs / "out.txt").write_text(text)
"""


@pytest.fixture
def learning(space, monkeypatch):
    """A workspace whose upper:a learns, and is changed to "x" and back while it does if that is asked for."""
    (space.root / "learning.py").write_text(LEARN)
    monkeypatch.delitem(sys.modules, "learning", raising=False)
    first, *others = space.artifacts()
    first = dataclasses.replace(first, run="learning:learn", resume_ignores=())
    monkeypatch.setattr(space, "artifacts", lambda: [first, *others])
    real = Inline.run

    def run(ends, edit="x"):
        def reverted(executor, job, progress):
            try:
                return real(executor, job, progress)
            finally:
                space.write("a", "a")

        with monkeypatch.context() as patched:
            patched.setenv("LEARN", ends)
            if edit is not None:
                patched.setenv("EDIT", edit)
                patched.setattr(Inline, "run", reverted)
            return space.run("upper:p:a")

    space.learn = run
    return space


def checkpoint(space, name="checkpoint"):
    return [path.read_text() for path in (space.root / "cache/store/resume").rglob(name)]


@pytest.mark.parametrize("ends", ["well", "badly", "interrupted"])
def test_checkpoints_of_an_input_that_was_another_for_a_while_are_removed(learning, ends):
    """A training would go on from weights that it has learnt of other data."""
    if ends == "interrupted":
        with pytest.raises(KeyboardInterrupt):
            learning.learn(ends)
    else:
        assert learning.learn(ends) == {"upper:a": "failed"}
    assert checkpoint(learning) == []
    assert learning.run("upper:p:a") == {"upper:a": "built"}
    assert checkpoint(learning) == ["a"] and checkpoint(learning, "inputs.json") == []


@pytest.mark.parametrize("edit", ["x", None], ids=["edited", "as it was"])
def test_a_killed_run_leaves_checkpoints_for_inputs_that_nobody_has_written_to(learning, edit):
    child = os.fork()
    if not child:
        learning.learn("killed", edit)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert checkpoint(learning) == [edit or "a"]
    if edit:
        learning.write("a", "a")
    assert learning.run("upper:p:a") == {"upper:a": "built"}
    assert checkpoint(learning, "resumed") == ["no" if edit else "a"]
    assert any("are not used" in line for line in learning.recorder.lines) == bool(edit)


def test_checkpoints_of_a_run_that_has_ended_are_used_whatever_was_written_since(learning):
    """Its inputs were checked at its end."""
    assert learning.learn("badly", edit=None) == {"upper:a": "failed"}
    learning.write("a", "x")
    learning.write("a", "a")
    assert learning.run("upper:p:a") == {"upper:a": "built"}
    assert checkpoint(learning, "resumed") == ["a"]


@pytest.mark.parametrize("damage", ["", "{", "[" * 100_000, "null", '{"a.txt": 1}'])
def test_what_says_how_the_inputs_were_may_be_damaged(learning, damage):
    assert learning.learn("badly", edit=None) == {"upper:a": "failed"}
    (folder,) = (learning.root / "cache/store/resume").iterdir()
    (folder / "inputs.json").write_text(damage)
    assert learning.run("upper:p:a") == {"upper:a": "built"}
    assert checkpoint(learning, "resumed") == ["no"]
