"""Work in daemon threads: an interrupted command ends even if a server or a disk does not respond.

The threads of `concurrent.futures` are joined when a `with` block ends and again when Python exits, so a single
request without a response would block both.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
A = TypeVar("A")


class LateError(TimeoutError):
    """No answer within the time limit."""


def map_threads(function: Callable[[A], T], items: Iterable[A], at_once: int) -> list[T]:
    """Return the results of `function` for all `items`, with at most `at_once` calls at the same time.

    The first exception is raised at once; calls that have not started are dropped, and running ones are abandoned.
    """
    arguments = list(items)
    results: dict[int, T] = {}
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
    stopped = threading.Event()
    for i in range(len(arguments)):
        todo.put(i)

    def work() -> None:
        while not stopped.is_set():
            try:
                i = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((i, function(arguments[i]), None))
            except BaseException as error:  # raised in the waiting thread
                done.put((i, None, error))

    for _ in range(min(at_once, len(arguments))):
        threading.Thread(target=work, daemon=True).start()
    try:
        while len(results) < len(arguments):
            i, result, error = done.get()
            if error is not None:
                raise error
            results[i] = result
    finally:
        stopped.set()
        error = None  # its traceback holds this frame
    return [results[i] for i in range(len(arguments))]


def within(limit_s: float, function: Callable[..., T], *args: Any) -> T:
    """Return the result of `function`, or raise an error after a time limit.

    Raises
    ------
    LateError
        After `limit_s` seconds; the call is abandoned.
    """
    done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((function(*args), None))
        except BaseException as error:  # raised in the waiting thread
            done.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        result, error = done.get(timeout=limit_s)
    except queue.Empty:
        raise LateError(f"no answer within {limit_s:.0f} s") from None
    if error is None:
        value: T = result
        return value
    try:
        raise error
    finally:
        del error  # its traceback holds this frame
