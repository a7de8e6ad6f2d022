"""Small results become durable in groups: one call for hundreds of files, some seconds after they were stored.

A result is complete for all processes as soon as it is stored; only a power cut can lose it before its group is
durable. Nothing is trusted then: records have checksums, and contents are hashed before they are used.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from rvbuild.errors import StoreError
from rvbuild.files.durable import sync_all, sync_around

#: How long a result waits for others, in seconds.
_DELAY_S = 5.0


class Later:
    """The files of the store at `root` that are not durable yet.

    Methods may be called from any thread.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._paths: set[str] = set()
        self._timer: threading.Timer | None = None
        self._error: OSError | None = None
        self._adding = threading.Lock()
        self._syncing = threading.Lock()

    def add(self, paths: Iterable[str]) -> None:
        """Make files, whose `paths` are relative to the store, durable within seconds, or at the next `settle`."""
        with self._adding:
            self._paths.update(paths)
            if self._timer is None and self._paths:
                self._timer = threading.Timer(_DELAY_S, self._sync)
                self._timer.daemon = True
                self._timer.start()

    def settle(self) -> None:
        """Make everything durable that was added.

        Raises
        ------
        StoreError
            The disk could not write something, now or earlier.
        """
        self._sync()
        with self._adding:
            error, self._error = self._error, None
        if error is not None:
            raise StoreError(
                f"{self._root}: the disk could not write everything that was stored: {error.strerror}; run "
                "`rvbuild cache verify`"
            ) from error

    def _sync(self) -> None:
        with self._syncing:
            with self._adding:
                paths, self._paths = self._paths, set()
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            if not paths:
                return
            try:
                if not sync_around(self._root):
                    files = {self._root / path for path in paths}
                    places = files | {path.parent for path in files}
                    sync_all({path for path in places if path.exists()})  # gc may have removed some
            except OSError as error:
                with self._adding:
                    self._error = error
