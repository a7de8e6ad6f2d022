"""Unfinished files in a store, which are protected while their process lives, on any machine."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

from rvbuild.engine.store.locks import HeldError, acquire, give_up, held
from rvbuild.engine.store.spares import Spares
from rvbuild.errors import StoreError

#: Name of the lock of a process with unfinished files, and the prefix of their names.
_ALIVE = "alive-"


class Scratch:
    """The directory `tmp` of the store at `root`, where files are until they are complete."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._owner = ""
        self._end: weakref.finalize[..., Scratch] | None = None
        self._starting = threading.Lock()
        self._spares = Spares()
        self._numbers = itertools.count()

    def temporary(self) -> Path:
        """Return a new unique path in `tmp`; call `release` when it is no longer needed."""
        return self.root / f"tmp/{self._alive()}-{next(self._numbers)}"

    def release(self, path: Path) -> None:
        """Remove the file or directory at `path`, from `temporary`, if it still exists."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield a new, empty and unique directory, which is removed at the end."""
        path = self._spares.folder(self.temporary())
        is_done = False
        try:
            yield path
            is_done = True
        finally:
            # After an error, something may still write into it.
            if not (is_done and self._spares.keep(path)):
                self.release(path)

    def sweep(self) -> None:
        """Remove leftovers of killed processes in `tmp`, but nothing that a living process on any machine may use."""
        dead: dict[str, bool] = {}
        left = [path for path in (self.root / "tmp").glob("*")]
        owners = [path.name.removeprefix(_ALIVE) for path in (self.root / "locks").glob(f"{_ALIVE}*")]
        for owner in {*owners, *(path.name.partition("-")[0] for path in left)}:
            dead[owner] = self._is_dead(owner)
        for path in left:
            if dead[path.name.partition("-")[0]]:
                self.release(path)

    def close(self) -> None:
        """Release the lock that protects unfinished files of this object."""
        if self._end is not None:
            self._end()

    def now(self) -> float:
        """Return the time of the store's file system, which may be another machine's."""
        probe = self.temporary()
        try:
            probe.touch()
            return probe.stat().st_mtime
        finally:
            self.release(probe)

    def _alive(self) -> str:
        """Return the prefix of our unfinished files, and hold the lock that shows that this process is alive.

        Unlike a process id, a lock is visible to other machines and containers.
        """
        with self._starting:
            if self._end is None or not self._end.alive:
                self._owner = uuid.uuid4().hex
                path = self.root / "locks" / f"{_ALIVE}{self._owner}"
                self._end = weakref.finalize(self, _let_go, path, acquire(path), os.getpid(), self._spares)
            return self._owner

    def _is_dead(self, owner: str) -> bool:
        """Tell whether nobody holds the lock of `owner`; if so, remove the lock file."""
        path = self.root / "locks" / f"{_ALIVE}{owner}"
        if owner == self._owner:
            return False
        if not path.exists():
            return True
        try:
            with held(path, wait=give_up):
                return True
        except (HeldError, StoreError):  # alive, or of a user whose files we must not touch
            return False

    def building(self, key: str, wait: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of `key` (or of a trajectory); `wait` is called while another process builds it."""
        return self._spares.held(self.root / f"locks/{key}", self.temporary(), wait)


def _let_go(path: Path, handle: int, pid: int, spares: Spares) -> None:
    if os.getpid() == pid:  # not a forked child of the holder
        spares.clear()
        path.unlink(missing_ok=True)
        os.close(handle)
