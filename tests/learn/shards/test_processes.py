"""The processes of a training end together: at the end of their work, or with one error."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rvbuild.errors import DataError, ModelError, RvbuildError, StageError
from rvbuild.learn.shards import processes
from rvbuild.learn.shards.group import Group
from rvbuild.learn.shards.processes import Work, cards_of, run_together
from rvbuild.progress import Progress
from tests.learn.chipmaker import Notes


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork processes, which have imported everything: nothing here learns."""
    monkeypatch.setattr(processes, "_context", lambda work: multiprocessing.get_context("fork"))


def run(function: Callable[..., None], count: int = 2) -> Notes:
    progress = Notes()
    run_together(Work(f"{__name__}:{function.__name__}", {"word": "on"}, count, count, "cpu"), progress)
    return progress


def works(word: str, group: Group, progress: Progress) -> None:
    progress.start("step", 3, "chips")
    progress.advance(2)
    progress.note(f"{word} {group.gathered(group.node.start)}")


def waits_for_one_that_is_killed(word: str, group: Group, progress: Progress) -> None:
    if group.node.start == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    group.total(torch.ones(3))


def waits_for_one_that_fails(word: str, group: Group, progress: Progress) -> None:
    if group.node.start == 1:
        raise DataError("the labels are wrong")
    group.total(torch.ones(3))


def fails_in_all(word: str, group: Group, progress: Progress) -> None:
    group.gathered(None)
    raise ModelError(f"no model, says {group.node.start}")


def has_a_defect(word: str, group: Group, progress: Progress) -> None:
    if group.node.start == 0:
        raise ValueError("a defect")
    group.total(torch.ones(3))


def stands_still_beside_one_that_fails(word: str, group: Group, progress: Progress) -> None:
    if group.node.start == 0:
        time.sleep(600)
    raise ModelError("no model")


@pytest.mark.slow
def test_only_the_first_reports(forked: None) -> None:
    progress = run(works, 3)
    assert progress.started == [("step", 3, "chips")] and progress.advanced == 2
    assert progress.notes == ["on [0, 1, 2]"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        (waits_for_one_that_is_killed, StageError, "process 2 of 2 of the training was killed (out of memory? try "),
        (waits_for_one_that_fails, DataError, "the labels are wrong"),
        (fails_in_all, ModelError, "no model, says 0"),
        (has_a_defect, StageError, "ValueError: a defect"),
        (stands_still_beside_one_that_fails, ModelError, "no model"),
    ],
)
def test_one_error_ends_all(
    forked: None, function: Callable[..., None], kind: type[RvbuildError], message: str
) -> None:
    began = time.monotonic()
    with pytest.raises(kind) as raised:
        run(function)
    assert type(raised.value) is kind and str(raised.value).startswith(message)
    assert time.monotonic() - began < 60
    assert not multiprocessing.active_children()


SLEEPERS = """
import os, sys, time
from pathlib import Path
from rvbuild.learn.shards.processes import Work, run_together
from rvbuild.progress import Silent

def sleeps(folder, group, progress):
    (Path(folder) / str(group.node.start)).write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    run_together(Work("sleepers:sleeps", {"folder": sys.argv[1]}, 2, 2, "cpu"), Silent())
"""


@pytest.mark.slow
def test_none_outlives_the_process_that_has_started_them(tmp_path: Path) -> None:
    (tmp_path / "sleepers.py").write_text(SLEEPERS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    parent = subprocess.Popen([sys.executable, tmp_path / "sleepers.py", tmp_path], env=environment)
    paths = [tmp_path / "0", tmp_path / "1"]
    _until(lambda: all(path.is_file() and path.read_text() for path in paths), 300)
    parent.kill()
    parent.wait()
    _until(lambda: not any(Path(f"/proc/{path.read_text()}").exists() for path in paths), 60)


def _until(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_processes_without_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cards_of(2, "cpu") == []
    monkeypatch.setattr(processes, "select_device", lambda name, where: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert cards_of(2, "cuda") == [0, 1]
    monkeypatch.setenv("RVBUILD_CARD", "2,1")
    assert cards_of(2, "auto") == [2, 1]
    with pytest.raises(ModelError, match=r"4 processes of a training need as many GPUs, and there are 3; set --procs"):
        cards_of(4, "cuda")
    with pytest.raises(ModelError, match=r"2 processes of a training need as many GPUs, and train.device is cuda:1"):
        cards_of(2, "cuda:1")
