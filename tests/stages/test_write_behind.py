from __future__ import annotations

import threading
import time

import pytest

from rvbuild.stages.threads.write_behind import WriteBehind


def test_calls_are_in_order_in_one_thread_and_done_at_the_end() -> None:
    done: list[int] = []
    threads: set[int] = set()

    def write(number: int) -> None:
        time.sleep(0.001 * (5 - number))
        done.append(number)
        threads.add(threading.get_ident())

    with WriteBehind(depth=2) as behind:
        for number in range(5):
            behind.call(write, number)
    assert done == list(range(5))
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_few_calls_wait() -> None:
    go, begun = threading.Event(), threading.Semaphore(0)

    def write() -> None:
        begun.release()
        go.wait(10)

    with WriteBehind(depth=1) as behind:
        behind.call(write)
        threading.Timer(0.05, go.set).start()
        before = time.monotonic()
        behind.call(write)
        assert time.monotonic() - before > 0.02
    assert begun.acquire(blocking=False) and begun.acquire(blocking=False)


def test_without_depth_calls_are_done_when_they_return() -> None:
    done: list[int] = []

    def write(number: int) -> None:
        time.sleep(0.01)
        done.append(number)

    with WriteBehind(depth=0) as behind:
        for number in range(3):
            behind.call(write, number)
            assert done == list(range(number + 1))
        with pytest.raises(ZeroDivisionError):
            behind.call(lambda: 1 // 0)


def test_an_error_is_raised_and_nothing_is_called_after_it() -> None:
    done: list[int] = []

    def fail() -> None:
        raise ValueError("no space")

    with pytest.raises(ValueError, match="no space"), WriteBehind(depth=5) as behind:
        behind.call(fail)
        behind.call(done.append, 1)
    assert not done
    with pytest.raises(KeyError), WriteBehind(depth=5) as behind:
        raise KeyError
