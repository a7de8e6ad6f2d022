"""The pool of open files, and what is kept."""

from __future__ import annotations

import threading
import time

import pytest

from rvbuild.view.readers import MOST_HEAVY, MOST_IDLE, Memo, Readers


class Source:
    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def __enter__(self) -> Source:
        self.log.append(f"open {self.name}")
        return self

    def __exit__(self, *exception: object) -> None:
        self.log.append(f"close {self.name}")


def test_a_source_is_opened_once_and_closed_when_it_is_too_many() -> None:
    readers, log = Readers(), list[str]()
    for _ in range(3):
        with readers.borrow("a", lambda: Source(log, "a")):
            pass
    assert log == ["open a"]
    for number in range(MOST_IDLE):
        with readers.borrow(number, lambda number=number: Source(log, str(number))):
            pass
    assert [line for line in log if line.startswith("close")] == ["close a"]
    readers.close()
    assert len([line for line in log if line.startswith("close")]) == MOST_IDLE + 1


def test_two_threads_have_two_sources() -> None:
    readers, log = Readers(), list[str]()
    with readers.borrow("a", lambda: Source(log, "1")) as first, readers.borrow("a", lambda: Source(log, "2")) as two:
        assert first is not two


def test_few_heavy_sources_are_kept() -> None:
    readers, log = Readers(), list[str]()
    for number in range(5):
        with readers.borrow_heavy(number, lambda number=number: Source(log, str(number))):
            pass
    assert len([line for line in log if line.startswith("close")]) == 5 - MOST_HEAVY


def test_a_source_that_fails_is_not_used_again() -> None:
    readers, log = Readers(), list[str]()
    with pytest.raises(ValueError, match="broken"), readers.borrow("a", lambda: Source(log, "a")):
        raise ValueError("broken")
    assert log == ["open a", "close a"]


def test_a_result_is_computed_once_for_all_threads() -> None:
    memo, calls = Memo(10), list[int]()

    def slow() -> int:
        time.sleep(0.05)
        calls.append(1)
        return 7

    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(memo.get("key", slow))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [7] * 4 and calls == [1]


def test_the_last_used_results_are_kept_within_their_size() -> None:
    memo = Memo(10)
    for key in "abc":
        memo.get(key, lambda: 1, lambda _: 4)
    computed: list[str] = []
    for key in "bca":
        memo.get(key, lambda key=key: computed.append(key) or key, lambda _: 4)
    assert computed == ["a"]


def test_a_failure_is_tried_again() -> None:
    memo = Memo(10)
    with pytest.raises(ZeroDivisionError):
        memo.get("key", lambda: 1 // 0)
    assert memo.get("key", lambda: 5) == 5
