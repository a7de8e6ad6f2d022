"""Writing that survives a power cut: files and directories that are synchronised with the disk."""

from __future__ import annotations

import os
from collections.abc import Collection
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
