"""Calls that wait for other machines, and end when nobody needs the answer any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from rvbuild.engine.run.workers import Interrupted

_LOOK_EVERY_S = 0.2


def asked(
    call: Callable[..., Any],
    *arguments: Any,
    stopped: Callable[[], bool],
    within_s: float,
    slow: Callable[[], None] = lambda: None,
    slow_after_s: float = 20.0,
    **more: Any,
) -> Any:
    """Return what `call` returns or raise what it raises; a call that is given up goes on in its thread.

    Parameters
    ----------
    call
        The function, which is called with the other arguments.
    stopped
        Tells whether nobody needs the answer any more.
    within_s
        Seconds after which there will be no answer.
    slow
        Called once if there is no answer after `slow_after_s` seconds.

    Raises
    ------
    Interrupted
        It was stopped.
    TimeoutError
        There is no answer.
    """
    results: list[Any] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def answer() -> None:
        try:
            results.append(call(*arguments, **more))
        except BaseException as error:
            errors.append(error)
        done.set()

    threading.Thread(target=answer, daemon=True).start()
    began, is_noted = time.monotonic(), False
    while not done.wait(_LOOK_EVERY_S):
        waited_s = time.monotonic() - began
        if stopped():
            raise Interrupted
        if waited_s > within_s:
            raise TimeoutError(f"no answer within {within_s:.0f} s")
        if waited_s > slow_after_s and not is_noted:
            is_noted = True
            slow()
    if errors:
        raise errors[0]
    return results[0]
