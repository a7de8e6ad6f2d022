"""The store elsewhere from which builds take earlier results by themselves: named by RVBUILD_REMOTE, only ever read.

Plans ask it for records alone, many at once; contents come when an artifact is restored. It never stands in the way:
when it cannot be reached after a few tries, that is said once, and the rest of the run goes on as if it were empty. A
result that turns out to be damaged there is not asked for again, and is built here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rvbuild.engine.remote.store import Remote
from rvbuild.engine.store.action import Action
from rvbuild.engine.store.store import Store
from rvbuild.errors import StoreError
from rvbuild.progress import Progress

#: Fewer tries than an explicit push or pull gets: a build can go on without it.
_PAUSES_S = (0.1, 0.5)


class Elsewhere:
    """Earlier results at `url`, for `store`; nothing is contacted before the first question.

    Parameters
    ----------
    url : str
    base : Path
        What a relative directory is relative to.
    store : Store
    say : callable
        Receives a line for the user.
    """

    def __init__(self, url: str, base: Path, store: Store, say: Callable[[str], None]) -> None:
        self.url = url
        self._base = base
        self._store = store
        self._say = say
        self._remote: Remote | None = None
        self._known: dict[str, Action | None] = {}
        self._down = False
        self._nonsense = False  # whether something there was no record, and that was said
        self._refused = False  # whether a result was, and that was said
        self._lock = threading.Lock()

    def known(self, key: str) -> Action | None:
        """Return what `key` gave as far as it was asked for before."""
        with self._lock:
            return self._known.get(key)

    def ask(self, keys: Iterable[str]) -> bool:
        """Ask for the records of `keys`, unless they were asked for before; tell whether one was found."""
        with self._lock:
            wanted = [key for key in dict.fromkeys(keys) if key not in self._known]
        if not wanted or self._down:
            return False
        wanted = [key for key in wanted if not self._store.is_forgotten(key)]
        if not wanted:
            return False
        try:
            remote = self._open()
            found = remote.look_up(wanted)
        except StoreError as error:
            self._give_up(error)
            return False
        self._say_nonsense([key for key, action in found.items() if action is None and key not in remote.unsigned])
        with self._lock:
            first = bool(remote.unsigned) and not self._refused
            self._refused |= bool(remote.unsigned)
            self._known |= dict.fromkeys(wanted) | found
        if first:
            self._say(
                f"{self.url}: results that are not signed with RVBUILD_REMOTE_KEY are refused and built here instead "
                f"(for example {min(remote.unsigned)})"
            )
        return any(action is not None for action in found.values())

    def _say_nonsense(self, keys: Sequence[str]) -> None:
        with self._lock:
            first = bool(keys) and not self._nonsense
            self._nonsense |= bool(keys)
        if first:
            self._say(
                f"{self.url}: some results there are damaged or were not written by rvbuild (for example {min(keys)}) "
                "and are built here instead; is it the right address?"
            )

    def action(self, key: str) -> Action | None:
        """Return what `key` gave, or None if that is not known there or was forgotten here."""
        self.ask([key])
        return self.known(key)

    def look_again(self, key: str) -> Action | None:
        """Return what `key` gave by now."""
        with self._lock:
            self._known.pop(key, None)
        return self.action(key)

    def fetch(self, key: str, progress: Progress) -> bool:
        """Bring what `key` gave into the store, verified; tell whether it is there now."""
        if self.action(key) is None or self._down:
            return False
        try:
            moved = self._open().pull(self._store, [key], progress)
        except StoreError as error:
            self._give_up(error)
            return False
        for problem in moved.problems:
            self._say(problem)
        if self._store.restorable(key) is not None:
            return True
        with self._lock:
            self._known[key] = None
        return False

    def _open(self) -> Remote:
        with self._lock:
            if self._remote is None:
                self._remote = Remote(self.url, self._base, _PAUSES_S)
            return self._remote

    def _give_up(self, error: StoreError) -> None:
        with self._lock:
            first, self._down = not self._down, True
            self._known.clear()
        if first:
            self._say(
                f"{error}\nRVBUILD_REMOTE is not used for the rest of this run, which continues with local results"
            )
