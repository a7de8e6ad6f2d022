"""A worker process: receives jobs from the pool, calls their functions, reports progress and results."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import queue
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rvbuild.engine.keys.artifact import Demand, Resource
from rvbuild.engine.run import watched
from rvbuild.engine.run.made import Making, make
from rvbuild.errors import RvbuildError, WorkerDiedError, kind_of
from rvbuild.language.user_code import Code, paths_in, reported, serve_code
from rvbuild.progress import Progress

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_REPORT_EVERY_S = 0.1
_FULL_BYTES = 1 << 20


@dataclass(frozen=True)
class Job:
    """A call of the function at a dotted path; with `reports`, it also gets a `progress` argument.

    `environment` holds variables that are set during the call; None removes one. With `making`, the function is that of
    a stage: what it writes is finished where it ran, and the result is a `Made`.
    """

    function: str
    kwargs: Mapping[str, Any]
    resource: Resource = Resource.CPU
    code: Code | None = None  # user modules that the function may import
    reports: bool = True
    environment: Mapping[str, str | None] = field(default_factory=dict)
    making: Making | None = None
    demand: Demand = field(default_factory=Demand)
    label: str = ""


@dataclass(frozen=True)
class Failed:
    """An exception of a job: `kind` is the `module:class` of an error for users, None for any other exception.

    `files` are those that a dead worker was reading.
    """

    kind: str | None
    message: str
    traceback: str
    files: tuple[str, ...] = ()


def failed(error: RvbuildError) -> Failed:
    """Return an error for users in a form that any process can read."""
    notes = getattr(error, "__notes__", ())
    text = "\n".join(notes) or traceback.format_exc()
    return Failed(kind_of(error), str(error), text, error.files if isinstance(error, WorkerDiedError) else ())


def call(job: Job, progress: Progress) -> Any:
    """Import the function of `job` and call it, with the user modules that it may import.

    Raises
    ------
    CodeError
        User code has read a file outside of the key, even if it ignored the error.
    """
    watch = serve_code(job.code, paths_in(job.kwargs))
    module, _, name = job.function.partition(":")
    function = getattr(importlib.import_module(module), name)

    def run() -> Any:
        with _environment(job.environment):
            result = function(**job.kwargs, progress=progress) if job.reports else function(**job.kwargs)
        reported(watch, progress.note)
        return result

    return run() if job.making is None else make(job.making, job.kwargs["outputs"], run, progress.note)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    _assign(variables)
    try:
        yield
    finally:
        _assign(before)


def plain(error: BaseException, place: object = None) -> str | None:
    """Return a message with advice for an error of the machine, such as a full disk; None for any other error.

    `place` is used if the error does not name a place.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        detail = f" ({error})" if str(error) else ""
        return f"ran out of memory{detail}; try `-j 1`, a smaller batch or smaller windows"
    if not isinstance(error, OSError):
        return None
    where = f": {error.filename or place}" if error.filename or place else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        if not error.filename and place is not None and not _is_full(place):  # a temporary file, perhaps
            where += f" or {tempfile.gettempdir()}"
        return f"the disk is full{where} ({error.strerror}); free space (`rvbuild cache gc` may help) and run again"
    if error.errno == errno.EROFS:
        return f"cannot be written{where} ({error.strerror}); make it writable and run again"
    if error.errno == errno.EXDEV:
        return f"cannot move a file from one file system to another{where}; link the whole cache/, not a part of it"
    return f"{error.strerror or error}{where}"


def _is_full(place: object) -> bool:
    try:
        status = os.statvfs(str(place))
    except OSError:
        return True
    return status.f_bavail * status.f_frsize < _FULL_BYTES


def set_variables(environment: Mapping[str, str | None]) -> None:
    """Set environment variables of this process, and remove those that are None."""
    _assign(environment)
    time.tzset()


def _assign(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def serve(pipe: Connection, log: str, environment: Mapping[str, str | None]) -> None:
    """Run the jobs from `pipe`; exit at once when it is closed or the parent dies."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    set_variables(environment)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    watched.begin(log)
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, jobs), daemon=True).start()
    while True:
        job = jobs.get()
        progress = _PipeProgress(pipe)
        try:
            result = call(job, progress)
        except RvbuildError as error:
            result = failed(error)
        except BaseException as error:
            text = traceback.format_exc()
            with contextlib.suppress(OSError):
                sys.stderr.write(text)
                sys.stderr.flush()
            result = Failed(
                None,
                plain(error, job.kwargs.get("outputs")) or f"{type(error).__name__}: {error} (traceback in {log})",
                text,
            )
        progress.flush()
        pipe.send(("done", result))


def _receive(pipe: Connection, jobs: queue.SimpleQueue[Job]) -> None:
    try:
        while True:
            jobs.put(pipe.recv())
    except (EOFError, OSError):
        # A process group: this also ends data loaders that the job may have started.
        os.killpg(0, signal.SIGKILL)


class _PipeProgress:
    """Sends progress to the parent, at most a few times per second; any thread of the job may use it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._pending = 0
        self._sent = 0.0
        self._lock = threading.RLock()

    def start(self, step: str, total: int, unit: str) -> None:
        self._send("start", (step, total, unit))

    def advance(self, n: int = 1) -> None:
        with self._lock:
            self._pending += n
            now = time.monotonic()
            if now - self._sent >= _REPORT_EVERY_S:
                self._sent = now
                self.flush()

    def note(self, message: str) -> None:
        self._send("note", message)

    def flush(self) -> None:
        with self._lock:
            if self._pending:
                self._pipe.send(("advance", self._pending))
                self._pending = 0

    def _send(self, kind: str, value: Any) -> None:
        with self._lock:
            self.flush()
            self._pipe.send((kind, value))
