"""The remote store from which builds take earlier results, named by RVBUILD_REMOTE; it is only read.

Planning only requests records, many at once; contents are downloaded when an artifact is restored. A failure never
blocks a build: if the store cannot be reached after a few attempts, this is reported once, and the rest of the run
treats it as empty. A result that turns out to be damaged is not requested again, and is built locally.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rvbuild.engine.remote.store import RemoteStore
from rvbuild.engine.store.action import Action
from rvbuild.engine.store.store import Store
from rvbuild.errors import StoreError
from rvbuild.progress import Progress

#: Fewer retries than for an explicit push or pull: a build can continue without the remote store.
_PAUSES_S = (0.1, 0.5)


class ReadThrough:
    """Earlier results at `url`, for `store`; the connection is made by the first request.

    Parameters
    ----------
    url : str
    base : Path
        Base of a relative directory.
    store : Store
    say : callable
        Receives a line for the user.
    """

    def __init__(self, url: str, base: Path, store: Store, notify: Callable[[str], None]) -> None:
        self.url = url
        self._base = base
        self._store = store
        self._notify = notify
        self._remote: RemoteStore | None = None
        self._known: dict[str, Action | None] = {}
        self._down = False
        self._has_reported_invalid = False  # whether an invalid record was found and reported
        self._has_reported_refused = False  # whether a result was refused and reported
        self._lock = threading.Lock()

    def known(self, key: str) -> Action | None:
        """Return the result of `key` if it was already requested and found."""
        with self._lock:
            return self._known.get(key)

    def request(self, keys: Iterable[str]) -> bool:
        """Request the records of `keys` that were not requested before; return whether one was found."""
        with self._lock:
            wanted = [key for key in dict.fromkeys(keys) if key not in self._known]
        if not wanted or self._down:
            return False
        wanted = [key for key in wanted if not self._store.is_forgotten(key)]
        if not wanted:
            return False
        try:
            remote = self._open()
            actions = remote.look_up(wanted)
        except StoreError as error:
            self._give_up(error)
            return False
        self._report_invalid([key for key, action in actions.items() if action is None and key not in remote.unsigned])
        with self._lock:
            first = bool(remote.unsigned) and not self._has_reported_refused
            self._has_reported_refused |= bool(remote.unsigned)
            self._known |= dict.fromkeys(wanted) | actions
        if first:
            self._notify(
                f"{self.url}: results that are not signed with RVBUILD_REMOTE_KEY are refused and built here instead "
                f"(for example {min(remote.unsigned)})"
            )
        return any(action is not None for action in actions.values())

    def _report_invalid(self, keys: Sequence[str]) -> None:
        with self._lock:
            first = bool(keys) and not self._has_reported_invalid
            self._has_reported_invalid |= bool(keys)
        if first:
            self._notify(
                f"{self.url}: some results there are damaged or were not written by rvbuild (for example {min(keys)}) "
                "and are built here instead; is it the right address?"
            )

    def action(self, key: str) -> Action | None:
        """Return the result of `key`, or None if the remote store does not have it or it was forgotten here."""
        self.request([key])
        return self.known(key)

    def request_again(self, key: str) -> Action | None:
        """Request the result of `key` again."""
        with self._lock:
            self._known.pop(key, None)
        return self.action(key)

    def announce(self, action: Action) -> Action:
        """Write the record of a result that workers have sent; return that of the key, which may be an earlier one.

        Raises
        ------
        StoreError
            The remote store cannot be written.
        """
        first = self._open().announce(action)
        self._store.recall(action.key)
        with self._lock:
            self._known[action.key] = first
        return first

    def fetch(self, key: str, progress: Progress) -> bool:
        """Download the result of `key` into the store and verify it; return whether the store has it now."""
        if self.action(key) is None or self._down:
            return False
        try:
            moved = self._open().pull(self._store, [key], progress)
        except StoreError as error:
            self._give_up(error)
            return False
        for problem in moved.problems:
            self._notify(problem)
        if self._store.restorable(key) is not None:
            return True
        with self._lock:
            self._known[key] = None
        return False

    def _open(self) -> RemoteStore:
        with self._lock:
            if self._remote is None:
                self._remote = RemoteStore(self.url, self._base, _PAUSES_S)
            return self._remote

    def _give_up(self, error: StoreError) -> None:
        with self._lock:
            first, self._down = not self._down, True
            self._known.clear()
        if first:
            self._notify(
                f"{error}\nRVBUILD_REMOTE is not used for the rest of this run, which continues with local results"
            )
