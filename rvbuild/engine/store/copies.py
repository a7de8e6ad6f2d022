"""Copies of stored files that cost as little as is safe, and their way into a cache."""

from __future__ import annotations

import os
from pathlib import Path

from rvbuild.engine.store import inside
from rvbuild.engine.store.record import Output
from rvbuild.errors import StoreError

_FICLONE = 0x40049409
_LINK_FROM = 1 << 20


def materialize(source: Path, file: int, target: Path) -> bool:
    """Make `target` a copy of `source`, open as `file`: a reflink, a hard link or a copy; True for a hard link.

    Only large files are hard-linked, and only if the file's mode protects them: root can write to read-only files.
    """
    new = inside.create(target)
    try:
        if _reflink(file, new):
            return False
        if os.geteuid() == 0 or os.fstat(file).st_size < _LINK_FROM:
            inside.copy_into(file, new)
            return False
    finally:
        os.close(new)
    target.unlink()
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        inside.copy_open(file, target)
        return False
    return True


def put(copy: Path, digest: str, cache: Path, path: str, scratch: Path, is_linked: bool) -> Output:
    """Move `copy`, a complete copy of the content `digest`, to `path` in a cache; what is in the way, to `scratch`."""
    try:
        try:
            status = inside.move(copy, cache, path)
        except (StoreError, IsADirectoryError):
            if not inside.make_way(cache, path, scratch):
                raise
            status = inside.move(copy, cache, path)
    except FileNotFoundError:
        raise StoreError(
            f"{cache / path}: vanished while it was being written; is another program cleaning the cache?"
        ) from None
    except BaseException:
        copy.unlink(missing_ok=True)
        raise
    ctime_ns = None if is_linked else status.st_ctime_ns
    return Output(f"cache/{path}", digest, status.st_size, status.st_mtime_ns, status.st_ino, ctime_ns)


def _reflink(file: int, new: int) -> bool:
    try:
        import fcntl
    except ImportError:  # not a Unix
        return False
    try:
        fcntl.ioctl(new, _FICLONE, file)
    except OSError:
        return False
    return True
