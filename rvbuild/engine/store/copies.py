"""Copies of stored files that cost as little as is safe."""

from __future__ import annotations

import os
from pathlib import Path

from rvbuild.engine.store import inside

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
