"""A job of several processes on the workers of a cluster: a task for each, which meet at a port of the first one.

Each task is bound to a worker, because it holds its slot while it waits for the others. If a process or a worker is
lost, the others are ended, and the job is started again in as many processes as there are slots for: it continues from
its checkpoints, and its result does not depend on their number.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from rvbuild.cores import Part
from rvbuild.engine.cluster.task import Submits, Task
from rvbuild.engine.run.made import Made
from rvbuild.engine.run.worker import Failed, Job
from rvbuild.engine.run.workers import error_of
from rvbuild.errors import PeerLostError, StageError, WorkerDiedError, of_kind
from rvbuild.progress import Progress, Silent

RETRIES = 3
"""How often a job is started again after a process or a worker was lost."""
_LOOK_EVERY_S = 0.5
_GRACE_S = 3.0
"""How long reports of other processes are awaited after the first failure: one that lost another is not the reason."""
_RETURN_S = 10.0
"""How long workers are awaited that may still come, or come back, before fewer processes are started."""
_RETURN_HERE_S = 120.0
"""The same, if they are always started again."""
_GATHER_S = 60.0
"""How long processes hold their slots while others wait for one, in which somebody else may wait for theirs."""

_gathering = threading.Lock()
"""Held while the processes of a job get their slots: two jobs that each hold half of what they need wait for ever."""


class Together:
    """Runs the processes of one job.

    Parameters
    ----------
    cluster
        The executor, which is connected.
    job
        Its demand says how many processes it may have.
    progress
        Receives the progress of the first process.
    """

    def __init__(self, cluster: Submits, job: Job, progress: Progress) -> None:
        self._cluster, self._link, self._job, self._progress = cluster, cluster.link, job, progress
        self._single = replace(job, demand=replace(job.demand, processes=1))
        self._died: Counter[str] = Counter()  # processes, by worker: there they have too little memory
        self._gone: list[str] = []  # workers, in the last attempt
        self._losses = 0
        self._fewer = 0

    def run(self) -> Any:
        """Return the result of the first process.

        Raises
        ------
        RvbuildError
            An error for users from a process, or the loss of processes again and again.
        """
        reason = ""
        while True:
            places = self._places()
            hosts = ", ".join(f"{host} ({count})" for host, count in Counter(map(_host, places)).items())
            count = f"{len(places)} process{'es' if len(places) > 1 else ''}"
            if reason:
                self._progress.note(f"started again in {count} on {hosts}: {reason}")
            elif len(places) < self._job.demand.processes and len(places) != self._fewer:
                self._fewer = len(places)
                self._progress.note(f"{count} instead of {self._job.demand.processes}: workers have no more slots")
            results = self._attempt(places)
            if results is None:  # others have the slots
                self._link.pause(random.uniform(1, 10))
                continue
            if (result := self._result(places, results)) is not None:
                return result
            reason = self._reason(places, results)
            self._losses += 1
            if self._losses > RETRIES:
                raise self._error(reason, results)

    def _places(self) -> list[str]:
        """Return the worker of each process: of those that are idle now, the ones with most slots."""
        fixed = self._cluster.fixed
        until = time.monotonic() + (_RETURN_HERE_S if fixed else _RETURN_S)
        while True:
            needs = self._cluster.offers.needs(self._single.resource, self._single.demand)
            slots = self._cluster.offers.slots(needs)
            for address, count in self._died.items():
                if address in slots:
                    slots[address] = max(0, slots[address] - count)
            wanted = min(self._job.demand.processes, sum(slots.values()))
            is_last = time.monotonic() >= until or 0 < fixed <= len(self._cluster.offers.now(_LOOK_EVERY_S))
            if wanted and (is_last or wanted == self._job.demand.processes):
                break
            if is_last and self._died and not wanted:
                self._died.clear()  # there is no other worker
            self._link.pause(_LOOK_EVERY_S)
        busy = {address: len(keys) for address, keys in self._link.ask_scheduler(self._link.client.processing).items()}
        free = {address: max(0, count - busy.get(address, 0)) for address, count in slots.items()}
        if sum(free.values()) < wanted:
            free = slots
        places: list[str] = []
        for address in sorted(free, key=lambda address: (-free[address], address)):
            places += [address] * min(free[address], wanted - len(places))
        return places

    def _attempt(self, places: Sequence[str]) -> list[Any] | None:
        """Start the processes, and return what became of each; None if not all have got their slots.

        A result is that of the function, a `Failed`, a `Lost`, an exception of Dask, or None if it was ended.
        """
        ports = self._link.ask(self._link.client.run, free_port, workers=[places[0]], on_error="return")
        if not isinstance(port := ports.get(places[0]), int):
            return [ConnectionError(f"{places[0]} does not answer")] + [None] * (len(places) - 1)
        self._gone = []
        tasks: list[Task] = []
        futures: list[Any] = []
        changed = threading.Event()
        try:
            with self._gathering():
                for rank, place in enumerate(places):
                    task = self._task(Part(rank, len(places), _host(places[0]), port), changed)
                    tasks.append(task)
                    futures.append(self._cluster.submit(task, place))
                began = time.monotonic()
                while not all(task.hosts for task in tasks) and not self._are_over(places, futures):
                    if time.monotonic() - began > _GATHER_S:
                        return None
                    self._wait(changed)
            self._cluster.board.begun(
                self._job.label, ", ".join(dict.fromkeys(h for task in tasks for h in task.hosts))
            )
            while not self._are_over(places, futures):
                self._wait(changed)
            until = time.monotonic() + _GRACE_S
            while not all(future.done() for future in futures) and time.monotonic() < until:
                self._wait(changed)
            return [_result_of(future) for future in futures]
        finally:
            for task in tasks:
                self._cluster.withdraw(task)
            self._cluster.board.ended(self._job.label)

    def _task(self, part: Part, changed: threading.Event) -> Task:
        """Return the task of one process; the first one finishes the outputs, and the others write none."""
        job = replace(self._single, environment={**self._single.environment, **part.environment()})
        if part.rank and job.making is not None:
            job = replace(job, making=replace(job.making, lock=None))
        progress = Silent() if part.rank else self._progress
        return Task(job, progress, done=changed)

    @contextlib.contextmanager
    def _gathering(self) -> Iterator[None]:
        while not _gathering.acquire(timeout=_LOOK_EVERY_S):
            self._link.pause(0)
        try:
            yield
        finally:
            _gathering.release()

    def _are_over(self, places: Sequence[str], futures: Sequence[Any]) -> bool:
        """Tell whether all processes have done their work, or one has failed or lost its worker."""
        results = [_result_of(future) for future in futures]
        if any(_is_bad(result) for result in results) or all(future.done() for future in futures):
            return True
        self._gone = [place for place in dict.fromkeys(places) if place not in self._cluster.offers.now(_LOOK_EVERY_S)]
        if self._gone:  # seen twice, as it is all that tells of a loss while processes wait for others
            self._link.pause(_LOOK_EVERY_S)
            self._gone = [place for place in self._gone if place not in self._cluster.offers.now(0)]
        return bool(self._gone)

    def _wait(self, changed: threading.Event) -> None:
        changed.wait(_LOOK_EVERY_S)
        changed.clear()
        self._link.pause(0)

    def _result(self, places: Sequence[str], results: Sequence[Any]) -> Any:
        """Return the result of the job, or None if it has to be started again.

        Raises
        ------
        RvbuildError
            A process has reported an error that is not the loss of another.
        """
        made = [result for result in results if isinstance(result, Made)]
        changed = tuple(dict.fromkeys(path for one in made for path in one.changed))
        if changed:  # on one of the machines is enough
            return replace(made[0], changed=changed)
        for result in results:
            if isinstance(result, Failed) and not _is_of(result, WorkerDiedError, PeerLostError):
                raise error_of(result)
        if any(result is None or _is_bad(result) for result in results):
            return None
        if made:
            return replace(results[0], host=", ".join(dict.fromkeys(one.host for one in made)))
        return results[0]

    def _reason(self, places: Sequence[str], results: Sequence[Any]) -> str:
        """Return why a job is started again; processes that died are counted."""
        there = self._cluster.offers.now(0)
        if gone := [place for place in dict.fromkeys(places) if place in self._gone or place not in there]:
            return f"the worker on {', '.join(dict.fromkeys(map(_host, gone)))} was lost"
        for place, result in zip(places, results, strict=True):
            if isinstance(result, Failed) and _is_of(result, WorkerDiedError):
                self._died[place] += 1
                return result.message.partition(";")[0]
        for place, result in zip(places, results, strict=True):
            if _is_bad(result) and not isinstance(result, Failed):
                return f"the worker on {_host(place)} was lost"
        return next((result.message for result in results if isinstance(result, Failed)), "processes lost each other")

    def _error(self, reason: str, results: Sequence[Any]) -> Exception:
        text = f"its processes were lost {self._losses} times; the last time, {reason}. See the logs of the cluster"
        death = next((r for r in results if isinstance(r, Failed) and _is_of(r, WorkerDiedError)), None)
        return StageError(text) if death is None else error_of(replace(death, message=text))


def free_port() -> int:
    """Return a port of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def _host(address: str) -> str:
    """Return the machine of a worker, as the others reach it."""
    return urllib.parse.urlsplit(address).hostname or ""


def _result_of(future: Any) -> Any:
    """Return the result of a task, or its exception; None if it has not ended."""
    if not future.done():
        return None
    try:
        return future.result(timeout=_GRACE_S)
    except TimeoutError:  # it is on its way
        return None
    except Exception as error:
        return error


def _is_bad(result: Any) -> bool:
    """Tell whether what one process has returned ends all of them."""
    from rvbuild.engine.cluster.node import Lost

    return isinstance(result, Failed | Lost | Exception) or (isinstance(result, Made) and bool(result.changed))


def _is_of(failed: Failed, *classes: type[Exception]) -> bool:
    return failed.kind is not None and isinstance(of_kind(failed.kind, ""), classes)
