"""Writing that survives a power cut: files and directories that are synchronised with the disk."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection
from pathlib import Path

from rvbuild.process.threads import map_threads

_AT_ONCE = 16


def sync(path: Path) -> None:
    """Make the content of a file durable, or the renames inside a directory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(paths: Collection[Path]) -> None:
    """Make files and directories durable at the same time, which takes a file system about as long as one of them."""
    map_threads(sync, paths, _AT_ONCE)


def sync_around(folder: Path) -> bool:
    """Make everything on the file system of `folder` durable with one call; False if the system has none for that.

    Raises
    ------
    OSError
        The disk could not write everything.
    """
    if (syncfs := _syncfs()) is None:
        return False
    handle = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(handle) != 0:
            import ctypes

            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(handle)
    return True


@functools.cache
def _syncfs() -> Callable[[int], int] | None:
    """Return syncfs(2) of Linux."""
    import ctypes  # imported late: few commands store anything

    try:
        return ctypes.CDLL(None, use_errno=True).syncfs
    except (AttributeError, OSError):
        return None
