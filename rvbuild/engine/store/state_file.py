"""Where the state database of a workspace is: in its cache, or on this machine's own disk.

SQLite has no write-ahead log on a file server, and depends on its locks. So the database of a workspace on one is kept
in the user's directory for state, if that is on a disk of this machine. Each machine then has its own. What the
database lacks is found out again: files are hashed, and results are taken from the store.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

import xxhash

from rvbuild.files.mounts import is_on_network
from rvbuild.files.signing import state_folder

NAME = "state.db"
VARIABLE = "RVBUILD_STATE"
"""The environment variable that names a directory for the databases of all workspaces."""

_SUFFIXES = ("-wal", "-shm", "-journal")


def state_file(cache: Path) -> Path:
    """Return the path of the state database of the workspace with the directory `cache`, whether or not it exists."""
    folder = _folder(cache)
    if folder is None:
        return cache / NAME
    place = os.path.realpath(cache)
    digest = xxhash.xxh3_64_hexdigest(os.fsencode(place))
    return folder / f"{Path(place).parent.name}-{digest}" / NAME


def _folder(cache: Path) -> Path | None:
    """Return the directory for databases outside of workspaces; None if that of this workspace is in its cache."""
    if configured := os.environ.get(VARIABLE, ""):
        return Path(configured).expanduser().absolute()
    if not is_on_network(cache):
        return None
    folder = state_folder()
    return None if folder is None or is_on_network(folder) else folder / "workspaces"


def bring(cache: Path, path: Path) -> None:
    """Begin the database `path`, if there is none, with a copy of the one in the cache, unless that is being written.

    Raises
    ------
    OSError
    """
    source = cache / NAME
    is_written = any(os.path.lexists(f"{source}{suffix}") for suffix in _SUFFIXES)
    if path == source or path.exists() or is_written or source.is_symlink() or not source.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    copy = path.with_name(f"{NAME}.{uuid.uuid4().hex}")
    try:
        shutil.copyfile(source, copy, follow_symlinks=False)
        copy.replace(path)
    finally:
        copy.unlink(missing_ok=True)
