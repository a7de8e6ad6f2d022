"""Open files of scenes, and what was computed of them, shared by the threads that draw, within bounds."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self, TypeVar


class Closing(Protocol):
    """What is open, and is closed at the end of a `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None: ...


T = TypeVar("T", bound=Closing)
V = TypeVar("V")

MOST_IDLE = 12
"""Open files that nobody reads."""

MOST_HEAVY = 2
"""Of these, labels and areas: each keeps up to 64 MB of what it has burnt."""

AT_ONCE = 4
"""Threads that read or draw at the same time: what they need of memory adds up."""


SAMPLE_BYTES = 96 << 20
"""Of all coarse samples that are kept."""


class Readers:
    """A pool of open sources. Sources are not thread-safe: a thread borrows one for itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: OrderedDict[tuple[object, int], Closing] = OrderedDict()
        self._number = 0
        self.turn = threading.BoundedSemaphore(AT_ONCE)
        """Held while a thread reads."""
        self._heavy = threading.RLock()
        self.samples = Memo(SAMPLE_BYTES)
        """Coarse samples of images, see `rvbuild.view.coarse`."""

    @contextlib.contextmanager
    def borrow_heavy(self, key: object, make: Callable[[], T]) -> Iterator[T]:
        """Give an open source that needs much memory for a block, to one thread at a time; see `borrow`."""
        with self._heavy, self.borrow(("heavy", key), make) as source:
            yield source

    @contextlib.contextmanager
    def borrow(self, key: object, make: Callable[[], T]) -> Iterator[T]:
        """Give an open source for a block: one that is idle, or else a new one.

        Parameters
        ----------
        key
            The same for sources that are the same, which changes when files do.
        make
            Opens one.
        """
        source = self._take(key)
        if source is None:
            source = make().__enter__()
        try:
            yield source  # type: ignore[misc]  # whoever has the key has put it there
        except BaseException:
            source.__exit__(None, None, None)  # it may have been left in the middle of something
            raise
        self._give_back(key, source)

    def close(self) -> None:
        """Close all that is idle."""
        with self._lock:
            idle, self._idle = list(self._idle.values()), OrderedDict()
        for source in idle:
            source.__exit__(None, None, None)

    def _take(self, key: object) -> Closing | None:
        with self._lock:
            idle_key = next((k for k in reversed(self._idle) if k[0] == key), None)
            return None if idle_key is None else self._idle.pop(idle_key)

    def _give_back(self, key: object, source: Closing) -> None:
        with self._lock:
            self._number += 1
            self._idle[key, self._number] = source
            over = [self._idle.popitem(last=False)[1] for _ in range(len(self._idle) - MOST_IDLE)]
            heavy = [each for each in self._idle if isinstance(each[0], tuple) and each[0][0] == "heavy"]
            over += [self._idle.pop(each) for each in heavy[: max(0, len(heavy) - MOST_HEAVY)]]
        for each in over:
            each.__exit__(None, None, None)


class Memo:
    """Keeps results by key, the last used ones, up to a size. A result that two threads need is computed once."""

    def __init__(self, most: int) -> None:
        """`most` is the sum of the sizes of results."""
        self._most, self._size = most, 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[object, tuple[Any, int]] = OrderedDict()
        self._busy: dict[object, threading.Lock] = {}

    def get(self, key: object, make: Callable[[], V], size: Callable[[V], int] = lambda _: 1) -> V:
        """Return the result for a key, which `make` computes if it is not there."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                result: V = self._kept[key][0]
                return result
            busy = self._busy.setdefault(key, threading.Lock())
        with busy:
            with self._lock:
                if key in self._kept:
                    there: V = self._kept[key][0]
                    return there
            try:
                value = make()
                self._keep(key, value, size(value))
            finally:
                with self._lock:
                    self._busy.pop(key, None)
        return value

    def _keep(self, key: object, value: object, size: int) -> None:
        with self._lock:
            self._kept[key] = (value, size)
            self._size += size
            while self._size > self._most and len(self._kept) > 1:
                self._size -= self._kept.popitem(last=False)[1][1]
