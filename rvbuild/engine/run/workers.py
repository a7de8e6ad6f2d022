"""Where stages run: a few persistent worker processes, or this process."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rvbuild.cores import cores
from rvbuild.engine.run import watched
from rvbuild.engine.run.worker import Failed, Job, call, serve, set_variables
from rvbuild.errors import RvbuildError, StageError, WorkerDiedError, of_kind
from rvbuild.progress import Progress, receive

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext

    from rvbuild.engine.keys.artifact import Artifact, Resource

#: The exit code that multiprocessing reports if the forkserver has died.
_LOST = 255
#: Signals that end a process after a fault in a library.
_CRASHES = tuple(-number for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL))
#: Maximum number of files in a message about a dead worker.
_SHOWN = 4
#: Pause before another attempt to start a worker.
_PAUSES_S = (0.05, 0.2, 1.0)


class Interrupted(BaseException):
    """The run is being stopped; unfinished jobs are discarded."""


class Executor(Protocol):
    """Runs jobs; `run` may be called from several threads and blocks until its job is done."""

    def run(self, job: Job, progress: Progress) -> Any:
        """Run `job` and return the result of its function.

        Raises
        ------
        RvbuildError
            An error for users from the function, or the death of the worker.
        """

    #: Whether jobs may run on other machines: then the executor, not its caller, knows the resources.
    is_elsewhere: bool

    def shares_no_files(self) -> bool:
        """Tell whether jobs run on machines that cannot see files of this one; results are then in a remote store."""

    def at_once(self) -> int:
        """Return the number of jobs that should be given to it at once."""

    def require(self, artifacts: Iterable[Artifact]) -> None:
        """Check that there is what each artifact needs, as far as the executor knows the resources.

        Raises
        ------
        StageError
            An artifact can never be built.
        """

    def prepare(self) -> None:
        """Start slow preparations for jobs in the background."""

    def interrupt(self) -> None:
        """Stop all jobs at once; their `run` raises `Interrupted`."""

    def close(self) -> None:
        """Stop the workers after their jobs."""


class Inline:
    """Runs every job in this process, for debugging."""

    is_elsewhere = False

    def __init__(self, environment: Mapping[str, str | None]) -> None:
        self._before = {name: os.environ.get(name) for name in environment}
        set_variables(environment)

    def run(self, job: Job, progress: Progress) -> Any:
        """Run `job` immediately."""
        return call(job, progress)

    def shares_no_files(self) -> bool:
        """Return false."""
        return False

    def at_once(self) -> int:
        """Return one."""
        return 1

    def require(self, artifacts: Iterable[Artifact]) -> None:
        """Do nothing: its caller knows the resources."""

    def prepare(self) -> None:
        """Do nothing: jobs import what they need."""

    def interrupt(self) -> None:
        """Do nothing: the interrupt itself stops the job."""

    def close(self) -> None:
        """Restore the environment variables of this process."""
        set_variables(self._before)


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    log: Path
    warm: set[Resource] = field(default_factory=set)  # resources whose imports are done
    job: Job | None = None


class Pool:
    """Worker processes, started on demand and reused; each runs one job at a time.

    A forkserver that has imported the common modules starts a worker in some 20 ms. If a worker dies, its job fails and
    the worker is replaced; workers end with this process, however it ends.

    Parameters
    ----------
    environment : mapping
        Environment variables of workers from their start; None removes one.
    logs : Path
        Directory for the output of workers.
    preload : sequence of str
        The modules that the forkserver imports.
    most : int, optional
        Maximum number of parallel jobs; unlimited by default.
    """

    is_elsewhere = False

    def __init__(
        self, environment: Mapping[str, str | None], logs: Path, preload: Sequence[str] = (), most: int | None = None
    ) -> None:
        self._most = most
        self._turns = contextlib.nullcontext() if most is None else threading.Semaphore(most)
        self._environment = dict(environment)
        self._logs = logs
        self._preload = [*preload, "rvbuild.engine.run.worker"]
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._lock = threading.Lock()
        self._stopped = False
        self._count = 0

    @functools.cached_property
    def _context(self) -> ForkServerContext:
        """The source of processes; multiprocessing is imported for the first one, so not if there is nothing to do."""
        import multiprocessing

        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(self._preload)
        return context

    def run(self, job: Job, progress: Progress) -> Any:
        """Run `job` on an idle worker, preferring one that has done its imports."""
        with self._turns:
            return self._run(job, progress)

    def _run(self, job: Job, progress: Progress) -> Any:
        worker = self._borrow(job)
        done = False
        try:
            try:
                worker.pipe.send(job)
            except (BrokenPipeError, ConnectionResetError):
                raise self._death(worker) from None
            result = self._await(worker, progress)
            done = True
        finally:
            self._give_back(worker, job.resource, alive=done)
        if isinstance(result, Failed):
            raise error_of(result)
        return result

    def shares_no_files(self) -> bool:
        """Return false."""
        return False

    def at_once(self) -> int:
        """Return the maximum number of parallel jobs."""
        return cores() if self._most is None else self._most

    def require(self, artifacts: Iterable[Artifact]) -> None:
        """Do nothing: its caller knows the resources."""

    def cancel(self, job: Job) -> None:
        """Kill the worker that runs `job`, which then fails."""
        with self._lock:
            workers = [worker for worker in self._busy if worker.job is job]
        for worker in workers:
            _kill(worker)

    def prepare(self) -> None:
        """Start the forkserver, which imports the common modules in the background."""
        with self._lock, apart(self._environment):
            if not self._stopped and self._context:  # which has named the modules
                from multiprocessing import forkserver

                forkserver.ensure_running()

    def _await(self, worker: _Worker, progress: Progress) -> Any:
        from multiprocessing.connection import wait

        while True:
            ready = wait([worker.pipe, worker.process.sentinel])
            if self._stopped:
                raise Interrupted
            if worker.pipe not in ready:
                raise self._death(worker)
            try:
                kind, value = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                worker.process.join(5)
                raise (Interrupted() if self._stopped else self._death(worker)) from None
            if not receive(progress, kind, value):
                return value

    def _borrow(self, job: Job) -> _Worker:
        with self._lock:
            if self._stopped:
                raise Interrupted
            while self._idle:
                warm = [w for w in self._idle if job.resource in w.warm]
                worker = warm[0] if warm else self._idle[0]
                self._idle.remove(worker)
                if worker.process.is_alive():
                    break
            else:
                worker = self._start()
            worker.job = job
            self._busy.append(worker)
            return worker

    def _give_back(self, worker: _Worker, resource: Resource, alive: bool) -> None:
        with self._lock:
            self._busy.remove(worker)
            if alive and not self._stopped:
                worker.warm.add(resource)
                self._idle.append(worker)
                return
        _kill(worker)
        worker.pipe.close()

    def _start(self) -> _Worker:
        self._count += 1
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"worker-{self._count}.log"
        for path in (log, log.with_suffix(".reading")):
            if path.is_symlink() or not path.is_file():  # nothing is written behind a symbolic link
                path.unlink(missing_ok=True)
        for pause_s in _PAUSES_S:
            try:
                return self._fork(log)
            except (EOFError, OSError):  # the forkserver was just killed; there will be another
                time.sleep(pause_s)
        try:
            return self._fork(log)
        except (EOFError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise StageError(f"cannot start a worker process: {reason}; out of memory or of processes?") from None

    def _fork(self, log: Path) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=serve, args=(theirs, str(log), self._environment), name=log.stem)
        try:
            with apart(self._environment):
                process.start()
        finally:
            theirs.close()
        return _Worker(process, ours, log)

    def _death(self, worker: _Worker) -> WorkerDiedError:
        worker.process.join(5)
        code = worker.process.exitcode
        tail = ""
        try:
            lines = worker.log.read_text(errors="replace").strip().splitlines()
            tail = "".join(f"\n    {line}" for line in lines[-5:])
        except OSError:
            pass
        if code == -signal.SIGKILL:
            why = "was killed (out of memory? try `-j 1` or a smaller batch)"
        elif code is not None and code < 0:
            why = f"died of {signal.Signals(-code).name}"
        elif code == _LOST:
            why = "was lost because the process that starts workers was killed (out of memory?)"
        else:
            why = f"ended unexpectedly with status {code}"
        files = watched.last(worker.log)
        if files:
            why += f" while it read {', '.join(files[:_SHOWN])}{', …' if len(files) > _SHOWN else ''}"
        if files and code in _CRASHES:  # the last output of a library does not help users
            why, tail = f"{why}; is the file damaged?", ""
        message = f"the worker process {why}; its output is in {worker.log}{tail}"
        return WorkerDiedError(message, files)

    def interrupt(self) -> None:
        """Kill all workers and their child processes."""
        with self._lock:
            self._stopped = True
            workers = [*self._busy, *self._idle]
            self._idle.clear()
        for worker in workers:
            _kill(worker)

    def close(self) -> None:
        """Stop the idle workers; none may be busy."""
        with self._lock:
            self._stopped = True
            workers, self._idle = self._idle, []
        for worker in workers:
            worker.pipe.close()  # the worker sees the end of its jobs and exits
        for worker in workers:
            worker.process.join(2)
            if worker.process.is_alive():
                _kill(worker)


@contextlib.contextmanager
def apart(environment: Mapping[str, str | None]) -> Iterator[None]:
    """Hide properties of this process from child processes: its script, its variables, the user's Ctrl-C.

    multiprocessing would run the script again in every worker: without `if __name__ == "__main__"` it would start
    rvbuild there, and wait for the workspace's lock. Ctrl-C reaches all processes of the terminal: the forkserver,
    which takes a second for its imports, would end with a traceback. Signals that are blocked at its start stay
    blocked.
    """
    _start_tracker()  # starting it later would unblock all signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    ours = {name: os.environ.get(name) for name in environment}
    set_variables(environment)
    try:
        yield
    finally:
        set_variables(ours)
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_tracker() -> None:
    """Start the process that frees what processes of multiprocessing leave behind, unless it runs.

    It warns of semaphores of killed processes, and that is how workers end: those of data loaders, and of libraries.
    """
    from multiprocessing import resource_tracker

    sys.warnoptions.append("ignore:resource_tracker")
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.pop()


def _kill(worker: _Worker) -> None:
    pid = worker.process.pid
    if pid is None or not worker.process.is_alive():
        return
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    worker.process.join(5)


def error_of(failed: Failed) -> RvbuildError:
    """Return the error of a job as an exception."""
    error = StageError(failed.message) if failed.kind is None else of_kind(failed.kind, failed.message)
    if isinstance(error, WorkerDiedError):
        error.files = failed.files
    error.__notes__ = [failed.traceback]
    return error
