"""The processes of a training on one machine: started, watched and ended together.

The process that starts them computes nothing: it passes on their progress, and sees the end of each at once, whatever
the others wait for. If one fails, all are killed, and the one error that explains it is raised. If it is gone itself,
the others see the end of their pipe, and exit.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import Any

import torch

from rvbuild.cores import CARD_VARIABLE
from rvbuild.errors import ModelError, PeerLostError, RvbuildError, StageError, kind_of, of_kind
from rvbuild.language.user_code import Code, paths_in, reported, serve_code, served_code
from rvbuild.learn.device import select_device
from rvbuild.learn.shards.group import connected
from rvbuild.learn.shards.meeting import Here
from rvbuild.progress import Progress, Sent, Silent, receive

_GRACE_S = 2.0
"""How long reports of other processes are awaited after the first failure: one that lost another is not the reason."""
_EXIT_S = 20.0
"""How long a process may take to exit after its work."""


@dataclass(frozen=True)
class Work:
    """What each process does.

    Attributes
    ----------
    function : str
        `package.module:name` of a function that is called with `group`, `progress` and `kwargs`.
    kwargs : mapping
        Its arguments.
    shards : int
    processes : int
    device : str
        The name of the device, as of `train.device`.
    cards : sequence of int
        The GPU of each process; empty on a CPU.
    """

    function: str
    kwargs: Mapping[str, Any]
    shards: int
    processes: int
    device: str
    cards: Sequence[int] = ()


@dataclass(frozen=True)
class _Failure:
    """How a process has failed. `kind` is the `module:class` of an error for users; empty for others."""

    message: str
    kind: str = ""
    traceback: str = ""
    lost: bool = False
    """Whether it only reports that another process is gone."""


def cards_of(processes: int, device: str) -> list[int]:
    """Return the GPU of each process; none on a CPU.

    Raises
    ------
    ModelError
        There are fewer GPUs.
    """
    if select_device(device, "train.device").type != "cuda":
        return []
    given = [int(card) for card in os.environ.get(CARD_VARIABLE, "").split(",") if card]
    cards = given if len(given) >= processes else list(range(torch.cuda.device_count()))
    if len(cards) < processes or ":" in device:
        there = f"train.device is {device}" if ":" in device else f"there are {len(cards)}"
        raise ModelError(f"{processes} processes of a training need as many GPUs, and {there}; set --procs accordingly")
    return cards[:processes]


def run_together(work: Work, progress: Progress) -> None:
    """Run the processes of a training to their end.

    Raises
    ------
    RvbuildError
        One of them has failed: its error, or that it was killed.
    """
    context = _context(work)
    with tempfile.TemporaryDirectory(prefix="rvbuild-train-") as folder, _ending() as processes:
        for rank in range(work.processes):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve,
                args=(theirs, work, served_code(), rank, Path(folder) / "meeting"),
                name=f"train-{rank + 1}",
            )
            process.start()
            theirs.close()
            processes[ours] = process
        _watch(dict(processes), progress, work.processes)
        for process in processes.values():
            process.join(_EXIT_S)


def _context(work: Work) -> SpawnContext | ForkServerContext:
    """Return the source of processes: in a worker, a process of its own that has imported torch once for all.

    In any other process, that source may belong to somebody else: there is one for each process.
    """
    if multiprocessing.parent_process() is None:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.function.partition(":")[0]])
    return context


@contextlib.contextmanager
def _ending() -> Iterator[dict[Connection, Any]]:
    """Yield a dict of processes by their pipes, which are killed at the end of the block if they still run."""
    processes: dict[Connection, Any] = {}
    try:
        yield processes
    finally:
        for process in processes.values():
            if process.is_alive():
                process.kill()
        for pipe, process in processes.items():
            process.join()
            pipe.close()


def _watch(running: dict[Connection, Any], progress: Progress, count: int) -> None:
    """Pass on progress until all processes have done their work, or raise the error of those that failed."""
    failures: dict[str, _Failure] = {}
    until = float("inf")
    while running and time.monotonic() < until:
        left = None if until == float("inf") else max(0.0, until - time.monotonic())
        for pipe in wait(list(running), left):
            assert isinstance(pipe, Connection)
            process = running[pipe]
            try:
                kind, value = pipe.recv()
            except (EOFError, ConnectionResetError):
                process.join(_EXIT_S)
                kind, value = "failed", _death(process, count)
            if kind == "done":
                del running[pipe]
            elif kind == "failed":
                del running[pipe]
                failures[process.name] = value
                until = min(until, time.monotonic() + _GRACE_S)
            else:
                receive(progress, kind, value)
    if failures:
        raise _error([failures[name] for name in sorted(failures)])


def _death(process: Any, count: int) -> _Failure:
    """Return how a process has ended without a report."""
    code = process.exitcode
    number = process.name.rpartition("-")[2]
    if code == -signal.SIGKILL:
        how = "was killed (out of memory? try fewer processes with --procs, or a smaller batch)"
    elif code is not None and code < 0:
        how = f"died of {signal.Signals(-code).name}"
    else:
        how = f"ended unexpectedly with status {code}"
    return _Failure(f"process {number} of {count} of the training {how}")


def _error(failures: Sequence[_Failure]) -> RvbuildError:
    """Return the error that explains failures: a death, or else an error for users, or else any but a loss."""

    def order(failure: _Failure) -> int:
        return 3 if failure.lost else 0 if not failure.traceback else 1 if failure.kind else 2

    failure = min(failures, key=order)
    error: RvbuildError = StageError(failure.message)
    if failure.kind:
        error = of_kind(failure.kind, failure.message)
    if failure.traceback:
        error.__notes__ = [failure.traceback]
    return error


def _serve(pipe: Connection, work: Work, code: Code | None, rank: int, meeting: Path) -> None:
    """Do the work of one process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever has started it handles Ctrl-C
    threading.Thread(target=_exit_with_parent, args=(pipe,), daemon=True).start()
    if work.cards:
        os.environ[CARD_VARIABLE] = str(work.cards[rank])
    sending = threading.Lock()

    def send(kind: str, value: Any) -> None:
        with sending:
            pipe.send((kind, value))

    progress = Silent() if rank else Sent(send)
    try:
        watch = serve_code(code, paths_in(work.kwargs))
        module, _, name = work.function.partition(":")
        function = getattr(importlib.import_module(module), name)
        device = select_device(work.device, "train.device")
        with connected(work.shards, rank, work.processes, Here(meeting), device) as group:
            function(group=group, progress=progress, **work.kwargs)
            reported(watch, progress.note)
        report: tuple[str, Any] = ("done", None)
    except BaseException as error:
        text = traceback.format_exc()
        kind = kind_of(error) if isinstance(error, RvbuildError) else ""
        if not kind:
            sys.stderr.write(text)
        message = str(error) if kind else f"{type(error).__name__}: {error}"
        report = ("failed", _Failure(message, kind, text, isinstance(error, PeerLostError)))
    pipe.send(report)


def _exit_with_parent(pipe: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()  # nothing is ever sent
    os._exit(1)
