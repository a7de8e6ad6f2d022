"""The contents that a worker has fetched from a remote store, kept for later jobs."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from rvbuild.engine.keys.signature import hash_file
from rvbuild.engine.remote.store import RemoteStore
from rvbuild.engine.store.locks import held
from rvbuild.errors import StoreError
from rvbuild.process.threads import map_threads
from rvbuild.progress import Progress

_AT_ONCE = 8
#: The part of the disk that stays free.
_FREE = 0.1


class UnwantedError(Exception):
    """Nobody waits for the result of a job any more."""


class Kept:
    """Contents by digest in the directory `root`, which the workers of one machine share.

    Parameters
    ----------
    root : Path
    remote : RemoteStore
        Where contents are fetched from.
    """

    def __init__(self, root: Path, remote: RemoteStore) -> None:
        self._root, self._remote = root, remote
        self._verified: dict[str, tuple[int, int, int]] = {}  # digest -> state of the file when it was hashed
        self._lock = threading.Lock()
        for name in ("objects", "tmp", "locks"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def place(
        self, contents: Mapping[str, tuple[str, int]], tree: Path, progress: Progress, is_wanted: Callable[[], bool]
    ) -> None:
        """Put contents below the directory `tree`: absolute path -> digest and size.

        Raises
        ------
        StoreError
            A content is not in the remote store, or is damaged there.
        UnwantedError
        """
        missing = sum(not self._path(digest).exists() for digest, _ in contents.values())
        if missing:
            progress.start("fetching inputs", missing, "files")

        def put(item: tuple[str, tuple[str, int]]) -> None:
            path, (digest, size) = item
            if not is_wanted():
                raise UnwantedError
            target = tree / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            for _ in range(3):
                source = self._fetched(path, digest, size, progress)
                with contextlib.suppress(FileNotFoundError):  # another worker needed space
                    _link(source, target)
                    return
            raise StoreError(f"{self._root}: inputs vanish while they are used; is the disk too small?")

        map_threads(put, list(contents.items()), _AT_ONCE)

    def trim(self) -> None:
        """Remove the contents that were not used for the longest time, until a tenth of the disk is free."""
        usage = shutil.disk_usage(self._root)
        lacking = int(usage.total * _FREE) - usage.free
        if lacking <= 0:
            return
        for _, size, path in sorted(self._idle()):
            path.unlink(missing_ok=True)
            lacking -= size
            if lacking <= 0:
                return

    def _idle(self) -> Iterator[tuple[int, int, Path]]:
        """Yield time of the last use, size and path of the contents that no job uses."""
        for folder, _, names in os.walk(self._root / "objects"):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    path = Path(folder, name)
                    status = path.stat()
                    if status.st_nlink == 1:
                        yield status.st_atime_ns, status.st_size, path

    def _path(self, digest: str) -> Path:
        return self._root / "objects" / digest[:2] / digest[2:]

    def _fetched(self, shown: str, digest: str, size: int, progress: Progress) -> Path:
        """Return the path of a content, which is fetched if it is not here."""
        path = self._path(digest)
        if self._is_intact(path, digest):
            return path
        with held(self._root / "locks" / digest):  # another worker may be fetching it
            if self._is_intact(path, digest):
                return path
            temporary = self._root / "tmp" / uuid.uuid4().hex
            try:
                if not self._remote.fetch_content(digest, size, temporary):
                    raise StoreError(f"{shown}: its content {digest} is missing or damaged in {self._remote.url}")
                temporary.chmod(0o444)
                path.parent.mkdir(exist_ok=True)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            self._remember(path, digest)
        progress.advance()
        return path

    def _is_intact(self, path: Path, digest: str) -> bool:
        """Tell whether a content is here; it is hashed once, and again if its file has changed."""
        try:
            status = path.stat()
            os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
        except FileNotFoundError:
            return False
        with self._lock:
            if self._verified.get(digest) == (status.st_size, status.st_mtime_ns, status.st_ino):
                return True
        if hash_file(path) != digest:
            path.unlink(missing_ok=True)
            return False
        self._remember(path, digest)
        return True

    def _remember(self, path: Path, digest: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            with self._lock:
                self._verified[digest] = status.st_size, status.st_mtime_ns, status.st_ino


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except FileExistsError:  # two scenes share it
        return
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
