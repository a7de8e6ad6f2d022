"""A worker that shares no file system with the driver.

The inputs of a job are fetched from a remote store by their digests. The job finds them in a directory of its own, at
the paths that they have on the driver's machine, below that directory. What it writes is sent to the remote store by
digest, and the driver only gets to know the digests. So neither machine reads files of the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rvbuild.engine.cluster.kept import Kept, UnwantedError
from rvbuild.engine.remote.backend import Backend
from rvbuild.engine.remote.store import RemoteStore
from rvbuild.engine.run.made import Made
from rvbuild.engine.run.worker import Failed, Job, plain
from rvbuild.engine.store.locks import acquire, is_held
from rvbuild.errors import RvbuildError, StageError
from rvbuild.files.address import is_url
from rvbuild.language.user_code import Code
from rvbuild.process.threads import map_threads
from rvbuild.progress import Progress

_AT_ONCE = 8
#: How long, in seconds, checkpoints of an interrupted job are kept for another attempt on this machine.
_CHECKPOINTS_S = 14 * 24 * 3600.0
#: Environment variables with this prefix may hold paths of the driver's machine.
_PREFIX = "RVBUILD_"
#: Arguments of stages that only save work on the driver's machine.
_ONLY_THERE = ("previous", "live")


@dataclass(frozen=True)
class Meeting:
    """A file in a remote store by which a worker finds out whether it has the store of the driver.

    Attributes
    ----------
    url : str
        The address of the store; absolute, if it is a directory.
    path, nonce : str
        The file there, and its content.
    """

    url: str
    path: str
    nonce: str

    def problem(self) -> str | None:
        """Return why this process cannot use the store; None if it can."""
        try:
            backend = Backend(self.url)
            with backend.errors("use"):
                if backend.read(self.path) != self.nonce.encode():
                    return f"has another remote store at {self.url} than the driver, or does not reach it"
                backend.replace(self.path, self.nonce.encode())
        except RvbuildError as error:
            return f"cannot use the remote store: {error}"
        return None


class Outpost:
    """The files of one worker, in the directory `root`, which the workers of one machine share.

    objects/ab/cdef…       fetched contents; they are kept until the disk is nearly full
    jobs/OWNER/…           what running jobs read and write
    resume/TRAJECTORY/     checkpoints of interrupted jobs
    locks/                 locks of owners, and of contents that are being fetched
    """

    def __init__(self, root: Path, url: str) -> None:
        self._root = Path(os.path.realpath(root))
        self._remote = RemoteStore(url)
        self._kept = Kept(self._root, self._remote)
        owner = uuid.uuid4().hex
        self._lock = acquire(self._root / "locks" / owner)
        self._jobs = self._root / "jobs" / owner
        self._jobs.mkdir(parents=True)
        (self._root / "resume").mkdir(exist_ok=True)
        self._sweep()

    def close(self) -> None:
        """Remove what belongs to jobs."""
        shutil.rmtree(self._jobs, ignore_errors=True)
        (self._root / "locks" / self._jobs.name).unlink(missing_ok=True)
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def run(
        self,
        job: Job,
        environment: Mapping[str, str | None],
        run: Callable[[Job, Callable[[str], str]], Any],
        progress: Progress,
        is_wanted: Callable[[], bool],
    ) -> Any:
        """Fetch what the stage of `job` reads, run it, and send what it has written.

        Parameters
        ----------
        job : Job
        environment : mapping
            The variables of the driver's session.
        run : callable
            Runs a job whose files are here. It also gets a function that turns paths in a text into the driver's.
        progress : Progress
        is_wanted : callable
            Whether anybody still waits for the result.

        Returns
        -------
        Made, Failed, …
            What `run` returns.

        Raises
        ------
        StoreError
            The remote store cannot be used, or lacks an input.
        StageError
            The disk of this machine cannot be used.
        UnwantedError
            Nobody waits for the result any more.
        EOFError
            `run` raises it: the process of the job has ended.
        """
        assert job.making is not None
        folder = self._jobs / uuid.uuid4().hex
        tree = folder / "tree"
        try:
            with _plainly(self._root):
                (folder / "outputs").mkdir(parents=True)
                self._kept.place(job.making.contents, tree, progress, is_wanted)
                here = self._moved(job, environment, folder)
            result = run(here, lambda text: text.replace(str(tree), ""))
            if isinstance(result, Failed):
                return replace(result, message=result.message.replace(str(tree), ""))
            if isinstance(result, Made):
                with _plainly(self._root):
                    self._send(result, progress, is_wanted)
                assert here.making is not None
                if here.making.lock is not None:
                    shutil.rmtree(here.kwargs["resume"], ignore_errors=True)
            return result
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self._kept.trim()

    def _send(self, made: Made, progress: Progress, is_wanted: Callable[[], bool]) -> None:
        progress.start("sending results", len(made.files), "files")

        def send(name: str) -> None:
            if not is_wanted():
                raise UnwantedError
            self._remote.send_content(made.folder / name, made.files[name].digest)
            progress.advance()

        map_threads(send, list(made.files), _AT_ONCE)

    def _moved(self, job: Job, environment: Mapping[str, str | None], folder: Path) -> Job:
        """Return a job that finds its files in `folder`."""
        making, tree = job.making, folder / "tree"
        assert making is not None
        kwargs = {name: moved(value, tree) for name, value in job.kwargs.items() if name not in _ONLY_THERE}
        kwargs["outputs"] = folder / "outputs"
        lock = None
        if (resume := job.kwargs.get("resume")) is not None:
            kwargs["resume"] = self._root / "resume" / resume.name
            if making.lock is not None:  # of the processes of a training, only the first one has checkpoints
                kwargs["resume"].mkdir(exist_ok=True)
                lock = self._root / "locks" / f"{resume.name}.writer"
        variables = {
            name: moved_text(value, tree)
            for name, value in environment.items()
            if value is not None and name.startswith(_PREFIX)
        }
        for path in (tree, *(Path(f"{tree}{path}") for path in (job.code.folders if job.code else ()))):
            path.mkdir(parents=True, exist_ok=True)
        return replace(
            job,
            kwargs=kwargs,
            code=None if job.code is None else _moved_code(job.code, tree),
            environment={**variables, **job.environment},
            making=replace(making, store=folder / "store", scratch=None, inputs={}, placed={}, contents={}, lock=lock),
        )

    def _sweep(self) -> None:
        """Remove what killed workers have left, and old checkpoints."""
        for path in (self._root / "jobs").iterdir():
            lock = self._root / "locks" / path.name
            if path != self._jobs and not is_held(lock):
                shutil.rmtree(path, ignore_errors=True)
                lock.unlink(missing_ok=True)
        for path in (self._root / "resume").iterdir():
            with contextlib.suppress(OSError):
                newest = max(entry.stat().st_mtime for entry in (path, *path.rglob("*")))
                if time.time() - newest > _CHECKPOINTS_S:
                    shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _plainly(root: Path) -> Iterator[None]:
    """Turn an error of this machine into a message."""
    try:
        yield
    except OSError as error:
        raise StageError(f"on {socket.gethostname()}: {plain(error, root) or error}") from None


def moved(value: Any, tree: Path) -> Any:
    """Return an argument of a stage in which all local paths are below `tree`."""
    if isinstance(value, Path):
        return value if is_url(str(value)) else Path(f"{tree}{value}")
    if isinstance(value, Mapping):
        return {name: moved(item, tree) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(moved(item, tree) for item in value)
    return value


def moved_text(value: str, tree: Path) -> str:
    """Return the value of an environment variable, a path or a JSON list, in which local paths are below `tree`."""
    if value.startswith("/"):
        return f"{tree}{value}"
    if value.startswith("["):
        with contextlib.suppress(ValueError):
            items = json.loads(value)
            return json.dumps([moved_text(item, tree) if isinstance(item, str) else item for item in items])
    return value


def _moved_code(code: Code, tree: Path) -> Code:
    return Code(
        f"{tree}{code.workspace}",
        {name: f"{tree}{path}" for name, path in code.modules.items()},
        tuple(f"{tree}{path}" for path in code.files),
        tuple(f"{tree}{path}" for path in code.folders),
        code.variables,
    )
