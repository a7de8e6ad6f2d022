"""Directories and lock files that were used, and are kept to be used again under another name.

ext4 does not use the number of a removed file again for minutes, and looks at all of them whenever it creates one. A
build that creates and removes files for each artifact thus slows down the more it builds; a rename costs nothing there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from rvbuild.engine.store.locks import acquire

#: Lock files that are kept at most: each is open.
_MOST_LOCKS = 64


class Spares:
    """What one process keeps; methods may be called from any thread."""

    def __init__(self) -> None:
        self._folders: list[Path] = []
        self._locks: list[tuple[Path, int]] = []

    def folder(self, path: Path) -> Path:
        """Return `path`, a new empty directory."""
        with contextlib.suppress(IndexError, OSError):  # none is left, or it was removed
            self._folders.pop().rename(path)
            return path
        path.mkdir(parents=True)
        return path

    def keep(self, folder: Path) -> bool:
        """Keep a directory that nobody uses any more, if it is empty; return whether it is kept."""
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            if next(entries, None) is None:
                self._folders.append(folder)
                return True
        return False

    @contextlib.contextmanager
    def held(self, path: Path, spare: Path, wait: Callable[[], None]) -> Iterator[None]:
        """Hold the lock file at `path` exclusively; later it is kept as `spare`. See `locks.held`."""
        handle = self._put_in_place(path)
        if handle is None:
            handle = acquire(path, wait=wait)
        try:
            yield
        finally:
            self._take_away(path, spare, handle)

    def _put_in_place(self, path: Path) -> int | None:
        """Return the open file of a lock that is held already and appears at `path`, or None if there is none."""
        try:
            spare, handle = self._locks.pop()
        except IndexError:
            return None
        try:
            os.link(spare, path)  # unlike a rename, it fails if somebody else holds the lock
        except OSError:
            if os.fstat(handle).st_nlink < 2:  # otherwise it was made: a file server may answer a repeated request
                self._locks.append((spare, handle))
                return None
        with contextlib.suppress(OSError):
            spare.unlink()
        return handle

    def _take_away(self, path: Path, spare: Path, handle: int) -> None:
        """Release the lock at `path`: its file, which stays locked, gets a name that nobody looks for."""
        with contextlib.suppress(OSError):
            if len(self._locks) < _MOST_LOCKS:
                path.rename(spare)
                self._locks.append((spare, handle))
                return
        with contextlib.suppress(OSError):  # a file that stays is no lock
            path.unlink()
        os.close(handle)

    def clear(self) -> None:
        """Remove everything that is kept."""
        while self._folders:
            with contextlib.suppress(OSError):
                self._folders.pop().rmdir()
        while self._locks:
            spare, handle = self._locks.pop()
            with contextlib.suppress(OSError):
                spare.unlink()
            os.close(handle)
