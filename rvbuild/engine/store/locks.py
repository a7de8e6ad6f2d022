"""File locks, held through an open file, so that they end with their process in any case.

flock(2) is used, which Linux also supports over NFS. The holder removes a lock file; a waiting process then notices
that the path no longer refers to the file that it has locked, and starts again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rvbuild.errors import StoreError

_POLL_S = 0.05


@contextlib.contextmanager
def held(path: Path, *, shared: bool = False, wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file at `path`, exclusively or shared.

    Parameters
    ----------
    path : Path
        Created if needed. Removed when an exclusive lock is released.
    shared : bool
        Whether others may hold it at the same time, if they share it too.
    wait : callable
        Called repeatedly while another process holds the lock; may raise to give up.

    Raises
    ------
    StoreError
        The file system does not support locks or is not writable.
    """
    handle = acquire(path, shared=shared, wait=wait)
    try:
        yield
    finally:
        if not shared:
            with contextlib.suppress(OSError):  # a file that stays is no lock
                path.unlink()
        os.close(handle)


def acquire(path: Path, *, shared: bool = False, wait: Callable[[], None] = lambda: None) -> int:
    """Return the open file that holds the lock at `path`; remove the file before closing it. See `held`."""
    import fcntl

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        handle = -1
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                ours, there = os.fstat(handle), os.stat(path)  # noqa: PTH116 - beside fstat
                if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
                    return handle
            os.close(handle)  # removed by its holder while we waited
        except OSError as error:
            if handle >= 0:
                os.close(handle)
            if error.errno not in (errno.EAGAIN, errno.EACCES) or handle < 0:
                raise StoreError(
                    f"{path}: cannot lock: {error.strerror}; expected a writable directory on a file system that "
                    "supports locks"
                ) from None
            wait()
            time.sleep(_POLL_S)


class HeldError(Exception):
    """Another process holds the lock."""


def give_up() -> None:
    """Do not wait for a lock: as `wait`, raise a `HeldError` instead."""
    raise HeldError


def is_held(path: Path) -> bool:
    """Tell whether a process, on any machine, holds the lock at `path` exclusively; False if there is no file."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
