"""The executor on a cluster: jobs become tasks of Dask, which places them by their needs and runs lost ones again."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rvbuild.cores import THREADS_VARIABLE, thread_count
from rvbuild.engine.cluster import connect, local, running
from rvbuild.engine.cluster.asking import asked
from rvbuild.engine.cluster.beacon import lit
from rvbuild.engine.cluster.link import Link
from rvbuild.engine.cluster.offers import Offers
from rvbuild.engine.cluster.task import Task
from rvbuild.engine.cluster.together import RETRIES, Together
from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.run.worker import Failed, Job
from rvbuild.engine.run.workers import Executor, Interrupted, error_of
from rvbuild.errors import RvbuildError, StageError
from rvbuild.progress import Progress, receive

if TYPE_CHECKING:
    from rvbuild.engine.cluster.node import Session
    from rvbuild.engine.remote.exchange import Exchange

_LOOK_EVERY_S = 5.0
#: How long Dask may take to bring a result, which is computed again if its worker is lost.
_RESULT_S = 3600.0
_HINT = (
    "Without a file system that all machines share, set RVBUILD_REMOTE to a store that this machine and all workers "
    "reach, such as s3://bucket/rvbuild: files then go through it (docs/cluster.md)"
)
#: Artifacts that are given to a cluster at least, which may grow while it works.
_AT_LEAST = 32


class Cluster:
    """Runs jobs on the workers of a Dask cluster, which share the workspace and the store with this process.

    If they do not, files go through a remote store, if there is one. It connects when the first job needs it.

    Parameters
    ----------
    address : str
        `local:N` or the address of a scheduler.
    environment : mapping
        Environment variables of jobs; None removes one.
    cache, store : Path
        The workspace's cache, and the root of the store.
    preload : sequence of str
        Modules that are imported before the first job.
    most : int, optional
        Maximum number of parallel jobs.
    note : callable
        Receives messages for the user.
    exchange : Exchange or None
        The remote store, for workers that share no files with this process.
    here : Executor
        Runs what needs files of this machine, if workers share none.
    """

    is_elsewhere = True

    def __init__(
        self,
        address: str,
        environment: Mapping[str, str | None],
        cache: Path,
        store: Path,
        preload: Sequence[str],
        most: int | None,
        note: Callable[[str], None],
        exchange: Exchange | None = None,
        here: Executor | None = None,
    ) -> None:
        self._exchange, self._here = exchange, here
        self._is_far = False
        self._address = address
        # Results depend on the number of threads, which must not depend on the node.
        self._environment = {**environment, THREADS_VARIABLE: str(thread_count())}
        self._logs = cache / "log" / running.FOLDER
        self._folders = {"workspace": self._logs, "store": store / "locks"}
        self._preload = tuple(preload)
        self._most = most
        self._note = note
        self._name = f"rvbuild-{uuid.uuid4().hex}"
        self._closing = contextlib.ExitStack()
        self._connecting = threading.Lock()
        self._error: BaseException | None = None  # of the attempt to connect
        self._tasks: dict[str, Task] = {}
        self._futures: dict[str, Any] = {}
        self._stopped = threading.Event()
        self.link = Link(address, self._name, note, self._stopped, self._wake)
        self.offers = Offers(self.link.offers, self._name)
        self.board = running.Board(self._logs, self._name)
        self.fixed = connect.workers_here(address)

    def shares_no_files(self) -> bool:
        """Tell whether files go through the remote store; it connects to find out."""
        self._connect()
        return self._is_far

    def at_once(self) -> int:
        """Return twice the number of jobs that the workers run at once, so that each finds the next one there."""
        if self._most is not None:
            return self._most
        self._connect()
        return max(_AT_LEAST, 2 * self.offers.jobs())

    def require(self, artifacts: Iterable[Artifact]) -> None:
        """Check that workers have what each artifact needs; a note tells if others may still join.

        Raises
        ------
        StageError
            No worker can ever build an artifact.
        """
        self._connect()
        lacking = self.offers.lacking(artifacts)
        if lacking and self.fixed:
            raise StageError(f"no worker of {self._address} can build\n  " + "\n  ".join(lacking))
        for text in lacking:
            self._note(f"warning: no worker can build {text}: it will wait for one that joins")

    def prepare(self) -> None:
        """Connect in the background."""

        def connect_quietly() -> None:
            with contextlib.suppress(Exception):  # the first job reports it
                self._connect()

        threading.Thread(target=connect_quietly, daemon=True).start()

    def run(self, job: Job, progress: Progress) -> Any:
        """Run `job` on a worker that has what it needs, or its processes on several; again, if one is lost.

        Raises
        ------
        RvbuildError
            An error for users from the function, the death of its process, or the loss of worker after worker.
        """
        self._connect()
        if self._is_far and self._here is not None and self._exchange is not None:
            if job.making is None:
                return self._here.run(job, progress)
            self._exchange.require(job.making.contents, progress)
        if job.code is not None:  # variables that are in the key
            job = replace(job, environment={**{n: os.environ.get(n) for n in job.code.variables}, **job.environment})
        if job.demand.processes > 1:
            with self._telling_loss(job):
                return Together(self, job, progress).run()
        task = Task(job, progress)
        while _is_lost(result := self._run(task)):
            if len(task.hosts) > RETRIES:
                raise StageError(task.lost_text())
        if isinstance(result, Failed):
            raise error_of(result)
        return result

    def interrupt(self) -> None:
        """Cancel all jobs, whose processes are killed."""
        self._stopped.set()
        if self._here is not None:
            self._here.interrupt()
        if futures := list(self._futures.values()):
            self.link.at_last("cancel", futures, force=True)
        self._wake()

    def close(self) -> None:
        """End the session on all workers, and the connection."""
        self._stopped.set()
        with self._connecting:
            self.link.at_last("unregister_worker_plugin", self._name)
            self.link.client = None
            self._closing.close()
        if self._here is not None:
            self._here.close()

    # -- parts --------------------------------------------------------------------------------------------------------

    def _connect(self) -> Any:
        with self._connecting:
            if self.link.client is None:
                if self._stopped.is_set():
                    raise Interrupted
                if self._error is not None:
                    raise self._error
                try:
                    self._begin()
                except BaseException as error:
                    self.link.client = None
                    self._error = error
                    self._closing.close()
                    raise
            return self.link.client

    def _begin(self) -> None:
        """Connect, and start a node on each worker."""
        from rvbuild.engine.cluster.node import Session
        from rvbuild.engine.cluster.outpost import Meeting

        link = self.link
        connect.quiet()
        address = self._address
        if self.fixed:
            address = local.started(self.fixed, self._logs, self._closing, self._note, self._stopped)
        link.client = connect.connected(address, self._closing, self._note, self._stopped)
        link.wait_for_workers()
        connect.require_same_versions(link.client, link.ask)
        beacon = self._closing.enter_context(lit(self._name, self._folders))
        versions = connect.version_here()
        names = self._name, self._environment, self._logs, self._preload
        session = Session(*names, beacon, self.fixed > 0, versions, link.client.id)
        refused, are_all = _registered(link, session)
        if are_all and self._exchange is not None:
            url = self._exchange.url
            if (problem := self._exchange.problem()) is not None:
                raise StageError(f"{_refused_text(refused)}\nFiles cannot go through {url} instead: {problem}")
            meeting = Meeting(url, *self._closing.enter_context(self._exchange.met(self._name)))
            self._note(f"{refused[0]}: files go through {url} instead")
            refused, are_all = _registered(link, replace(session, meeting=meeting))
            self._is_far = True
        if are_all:
            raise StageError(_refused_text(refused) + ("" if self._is_far else f"\n{_HINT}"))
        for text in refused:
            self._note(f"warning: {text}; it gets no jobs")
        link.client.subscribe_topic(self._name, self._receive)
        self._closing.callback(self.board.close)

    def _wake(self) -> None:
        for task in list(self._tasks.values()):
            task.done.set()

    def submit(self, task: Task, worker: str | None = None) -> Any:
        """Give a task to the cluster, or to one worker; return its future.

        Raises
        ------
        Interrupted
            The session is over.
        """
        from rvbuild.engine.cluster.node import run_job

        if self.link.is_over():
            raise Interrupted
        stage = task.job.function.partition(":")[0].rpartition(".")[2]
        key = task.key = f"{stage}-{uuid.uuid4().hex}"
        self._tasks[key] = task
        task.needs = self.offers.needs(task.job.resource, task.job.demand)
        done, bound = task.done, {} if worker is None else {"workers": [worker], "allow_other_workers": False}
        future = self._connect().submit(
            run_job, self._name, task.job, key=key, pure=False, resources=task.needs, **bound
        )
        self._futures[key] = future
        future.add_done_callback(lambda _: done.set())
        return future

    def withdraw(self, task: Task) -> None:
        """Forget a task that has ended, or that is no longer wanted."""
        self._tasks.pop(task.key, None)
        future = self._futures.pop(task.key, None)
        if future is not None and not future.done():
            self.link.at_last("cancel", [future], force=True)

    def _run(self, task: Task) -> Any:
        # A new event: the callback of a future that was cancelled before may still be to come.
        task.done = threading.Event()
        try:
            with self._telling_loss(task.job):
                return self._result(task, self.submit(task))
        finally:
            self._tasks.pop(task.key, None)
            self._futures.pop(task.key, None)
            self.board.ended(task.job.label)

    @contextlib.contextmanager
    def _telling_loss(self, job: Job) -> Iterator[None]:
        """Turn what follows from the loss of the scheduler into the error that tells of it."""
        try:
            yield
        except RvbuildError:
            raise
        except (Interrupted, Exception):
            client = self.link.client
            if client is not None and client.status == "running" and not self.link.is_over():
                raise
            # A question while a run is planned has nobody else who tells what has happened.
            raise self.link.down(again=job.making is None) from None

    def _result(self, task: Task, future: Any) -> Any:
        """Wait for the result of a task: that of its job, or `Lost`, after which it has to be given again."""
        from distributed import KilledWorker

        from rvbuild.engine.cluster.node import Lost

        is_stuck = self._wait(task, future)
        if task.is_refused or is_stuck:
            self.link.at_last("cancel", [future])
        if task.is_refused:
            raise StageError(task.lost_text())
        if is_stuck:
            return Lost()
        if self.link.is_over():
            raise Interrupted
        if future.status in ("cancelled", "lost"):
            raise self.link.down(again=task.job.making is None)
        try:
            return asked(future.result, stopped=self.link.is_over, within_s=_RESULT_S)
        except KilledWorker:
            raise StageError(task.lost_text()) from None
        except KeyError as error:  # a worker whose session has just ended
            if self._name not in str(error):
                raise
            time.sleep(1)
            return Lost()

    def _wait(self, task: Task, future: Any) -> bool:
        """Wait for the end of a task; return whether it has to be given to the cluster again.

        Dask looks for a worker when one joins, but not when that offers something a moment later.
        """
        noted = False
        while not task.done.wait(_LOOK_EVERY_S):
            if future.done() or self.link.is_over():
                break
            if self.link.has(task.key) or task.done.is_set():
                noted = False
            elif self.offers.having(task.needs) or len(task.hosts) > RETRIES:
                return True
            elif not noted:
                noted = True
                wanted = self.offers.text(task.needs)
                self._note(f"{task.job.label}: no worker has what it needs ({wanted}): waiting for one …")
        return False

    def _receive(self, event: tuple[float, Any]) -> None:
        """Pass on an event of a node."""
        key, kind, value = event[1]
        if kind == "refused":
            self._note(f"warning: {value}; it gets no jobs")
            return
        task = self._tasks.get(key)
        if task is None:
            return
        if kind == "begun":
            if len(task.hosts) > RETRIES:
                task.is_refused = True
                task.done.set()
                return
            if task.hosts:
                task.progress.note(f"started again on {value}: the worker on {task.hosts[-1]} was lost")
            task.hosts.append(value)
            self.board.begun(task.job.label, value)
        else:
            receive(task.progress, kind, value)


def _registered(link: Link, session: Session) -> tuple[list[str], bool]:
    """Open a session on all workers; return why some of them cannot work, and whether that is so of all of them."""
    from rvbuild.engine.cluster.node import Node, report

    link.register(Node(session))
    reports = link.ask(link.client.run, report, session.name, on_error="return")
    # A worker that was lost meanwhile has an error as its result.
    problems = {result for result in reports.values() if isinstance(result, tuple)}
    refused = [f"{host} {problem}" for host, problem in sorted(problems, key=str) if problem is not None]
    return refused, bool(refused) and len(refused) == len(problems)


def _refused_text(refused: Sequence[str]) -> str:
    return "no worker of the cluster can build this:\n  " + "\n  ".join(refused)


def _is_lost(result: Any) -> bool:
    from rvbuild.engine.cluster.node import Lost

    return isinstance(result, Lost)
