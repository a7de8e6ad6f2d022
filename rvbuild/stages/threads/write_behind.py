"""Writing behind: a thread that does the stage's later steps while the stage works on the next item, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self


class WriteBehind:
    """Calls functions in one thread, in the order in which they were given.

    An error in one of them is raised by the next `call`, or at the end of the block; later calls are dropped.

    Parameters
    ----------
    depth
        How many calls may wait, which bounds the memory that their arguments hold. 0: each call is done when `call`
        returns.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._waiting: deque[Future[Any]] = deque()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write-behind")
        self._failed = False

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Have `function(*args)` called after all earlier ones; wait while `depth` are waiting."""
        self._wait(self._depth - 1)
        self._waiting.append(self._pool.submit(self._run, function, args))
        self._wait(self._depth)

    def _wait(self, most: int) -> None:
        """Wait until at most so many calls are waiting."""
        while len(self._waiting) > max(0, most):
            self._waiting.popleft().result()

    def _run(self, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        if self._failed:
            return
        try:
            function(*args)
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._failed = True
        self._pool.shutdown()
        if error is None:
            for future in self._waiting:
                future.result()
