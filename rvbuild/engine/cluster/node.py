"""A worker of the cluster during a session: what it offers, and the jobs that it runs in a host beside it.

Everything here is called in the worker. A node is a plugin of the worker, registered by the driver for one session: so
workers that join later get one, too, and no session sees the environment of another.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import socket
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from distributed import Worker, WorkerPlugin, get_worker

from rvbuild.engine.cluster.beacon import Beacon
from rvbuild.engine.cluster.connect import other_version, version_here
from rvbuild.engine.cluster.host import Host, Told
from rvbuild.engine.cluster.kept import UnwantedError
from rvbuild.engine.cluster.outpost import Meeting, Outpost
from rvbuild.engine.run.machine import Machine, card_count
from rvbuild.engine.run.worker import Failed, Job, failed, plain
from rvbuild.errors import RvbuildError
from rvbuild.files.budget import memory_bytes
from rvbuild.process import variables
from rvbuild.progress import Sent

#: What a worker offers to all sessions. One of them computes per `COMPUTE`, or per GPU; `TORCH` is that with torch.
MEMORY, COMPUTE, TORCH, GPU = "rvbuild.memory", "rvbuild.compute", "rvbuild.torch", "rvbuild.gpu"
_LOOK_EVERY_S = 1.0
_ASK_EVERY_S = 5.0
_REPORT_EVERY_S = 0.3
_CANCEL_EVERY_S = 0.05
_ERRORS_OF_HOSTS = ("WorkerDiedError", "StageError", "StoreError")


@dataclass(frozen=True)
class Session:
    """What every node of a session knows.

    Attributes
    ----------
    name : str
        Unique; the name of the plugin, of the topic of events, and of the resource that accepted workers offer.
    environment : mapping
        Environment variables of jobs; None removes one.
    logs : Path
        Directory for the logs of all nodes.
    preload : tuple of str
        Modules that are imported before the first job.
    beacon : Beacon
    is_local : bool
        Whether all workers run on the driver's machine, which then share its GPUs: worker 0 gets GPU 0 and so on.
    versions : tuple of str
        Those of the driver that workers must have; see `version_here`.
    client : str
        The driver's client of Dask.
    meeting : Meeting or None
        The remote store through which files go, if workers share none with the driver.
    """

    name: str
    environment: Mapping[str, str | None]
    logs: Path
    preload: tuple[str, ...]
    beacon: Beacon
    is_local: bool
    versions: tuple[str, str]
    client: str
    meeting: Meeting | None = None


@dataclass(frozen=True)
class Lost:
    """The result of a job whose worker is closing: it has to run elsewhere."""


class Node(WorkerPlugin):
    """The part of a session on one worker."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.name = session.name
        self.problem: str | None = None

    async def setup(self, worker: Worker) -> None:
        """Accept jobs, if the worker has the driver's code and shares its directories and locks."""
        self._worker = worker
        self._host: Host | None = None
        self._starting = threading.Lock()
        self._running: dict[str, int | None] = {}  # key of a task -> number of its job in the host, once it has one
        self._unwanted: set[str] = set()  # of these tasks, those that nobody waits for any more
        self._outpost: Outpost | None = None
        self._is_closing = False
        try:
            await self._set_up(worker)
        except Exception as error:  # Dask would only log it, and call this node anyway
            self.problem = f"cannot take part ({type(error).__name__}: {error})"
        if self.problem is not None and not await self._is_out():
            worker.log_event(self.name, ["", "refused", f"{socket.gethostname()} {self.problem}"])

    async def _set_up(self, worker: Worker) -> None:
        first = worker.name if isinstance(worker.name, int) else 0
        count = card_count()
        self._cards = (
            [first] if self.session.is_local and first < count else range(0 if self.session.is_local else count)
        )
        self._machine = Machine(sys.maxsize, None, len(self._cards))
        self.problem = await asyncio.to_thread(self._found_problem)
        if self.problem is not None:
            return
        await worker.set_resources(**self._offer())
        self._watch = asyncio.create_task(self._watch_driver())

    def _found_problem(self) -> str | None:
        """Return why the worker cannot work for the driver; if it can, its own directory is prepared where needed."""
        if (problem := other_version(*version_here(), self.session.versions)) is not None:
            return problem
        meeting = self.session.meeting
        if meeting is None:
            return self.session.beacon.problem()
        if (problem := meeting.problem()) is None:
            self._outpost = Outpost(self._folder(), meeting.url)
        return problem

    def _folder(self) -> Path:
        """Return the directory of this machine for files of jobs, if none is shared."""
        return Path(self._worker.local_directory).parent / "rvbuild"

    async def _is_out(self) -> bool:
        """Tell whether the driver has ended."""
        if self.session.meeting is None:
            return await asyncio.to_thread(self.session.beacon.is_out)
        try:
            events = await self._worker.scheduler.events(topic=self.session.client)
        except Exception:  # the scheduler does not answer now
            return False
        actions = [event["action"] for _, event in events if isinstance(event, dict) and "action" in event]
        return not actions or actions[-1] == "remove-client"

    async def teardown(self, worker: Worker) -> None:
        """Kill what runs."""
        self._is_closing = True
        if self.problem is not None:
            return
        self._watch.cancel()
        await asyncio.to_thread(self._close)
        with contextlib.suppress(Exception):  # the scheduler may be gone
            await asyncio.wait_for(worker.set_resources(**{self.name: 0}), 2)

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Kill the job of a task that nobody wants any more."""
        if finish in ("cancelled", "released", "forgotten") and str(key) in self._running:
            self._unwanted.add(str(key))
            threading.Thread(target=self._cancel, args=(str(key),), daemon=True).start()

    def _cancel(self, key: str) -> None:
        """Kill a job, which may just be starting."""
        while key in self._running:
            number, host = self._running[key], self._host
            if number is not None and host is not None:
                host.cancel(number)
                return
            time.sleep(_CANCEL_EVERY_S)

    def run(self, job: Job) -> Any:
        """Run `job` in a thread of the worker; return its result, a `Failed`, or `Lost`."""
        key = str(self._worker.get_current_task())
        telling = _Telling(self._worker, self.name, key)
        telling("begun", socket.gethostname())
        making = job.making
        self._running[key] = None
        try:
            if making is not None and self._outpost is None:
                # What is left of a lost attempt cannot get into the result of this one.
                folder = job.kwargs["outputs"] / uuid.uuid4().hex
                folder.mkdir()
                job = replace(job, kwargs={**job.kwargs, "outputs": folder}, making=replace(making, is_elsewhere=True))
            with self._machine.taking(job.demand, lambda: self._is_closing) as share:
                cards = tuple(self._cards[card] for card in share.cards if card < len(self._cards))
                job = replace(job, environment={**job.environment, **replace(share, cards=cards).environment()})
                result = self._run(job, key, telling)
        except RvbuildError as error:
            result = failed(error)
        except UnwantedError:
            result = Failed(None, "cancelled", "")
        except EOFError:
            return Lost() if self._is_closing else self._died()
        except OSError as error:  # of the attempt's directory, or of starting the host: a full disk, for example
            if self._is_closing:
                return Lost()
            text = f"on {socket.gethostname()}: {plain(error, self.session.logs)}"
            return Failed(None, text, traceback.format_exc())
        finally:
            self._running.pop(key, None)
            self._unwanted.discard(key)
            telling.flush()
        if isinstance(result, Failed):
            return Lost() if self._is_closing else replace(result, message=self._with_host(result))
        return result

    def _run(self, job: Job, key: str, telling: _Telling) -> Any:
        def run(job: Job, told: Told) -> Any:
            return self._started().run(job, lambda number: self._running.update({key: number}), told)

        if self._outpost is None or job.making is None:
            return run(job, telling)
        return self._outpost.run(
            job,
            self.session.environment,
            lambda job, shown: run(job, lambda kind, value: telling(kind, shown(value) if kind == "note" else value)),
            Sent(telling),
            lambda: not self._is_closing and key not in self._unwanted,
        )

    def _with_host(self, failed: Failed) -> str:
        """Return a message that names the host, unless it is about the data, which are the same everywhere."""
        is_here = failed.kind is None or failed.kind.rpartition(":")[2] in _ERRORS_OF_HOSTS
        return f"on {socket.gethostname()}: {failed.message}" if is_here else failed.message

    def _died(self) -> Failed:
        """Return the failure of a job whose host has ended; there will be another for the next job."""
        with self._starting:
            self._host = None
        text = f"on {socket.gethostname()}: the process that starts workers was killed (out of memory?)"
        return Failed("rvbuild.errors:WorkerDiedError", text, "")

    def _started(self) -> Host:
        with self._starting:
            if self._is_closing:
                raise EOFError
            if self._host is None:
                hidden: dict[str, str | None] = dict.fromkeys(variables.hidden(os.environ))
                self._host = Host({**hidden, **self.session.environment}, self._logs(), self.session.preload)
            return self._host

    def _logs(self) -> Path:
        name = re.sub(r"[^\w.-]+", "-", str(self._worker.name))
        logs = self.session.logs if self._outpost is None else self._folder() / "log"
        return logs / f"{socket.gethostname()}-{name}"

    def _close(self) -> None:
        with self._starting:
            host, self._host = self._host, None
        if host is not None:
            host.close()
        if self._outpost is not None:
            self._outpost.close()

    async def _watch_driver(self) -> None:
        """Kill what runs when the driver ends, however it ends."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S if self.session.meeting is None else _ASK_EVERY_S)
            if await self._is_out():
                self._is_closing = True
                await asyncio.to_thread(self._close)
                with contextlib.suppress(Exception):
                    await self._worker.set_resources(**{self.name: 0})
                with contextlib.suppress(Exception):  # the first of all nodes; this ends `teardown` and so this task
                    await self._worker.scheduler.unregister_worker_plugin(name=self.name)
                return

    def _offer(self) -> dict[str, float]:
        """Return what the worker has: what its `--resources` say, or else what is found here."""
        given = self._worker.state.total_resources
        memory = given.get("memory") or self._worker.memory_manager.memory_limit or memory_bytes() or sys.maxsize
        gpus = len(self._cards)
        slots = given.get("torch") or gpus or 1
        has_torch = importlib.util.find_spec("torch") is not None
        return {
            self.name: self._worker.state.nthreads,
            MEMORY: float(memory),
            COMPUTE: slots,
            TORCH: slots if has_torch else 0,
            GPU: gpus,
        }


class _Telling:
    """Sends events of a job to the driver, and its advances a few times per second."""

    def __init__(self, worker: Worker, topic: str, key: str) -> None:
        self._worker, self._topic, self._key = worker, topic, key
        self._pending, self._sent = 0, time.monotonic()

    def __call__(self, kind: str, value: Any) -> None:
        if kind == "advance":
            self._pending += value
            if time.monotonic() - self._sent < _REPORT_EVERY_S:
                return
        self.flush()
        if kind != "advance":
            self._worker.log_event(self._topic, [self._key, kind, list(value) if isinstance(value, tuple) else value])

    def flush(self) -> None:
        """Send what was held back."""
        if self._pending:
            self._worker.log_event(self._topic, [self._key, "advance", self._pending])
        self._pending, self._sent = 0, time.monotonic()


def run_job(session: str, job: Job) -> Any:
    """Run `job` on this worker."""
    return cast("Node", get_worker().plugins[session]).run(job)


def report(session: str, dask_worker: Worker) -> tuple[str, str | None]:
    """Return the host of a worker, and why it takes no jobs of the session; None if it does."""
    node = cast("Node | None", dask_worker.plugins.get(session))
    return socket.gethostname(), "has not started its part of the session" if node is None else node.problem
