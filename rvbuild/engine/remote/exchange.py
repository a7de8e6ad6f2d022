"""Inputs of stages on their way to workers that share no file system with this machine: through a remote store."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from rvbuild.engine.keys.signature import hash_file, signature
from rvbuild.engine.remote.backend import Backend
from rvbuild.engine.remote.store import RemoteStore
from rvbuild.engine.store.store import Store
from rvbuild.errors import StageError, StoreError
from rvbuild.process.threads import map_threads
from rvbuild.progress import Progress

_AT_ONCE = 16


class Exchange:
    """The remote store at `url`, for a build whose files are here and whose stages run elsewhere.

    Parameters
    ----------
    url : str
        The address, or a directory.
    base : Path
        Base of a relative directory.
    store : Store
        The local store, which may have results that workers need.
    """

    def __init__(self, url: str, base: Path, store: Store) -> None:
        self.url = url if "://" in url or "::" in url else os.path.abspath(base / Path(url).expanduser())  # noqa: PTH100
        self._store = store
        self._there: set[str] = set()  # contents that the remote store has
        self._locks: dict[str, threading.Lock] = {}  # of contents

    def problem(self) -> str | None:
        """Return why this machine may not write to the remote store; None if it may."""
        if os.environ.get("RVBUILD_REMOTE_READ_ONLY", "") not in ("", "0"):
            return "RVBUILD_REMOTE_READ_ONLY is set, so that nothing may be written to the remote store"
        if os.environ.get("RVBUILD_REMOTE_KEY", ""):
            return "RVBUILD_REMOTE_KEY is set, and workers cannot sign results"
        return None

    @contextlib.contextmanager
    def met(self, session: str) -> Iterator[tuple[str, str]]:
        """Keep a file with a nonce in the remote store; yield its path there and the nonce.

        Raises
        ------
        StoreError
            The remote store cannot be written.
        """
        path, nonce = f"sessions/{session}", uuid.uuid4().hex
        backend = Backend(self.url)
        with backend.errors("write to"):
            backend.replace(path, nonce.encode())
        try:
            yield path, nonce
        finally:
            with contextlib.suppress(StoreError), backend.errors("write to"):
                backend.remove(path)

    def require(self, contents: Mapping[str, tuple[str, int]], progress: Progress) -> None:
        """Send what the remote store lacks of the files of a stage: path -> digest and size.

        Raises
        ------
        StageError
            A file has changed since it was hashed, or is neither here nor there.
        StoreError
            The remote store cannot be used.
        """
        wanted = {digest: (path, size) for path, (digest, size) in contents.items() if digest not in self._there}
        if wanted:
            progress.start("sending inputs", len(wanted), "files")

        def ensure(digest: str) -> None:
            path, size = wanted[digest]
            with self._locks.setdefault(digest, threading.Lock()):  # several stages may read it
                if digest not in self._there:
                    if not self._remote.has_content(digest, size):
                        self._send(path, digest, size)
                    self._there.add(digest)
            progress.advance()

        map_threads(ensure, list(wanted), _AT_ONCE)

    def _send(self, path: str, digest: str, size: int) -> None:
        file = self._store.object(digest) if self._store.has(digest, size) else Path(path)
        before = signature(file)
        if before is None:
            raise StageError(
                f"{path}: neither this machine nor {self.url} has its content {digest}; if it was removed there, "
                "`rvbuild clean` the artifact that makes it, and run again"
            )
        if hash_file(file) != digest:
            raise StageError(f"{path} changed after this run began: run again")
        self._remote.send_content(file, digest)
        if signature(file) != before:
            self._remote.remove_content(digest)
            raise StageError(f"{path} changed while it was sent to {self.url}: run again")

    @functools.cached_property
    def _remote(self) -> RemoteStore:
        return RemoteStore(self.url)
