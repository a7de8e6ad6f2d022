"""Workspaces that share a store: a key is built once, and what one shows is safe from the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from rvbuild.engine.run.outcome import Did
from rvbuild.engine.store.leases import Standing, leases
from rvbuild.engine.store.locks import held
from rvbuild.engine.store.store import Store
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import StoreError

RUN = textwrap.dedent(
    """
    import sys
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    from conftest import Recorder, Space

    def note(recorder, line):
        with Path({root!r}, "said.txt").open("a") as file:
            file.write(line)

    if __name__ == "__main__":
        Recorder.note = note
        done = Space(Path({root!r}), pool=True).run(jobs=2)
        Path({root!r}, "done.txt").write_text(repr(done))
    """
)

WAITING = "waiting for another process that builds it"


def start(space, store: Path) -> subprocess.Popen[bytes]:
    script = space.root / "run.py"
    script.write_text(RUN.format(tests=str(Path(__file__).parent), root=str(space.root)))
    environment = {**os.environ, "RVBUILD_STORE": str(store)}
    return subprocess.Popen([sys.executable, str(script)], env=environment, start_new_session=True)


def wait_for(path: Path, text: str = "") -> None:
    """Wait until a file is there and holds a text."""
    deadline = time.monotonic() + 120
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def pair(new_space):
    made = new_space(), new_space()
    for space in made:
        for name, text in {"a": "held", "b": "b", "c": "c"}.items():
            space.write(name, text)
    return made


@pytest.mark.slow
def test_two_workspaces_build_each_key_once(pair, tmp_path):
    left, right = pair
    first = start(left, tmp_path / "store")
    wait_for(left.root / "calls.txt")
    second = start(right, tmp_path / "store")
    wait_for(right.root / "said.txt", WAITING)
    (left.root / "go").touch()
    assert first.wait(120) == second.wait(120) == 0
    calls = left.calls() + right.calls()
    assert sorted(calls) == ["join", "join", "upper", "upper", "upper"]
    assert left.shown() == right.shown() != {}
    done = [Path(s.root / "done.txt").read_text() for s in pair]
    assert Did.RESTORED.value in done[1]
    assert not list((tmp_path / "store/tmp").iterdir())
    assert {p.name for p in (tmp_path / "store/locks").iterdir()} <= {"store"}


@pytest.mark.slow
def test_the_second_builds_when_the_first_is_killed(pair, tmp_path):
    left, right = pair
    first = start(left, tmp_path / "store")
    wait_for(left.root / "calls.txt")
    second = start(right, tmp_path / "store")
    wait_for(right.root / "said.txt", WAITING)
    (right.root / "go").touch()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert second.wait(120) == 0
    assert (right.root / "cache/p/last/joined.txt").read_text() == "HELD|B|C!"


def test_the_store_is_relative_to_the_workspace(space, monkeypatch):
    monkeypatch.setenv("RVBUILD_STORE", "../shared store")
    space.run()
    assert (space.root.parent / "shared store/actions").is_dir()
    (lease,) = leases(Workspace(space.root).store)
    assert (lease.path, lease.standing(time.time())) == (str(space.root), Standing.HERE)


def test_a_store_that_cannot_be_written_is_named(space, monkeypatch):
    (space.root / "file").write_text("")
    monkeypatch.setenv("RVBUILD_STORE", "file/store")
    with pytest.raises(StoreError, match=r"file/store: cannot write the store: .*RVBUILD_STORE"):
        Workspace(space.root)


LIVE = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from rvbuild.engine.store.store import Store

    store = Store(Path(sys.argv[1]))
    store.temporary().mkdir()
    print("ready", flush=True)
    sys.stdin.readline()
    """
)


def test_sweep_takes_what_the_dead_left_and_nothing_else(tmp_path):
    """A process is known to live by its lock: neither its number nor the name of its machine says so in a container."""
    store = Store(tmp_path)
    store.prepare()
    ours = store.temporary()
    ours.mkdir()
    other = Store(tmp_path)  # of the same process
    theirs = other.temporary()
    theirs.mkdir()
    words = [sys.executable, "-c", LIVE, str(tmp_path)]
    living = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert living.stdout.readline() == b"ready\n"
    (tmp_path / "tmp" / "what").write_text("")
    left = {p.name for p in (tmp_path / "tmp").iterdir()}
    os.utime(ours, (0, 0))  # a training of many days writes nothing there meanwhile
    store.sweep()
    assert {p.name for p in (tmp_path / "tmp").iterdir()} == left - {"what"}
    living.kill()
    living.wait()
    living.stdin.close()
    living.stdout.close()
    store.sweep()
    assert {p.name for p in (tmp_path / "tmp").iterdir()} == {ours.name, theirs.name}
    assert len(list((tmp_path / "locks").iterdir())) == 2
    other.close()
    store.sweep()
    assert {p.name for p in (tmp_path / "tmp").iterdir()} == {ours.name}
    store.release(ours)
    store.close()
    assert not list((tmp_path / "locks").iterdir())


def test_a_lock_is_handed_on_and_its_file_removed(tmp_path):
    path = tmp_path / "lock"
    inside: list[str] = []

    def work(name: str) -> None:
        for _ in range(20):
            with held(path):
                inside.append(name)
                assert inside == [name]
                inside.remove(name)

    threads = [threading.Thread(target=work, args=(n,)) for n in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not path.exists()


def test_sharers_hold_a_lock_together_and_keep_others_out(tmp_path):
    path = tmp_path / "lock"

    class _GaveUpError(Exception):
        pass

    def give_up() -> None:
        raise _GaveUpError

    with (
        held(path, shared=True),
        held(path, shared=True, wait=give_up),
        pytest.raises(_GaveUpError),
        held(path, wait=give_up),
    ):
        pass
    with held(path, wait=give_up), pytest.raises(_GaveUpError), held(path, shared=True, wait=give_up):
        pass


def test_a_lock_that_cannot_be_made_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="cannot lock"), held(tmp_path / "nowhere" / "lock"):
        pass
