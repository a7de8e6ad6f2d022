"""A small file in the cache that tells which host builds what, for `status` and the page of `view`."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path

from rvbuild.engine.cluster.beacon import BOARD, SUFFIX
from rvbuild.engine.store import inside
from rvbuild.engine.store.locks import is_held
from rvbuild.errors import StoreError

FOLDER = "cluster"
"""The directory of a cluster's sessions and logs, in the log directory of the cache."""

_WRITE_EVERY_S = 0.5
_MOST_BYTES = 1 << 24


class Board:
    """The file of one session, in `folder`; it is written at most twice a second."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._file = folder, f"{name}{BOARD}"
        self._hosts: dict[str, str] = {}
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def begun(self, label: str, host: str) -> None:
        """Tell that an artifact is being built on a host."""
        if label:
            with self._lock:
                self._hosts[label] = host
                self._write_soon()

    def ended(self, label: str) -> None:
        """Tell that an artifact is no longer being built."""
        with self._lock:
            if self._hosts.pop(label, None) is not None:
                self._write_soon()

    def close(self) -> None:
        """Remove the file."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            (self._folder / self._file).unlink(missing_ok=True)

    def _write_soon(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(_WRITE_EVERY_S, self._write)
            self._timer.daemon = True
            self._timer.start()

    def _write(self) -> None:
        with self._lock, contextlib.suppress(OSError, StoreError):
            self._timer = None
            inside.write(self._folder, self._file, json.dumps(self._hosts).encode())


def hosts_of(cache: Path) -> dict[str, str]:
    """Return the name of each artifact that a cluster builds now -> its host."""
    hosts: dict[str, str] = {}
    folder = cache / "log" / FOLDER
    for path in sorted(folder.glob(f"*{BOARD}")):
        with contextlib.suppress(OSError, ValueError, TypeError, StoreError, RecursionError):
            if is_held(path.with_suffix(SUFFIX)):  # otherwise its driver was killed
                data = json.loads(inside.read(folder, path.name, _MOST_BYTES))
                hosts |= {str(name): str(host) for name, host in data.items()}
    return hosts
