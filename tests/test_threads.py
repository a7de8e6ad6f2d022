"""Work in threads that nobody has to wait for."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rvbuild.process.threads import map_threads, within


def test_each_gives_results_in_order() -> None:
    assert map_threads(lambda n: n * n, range(100), 7) == [n * n for n in range(100)]
    assert map_threads(str, [], 7) == []


def test_no_more_than_so_many_at_once() -> None:
    lock, now, most, three = threading.Lock(), 0, 0, threading.Barrier(3, timeout=60)

    def work(_: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        three.wait()
        with lock:
            now -= 1

    map_threads(work, range(12), 3)
    assert most == 3


def test_the_first_exception_ends_it_at_once() -> None:
    hang, begun = threading.Event(), []

    def work(n: int) -> None:
        begun.append(n)
        if n == 1:
            raise ValueError("one")
        hang.wait(20)

    began = time.monotonic()
    with pytest.raises(ValueError, match="one"):
        map_threads(work, range(100), 2)
    assert time.monotonic() - began < 15
    assert len(begun) <= 4
    hang.set()


def test_within_a_limit() -> None:
    assert within(20, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        within(20, divmod, 7, 0)
    hang = threading.Event()
    with pytest.raises(TimeoutError, match="no answer within 0 s"):
        within(0.05, hang.wait, 20)
    hang.set()


def test_a_process_ends_that_waits_for_nothing_else() -> None:
    script = "import time\nfrom rvbuild.process.threads import map_threads, within\n"
    script += "try:\n    within(0.1, time.sleep, 60)\nexcept TimeoutError as error:\n    print(error)\n"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stdout) == (0, "no answer within 0 s\n")
