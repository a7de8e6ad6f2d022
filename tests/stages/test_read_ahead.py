from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rvbuild.stages.threads.read_ahead import read_ahead


class Source:
    """Remembers who used it and whether it is open."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.open = True


class Factory:
    def __init__(self) -> None:
        self.made: list[Source] = []

    @contextmanager
    def __call__(self) -> Iterator[Source]:
        source = Source()
        self.made.append(source)
        try:
            yield source
        finally:
            source.open = False


def slow_first(source: Source, item: int) -> int:
    assert source.open
    source.threads.add(threading.get_ident())
    time.sleep(0.02 if item % 3 == 0 else 0)
    return item * item


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("depth", [1, 4, 100])
def test_results_come_in_order(threads: int, depth: int) -> None:
    factory = Factory()
    results = list(read_ahead(factory, slow_first, range(20), threads=threads, depth=depth))
    assert results == [item * item for item in range(20)]
    assert 1 <= len(factory.made) <= threads
    assert all(len(source.threads) == 1 for source in factory.made)
    assert not any(source.open for source in factory.made)


def test_nothing_to_read() -> None:
    factory = Factory()
    assert list(read_ahead(factory, slow_first, [], threads=2, depth=2)) == []
    assert factory.made == []


def test_reads_no_further_than_its_depth() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = read_ahead(Factory(), slow_first, items(), threads=2, depth=3)
    assert next(results) == 0
    assert len(taken) <= 4
    results.close()


def test_an_error_comes_at_its_item_and_closes_all() -> None:
    factory = Factory()

    def fail_at_five(source: Source, item: int) -> int:
        if item == 5:
            raise KeyError(item)
        return item

    results = []
    with pytest.raises(KeyError):
        for item in read_ahead(factory, fail_at_five, range(20), threads=2, depth=4):
            results.append(item)
    assert results == [0, 1, 2, 3, 4]
    assert not any(source.open for source in factory.made)


def test_stopping_early_closes_all() -> None:
    factory = Factory()
    results = read_ahead(factory, slow_first, range(1000), threads=2, depth=4)
    next(results)
    results.close()
    assert factory.made
    assert not any(source.open for source in factory.made)
