"""The workers of `local:N`: processes of this machine, each of which is started again whenever it ends.

Dask's own keeper of local workers gives one up for good if it takes 15 seconds to start again, as on a busy machine, if
that fails once, or if a worker closes itself because it was not heard for a while. It also starts them by running the
script of this process again.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rvbuild.engine.cluster.connect import close_quietly
from rvbuild.engine.run.workers import Interrupted
from rvbuild.errors import StageError

_LOOK_EVERY_S = 0.1
#: How long a worker may be unknown to the scheduler before it is killed, because it hangs.
_HANGS_S = 300.0
#: The longest pause between two attempts to start a worker.
_PAUSE_S = 60.0
_END_S = 5.0


def started(
    count: int, logs: Path, closing: contextlib.ExitStack, note: Callable[[str], None], stopped: threading.Event
) -> str:
    """Start a scheduler in this process and `count` workers beside it; return the address of the scheduler.

    Parameters
    ----------
    count
        The number of workers; whenever there are fewer, others are started.
    logs
        Directory for what workers print.
    closing
        Ends all of this.
    note
        Is told why a worker cannot be started again; that is tried on and on.
    stopped
        Ends the wait for the first workers.

    Raises
    ------
    StageError
        A worker cannot be started.
    Interrupted
        It was stopped.
    """
    dask: Any = importlib.import_module("distributed")  # without types
    system: Any = importlib.import_module("distributed.system")
    try:
        cluster = dask.LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50, host="127.0.0.1")
    except (RuntimeError, OSError) as error:
        raise StageError(f"local:{count}: no scheduler can be started ({error.__cause__ or error})") from None
    closing.callback(close_quietly, cluster, 2 * _END_S)
    logs.mkdir(parents=True, exist_ok=True)
    workers = [
        _Worker(number, [cluster.scheduler_address, str(number), str(system.MEMORY_LIMIT // count)], logs)
        for number in range(count)
    ]

    def known() -> set[int]:
        return {worker["name"] for worker in list(cluster.scheduler_info["workers"].values())}

    is_over = threading.Event()
    watch = threading.Thread(target=_watch, args=(workers, known, f"local:{count}", note, is_over), daemon=True)

    def end() -> None:
        is_over.set()
        if watch.ident is not None:
            watch.join()
        for worker in workers:
            worker.end()

    closing.callback(end)
    for worker in workers:
        worker.start()
    while len(known()) < count:
        for worker in workers:
            if worker.has_ended():
                raise StageError(f"local:{count}: a worker cannot be started: {worker.reason()}")
        if stopped.wait(_LOOK_EVERY_S):
            raise Interrupted
    watch.start()
    return str(cluster.scheduler_address)


class _Worker:
    """The process of one worker, which is started again and again."""

    def __init__(self, number: int, words: list[str], logs: Path) -> None:
        self.number = number
        self._words = words
        self._log = logs / f"local-{number}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._error: OSError | None = None  # of the attempt to start it
        self.seen = 0.0  # when it was started, or last known to the scheduler
        self.pause_s = 0.0  # before the next attempt to start it
        self.told = ""  # why it could not be started, as far as that was told

    def start(self) -> None:
        """Start the process; `has_ended` tells if there is none."""
        self.end()
        self.seen = time.monotonic()
        self._error = None
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "rvbuild.engine.cluster.local", *self._words],
                    stdin=subprocess.PIPE,  # closed when this process ends
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for the driver
                )
        except OSError as error:
            self._error = error

    def has_ended(self) -> bool:
        """Tell whether the process has ended."""
        return self._process is None or self._process.poll() is not None

    def reason(self) -> str:
        """Return why the process has ended, for messages."""
        if self._error is not None:
            return str(self._error)
        with contextlib.suppress(OSError):
            if lines := self._log.read_text(errors="replace").strip().splitlines():
                return f"{lines[-1].strip()} ({self._log})"
        status = None if self._process is None else self._process.returncode
        return f"it was killed by signal {-status}" if status and status < 0 else f"it ended with status {status}"

    def end(self) -> None:
        """End the process, and what it has started."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _watch(
    workers: list[_Worker],
    known: Callable[[], set[int]],
    name: str,
    note: Callable[[str], None],
    is_over: threading.Event,
) -> None:
    """Start workers again that have ended, or that hang."""
    while not is_over.wait(_LOOK_EVERY_S):
        there, now = known(), time.monotonic()
        for worker in workers:
            if not worker.has_ended():
                if worker.number in there:
                    worker.seen, worker.pause_s, worker.told = now, 0.0, ""
                elif now - worker.seen > _HANGS_S:
                    worker.end()
                continue
            if now - worker.seen < worker.pause_s:
                continue
            if worker.pause_s and (reason := worker.reason()) != worker.told:
                worker.told = reason
                note(f"warning: worker {worker.number} of {name} cannot be started again: {reason}; trying on and on")
            worker.pause_s = min(2 * worker.pause_s + 1, _PAUSE_S)
            worker.start()


def main(words: list[str]) -> None:
    """Be the worker with an address of the scheduler, a number, and a memory limit in bytes, until the driver ends."""
    threading.Thread(target=_end_with_driver, daemon=True).start()
    asyncio.run(_work(words[0], int(words[1]), int(words[2])))


def _end_with_driver() -> None:
    os.read(0, 1)
    os._exit(0)


async def _work(address: str, number: int, memory: int) -> None:
    dask: Any = importlib.import_module("distributed")
    logging.getLogger("distributed").setLevel(logging.WARNING)
    worker = dask.Worker(address, name=number, nthreads=1, memory_limit=memory, host="127.0.0.1", dashboard=False)
    async with worker:
        await worker.finished()


if __name__ == "__main__":
    main(sys.argv[1:])
