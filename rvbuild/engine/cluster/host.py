"""A process beside a worker of the cluster, which hosts a pool: a worker under a nanny must not have child processes.

It ends with the worker, and its children end with it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from rvbuild.engine.run.worker import Failed, Job, failed
from rvbuild.engine.run.workers import Interrupted, Pool
from rvbuild.errors import RvbuildError
from rvbuild.progress import Sent

_CANCEL_EVERY_S = 0.05
_END_S = 5.0

Told = Callable[[str, Any], None]
"""Receives the kind and the value of an event of a job: `start`, `advance`, `note`."""


class Host:
    """The worker's end: starts the process, and runs jobs in its pool from any thread."""

    def __init__(self, environment: Mapping[str, str | None], logs: Path, preload: Sequence[str]) -> None:
        import socket

        ours, theirs = socket.socketpair()
        variables = {**os.environ, **environment}
        logs.mkdir(parents=True, exist_ok=True)
        with theirs, (logs / "host.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rvbuild.engine.cluster.host", str(theirs.fileno())],
                env={name: value for name, value in variables.items() if value is not None},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the driver
            )
        self._pipe = Connection(ours.detach())
        self._lock = threading.Lock()
        self._answers: dict[int, SimpleQueue[tuple[str, Any]]] = {}
        self._count = 0
        self._ended = False
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has just ended, as the first job tells
            self._pipe.send((dict(environment), logs, list(preload)))
        threading.Thread(target=self._receive, daemon=True).start()

    def run(self, job: Job, begun: Callable[[int], None], told: Told) -> Any:
        """Run `job`; return what its function returns, or a `Failed`. `begun` gets a number for `cancel`.

        Raises
        ------
        EOFError
            The process has ended, or the job was cancelled.
        """
        answers: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        with self._lock:
            if self._ended:
                raise EOFError
            self._count += 1
            number = self._count
            self._answers[number] = answers
            try:
                self._pipe.send(("run", number, job))
            except (BrokenPipeError, ConnectionResetError):  # it has just ended
                raise EOFError from None
        begun(number)
        try:
            while True:
                kind, value = answers.get()
                if kind == "done":
                    return value
                if kind == "ended":
                    raise EOFError
                told(kind, value)
        finally:
            self._answers.pop(number, None)

    def cancel(self, number: int) -> None:
        """Kill the child that runs a job."""
        with self._lock, contextlib.suppress(OSError):
            if not self._ended:
                self._pipe.send(("cancel", number, None))

    def close(self) -> None:
        """End the process and its children at once."""
        with contextlib.suppress(OSError):
            self._pipe.send(("end", 0, None))
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _receive(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                kind, number, value = self._pipe.recv()
                if number in self._answers:
                    self._answers[number].put((kind, value))
        with self._lock:
            self._ended = True
            waiting = list(self._answers.values())
        for answers in waiting:
            answers.put(("ended", None))
        self._process.wait()
        self._pipe.close()


def main(words: Sequence[str]) -> None:
    """Serve the worker at the other end of the socket with the number in `words`."""
    pipe = Connection(int(words[0]))
    pool = Pool(*pipe.recv())
    sending = threading.Lock()
    running: dict[int, Job] = {}

    def send(kind: str, number: int, value: Any) -> None:
        with sending, contextlib.suppress(OSError):
            pipe.send((kind, number, value))

    def run(number: int, job: Job) -> None:
        try:
            result: Any = pool.run(job, Sent(lambda kind, value: send(kind, number, value)))
        except Interrupted:
            result = Failed(None, "interrupted", "")
        except RvbuildError as error:
            result = failed(error)
        except BaseException as error:
            result = Failed(None, f"{type(error).__name__}: {error}", traceback.format_exc())
        running.pop(number, None)
        send("done", number, result)

    def cancel(number: int) -> None:
        while (job := running.get(number)) is not None:  # it may not have a child yet
            pool.cancel(job)
            time.sleep(_CANCEL_EVERY_S)

    with contextlib.suppress(EOFError, OSError):
        while True:
            kind, number, job = pipe.recv()
            if kind == "run":
                running[number] = job
                threading.Thread(target=run, args=(number, job), daemon=True).start()
            elif kind == "cancel":
                threading.Thread(target=cancel, args=(number,), daemon=True).start()
            elif kind == "end":
                break
    ending = threading.Thread(target=pool.interrupt, daemon=True)
    ending.start()
    ending.join(_END_S)  # children that it did not reach end with this process
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
