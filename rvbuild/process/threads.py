"""Work in threads that nobody has to wait for: an interrupted command ends, whatever a server or a disk is doing.

The threads of `concurrent.futures` are waited for when a `with` block ends and again when Python ends, so that one
request without an answer holds up both.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
A = TypeVar("A")


class LateError(TimeoutError):
    """Something took longer than it may."""


def each(function: Callable[[A], T], items: Iterable[A], at_once: int) -> list[T]:
    """Return what `function` gives for all `items`, of which at most `at_once` are worked on at one time.

    The first exception is raised at once; what has not begun by then is left, and what has goes on unattended.
    """
    left = list(items)
    results: dict[int, T] = {}
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
    stopped = threading.Event()
    for i in range(len(left)):
        todo.put(i)

    def work() -> None:
        while not stopped.is_set():
            try:
                i = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((i, function(left[i]), None))
            except BaseException as error:  # raised by who waits
                done.put((i, None, error))

    for _ in range(min(at_once, len(left))):
        threading.Thread(target=work, daemon=True).start()
    try:
        while len(results) < len(left):
            i, result, error = done.get()
            if error is not None:
                raise error
            results[i] = result
    finally:
        stopped.set()
        error = None  # whose traceback holds this frame
    return [results[i] for i in range(len(left))]


def within(limit_s: float, function: Callable[..., T], *args: Any) -> T:
    """Return what `function` gives, unless that takes longer.

    Raises
    ------
    LateError
        After `limit_s` seconds; what `function` does then goes on unattended.
    """
    done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((function(*args), None))
        except BaseException as error:  # raised by who waits
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
        del error  # whose traceback holds this frame
