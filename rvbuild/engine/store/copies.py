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
    if _reflink(file, target):
        return False
    if os.geteuid() != 0 and os.fstat(file).st_size >= _LINK_FROM:
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:
            pass
        else:
            return True
    inside.copy_open(file, target)
    return False


def _reflink(file: int, target: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # not a Unix
        return False
    try:
        with target.open("xb") as new:
            fcntl.ioctl(new.fileno(), _FICLONE, file)
    except OSError:
        target.unlink(missing_ok=True)
        return False
    return True
