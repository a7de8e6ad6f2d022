"""Faults that really happen: killed workers, killed runs, inputs edited meanwhile, two runs at once."""

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

from rvbuild.build.workspace import locked


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


def test_an_unexpected_error_is_a_failure_that_is_said(space):
    space.settings["upper"] = {}  # the stage looks for a prefix
    result = space.run(keep_going=True)
    assert result["upper:a"] == "failed"
    assert space.outcomes["upper:a"].message == "KeyError: 'prefix'"
    assert "Traceback" in space.outcomes["upper:a"].detail


def test_an_input_edited_while_its_stage_runs_is_never_recorded(new_space):
    space = new_space(pool=True)
    for name, text in {"a": "slow", "b": "b", "c": "c"}.items():
        space.write(name, text)

    def edit() -> None:
        while not (space.root / "calls.txt").exists():
            time.sleep(0.01)
        time.sleep(0.2)
        space.write("a", "edited")

    thread = threading.Thread(target=edit)
    thread.start()
    result = space.run("upper:p:a")
    thread.join()
    assert result["upper:a"] == "failed"
    assert "a.txt changed while upper:a was made from it" in space.outcomes["upper:a"].message
    assert not (space.root / "cache/p/upper/a/out.txt").exists()
    assert space.run("upper:p:a")["upper:a"] == "built"
    assert (space.root / "cache/p/upper/a/out.txt").read_text() == "EDITED"


RUN = textwrap.dedent(
    """
    import sys
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    from conftest import Space

    if __name__ == "__main__":
        space = Space(Path({root!r}), pool=True)
        space.run(jobs=2)
    """
)


def start(space) -> subprocess.Popen[bytes]:
    script = space.root / "run.py"
    script.write_text(RUN.format(tests=str(Path(__file__).parent), root=str(space.root)))
    return subprocess.Popen([sys.executable, str(script)], start_new_session=True)


def wait_for_call(space) -> None:
    deadline = time.monotonic() + 20
    while not (space.root / "calls.txt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def children_in(root: Path) -> list[str]:
    """Return the processes whose log or working files are in `root`."""
    found = []
    for pid in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(root) in str(fd.readlink()) for fd in (pid / "fd").iterdir()):
                found.append(pid.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.3])
def test_a_killed_run_leaves_nothing_half_done(new_space, delay):
    space = new_space(pool=True)
    for name, text in {"a": "slow", "b": "b", "c": "c"}.items():
        space.write(name, text)
    process = start(space)
    wait_for_call(space)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while children_in(space.root) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children_in(space.root) == []
    for name, content in space.shown().items():
        assert content in (b"B", b"C"), name
    assert space.run()["last"] == "built"
    assert (space.root / "cache/p/last/joined.txt").read_text() == "SLOW|B|C!"
    assert not list((space.root / "cache/store/tmp").iterdir())


def test_two_runs_on_one_workspace_wait_for_each_other(tmp_path):
    said: list[str] = []
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path, said.append):
            order.append("second")

    with locked(tmp_path, said.append):
        thread = threading.Thread(target=second)
        thread.start()
        while not said:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert "waiting for another rvbuild" in said[0]
