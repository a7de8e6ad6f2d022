"""Reading ahead: threads that read windows while the stage works on earlier ones, results in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

Source = TypeVar("Source")
Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    open_source: Callable[[], AbstractContextManager[Source]],
    read: Callable[[Source, Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    depth: int,
) -> Iterator[Result]:
    """Yield `read(source, item)` for each item, in the order of the items, whichever thread finishes first.

    Parameters
    ----------
    open_source
        Opens what `read` reads from. Each thread opens its own, because a dataset serves one thread at a time; all are
        closed when the last item is read, an error occurs, or the caller stops.
    read
        Reads one item; runs in a thread. Its error is raised in the caller at that item.
    items
        The items to read, taken on demand.
    threads
        How many threads read.
    depth
        How many results may wait, which bounds the memory.
    """
    own = threading.local()
    sources = ExitStack()
    opening = threading.Lock()

    def read_one(item: Item) -> Result:
        if not hasattr(own, "source"):
            with opening:
                own.source = sources.enter_context(open_source())
        source: Source = own.source
        return read(source, item)

    waiting: deque[Future[Result]] = deque()
    with sources, ThreadPoolExecutor(max_workers=threads, thread_name_prefix="read-ahead") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(read_one, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
