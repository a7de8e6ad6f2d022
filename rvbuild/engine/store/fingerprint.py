"""Digests of files, computed once per change and stored by stat signature."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rvbuild.cores import cores
from rvbuild.engine.keys.signature import Signature, hash_file, signature
from rvbuild.engine.store.state import State
from rvbuild.files.address import is_url
from rvbuild.files.identity import Identity, UnreachableError
from rvbuild.process.threads import map_threads

#: A file changed more recently than this before hashing may change again within the same clock tick.
RACY_NS = 20_000_000
#: The same for file systems with whole seconds, such as FAT and old file servers: their ticks are two seconds.
_COARSE_NS = 2_000_000_000
_LONGEST_NS = RACY_NS + _COARSE_NS
_SECOND_NS = 1_000_000_000
#: Maximum number of attempts to hash a file that keeps changing.
_LOOKS = 3


def is_racy(state: Signature, hashed_at: int) -> bool:
    """Tell whether a file may have changed after it was hashed (at a time in ns) without a new time stamp."""
    last = max(state.mtime_ns, state.ctime_ns)
    return last > hashed_at - _LONGEST_NS and last > hashed_at - _tick(state)


def _tick(state: Signature) -> int:
    """Return how long (in ns) after its last change a file may change again without a new time stamp."""
    is_coarse = state.mtime_ns % _SECOND_NS == 0 and state.ctime_ns % _SECOND_NS == 0
    return RACY_NS + (_COARSE_NS if is_coarse else 0)


class Stamp(NamedTuple):
    """Reveals later whether a file has changed, even if it was reverted: see `Fingerprints.stamp`.

    Attributes
    ----------
    state : Signature, Identity, UnreachableError or None
        The state of the file, or the response of its server; None for a file that does not exist.
    digest : str or None
        The digest that the file must have in addition, if the clock of its file system is ahead.
    """

    state: Signature | Identity | UnreachableError | None
    digest: str | None = None


class Fingerprints:
    """Digests of files, stored in the state database between runs.

    Servers of remote files are asked once in every run, and nothing is stored.

    An unchanged signature proves unchanged content, unless the file was modified within 20 ms of its hashing (git's
    "racily clean"). Within one run a file is examined once, until `forget` is called for it.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._known: dict[str, str | None] = {}
        self._seen: dict[str, tuple[Signature, int]] = {}  # state of a file when it was hashed, and the time
        self._first: dict[str, Signature] = {}  # state of a file at its first examination
        self._responses: dict[str, Identity | UnreachableError | None] = {}
        self.hashed = 0

    def digest(self, path: Path | str) -> str | None:
        """Return the digest of the file at `path`, or None if it does not exist."""
        name = str(path)
        if name not in self._known:
            self._known[name] = self._request([name]) if is_url(name) else self._look_up(name)
        return self._known[name]

    @property
    def has_remote(self) -> bool:
        """Whether a remote file was asked for."""
        return bool(self._responses)

    def identity(self, path: Path | str) -> Identity | None:
        """Return the identity of a remote file, or None if it is not known; call after `digest`."""
        response = self._responses.get(str(path))
        return response if isinstance(response, Identity) else None

    def note(self, path: Path | str) -> str:
        """Return how the state of a remote file was determined, or why it could not be; empty for a local file.

        Call it after `digest`.
        """
        name = str(path)
        if name not in self._responses:
            return ""
        response = self._responses[name]
        if isinstance(response, Identity):
            return f"known by its {response.by}"
        return "not found on the server" if response is None else f"cannot be reached: {response}"

    def is_known(self, path: Path | str) -> bool:
        """Tell whether a file is unchanged since it was last hashed: then it exists and can be read."""
        name = str(path)
        if name not in self._known:
            state = signature(name)
            value = None if state is None else self._remembered(name, state)
            if value is None:
                return False
            self._known[name] = value
        return self._known[name] is not None

    def forget(self, path: Path | str) -> None:
        """Examine `path` again the next time."""
        self._known.pop(str(path), None)

    def stamp(self, path: Path | str) -> Stamp:
        """Return a stamp that reveals whether a file has changed since `digest` read it.

        A file whose signature has changed is digested again. So is a file that was modified in the clock tick in which
        it was digested, once that tick is over: writes within a tick cannot be distinguished.
        """
        name = str(path)
        if is_url(name):
            self.digest(name)
            return Stamp(self._responses.get(name))
        for _ in range(_LOOKS):
            value = self.digest(name)
            now = signature(name)
            if now is None and value is None:
                return Stamp(None)
            seen = self._seen.get(name)
            if now is not None and seen is not None and seen[0] == now:
                if not is_racy(*seen):
                    return Stamp(now)
                left = max(now.mtime_ns, now.ctime_ns) + _tick(now) - time.time_ns()
                if left > _tick(now):  # a time in the future: waiting is impossible
                    return Stamp(now, value)
                time.sleep(max(0, left + 1) / 1e9)
            self.forget(name)
        return Stamp(now, self.digest(name))

    def changed(self, stamps: Mapping[str, Stamp]) -> list[str]:
        """Return the paths among `stamps` of files that have changed since, even if they were reverted."""
        urls = [path for path in stamps if is_url(path)]
        for path in urls:
            self.forget(path)
        self.prefetch(urls)
        return [path for path, stamp in stamps.items() if self._has_changed(path, stamp)]

    def _has_changed(self, path: str, stamp: Stamp) -> bool:
        if is_url(path):
            before, now = stamp.state, self._responses.get(path)
            if isinstance(before, Identity) and isinstance(now, Identity):
                return now.is_other_than(before)
            return not (before is None and now is None)
        if signature(path) != stamp.state:
            return True
        return stamp.digest is not None and hash_file(path) != stamp.digest

    def has_moved_on(self, path: Path | str) -> bool:
        """Tell whether the state of a local file differs from that at the first examination."""
        seen = self._seen.get(str(path))
        return seen is not None and seen[0] != self._first[str(path)]

    def prefetch(self, paths: Iterable[Path | str]) -> None:
        """Hash all changed files among `paths` in threads."""
        fresh = [p for p in dict.fromkeys(map(str, paths)) if p not in self._known]
        urls = [p for p in fresh if is_url(p)]
        if urls:
            self._request(urls)
            fresh = [p for p in fresh if p not in self._known]
        changed = []
        for path in fresh:
            state = signature(path)
            known = None if state is None else self._remembered(path, state)
            if state is None or known is not None:
                self._known[path] = known
            else:
                changed.append(path)
        if len(changed) > 1:
            map_threads(self.digest, changed, min(8, cores()))
        else:
            for path in changed:
                self.digest(path)

    def _request(self, urls: Sequence[str]) -> str | None:
        """Ask servers for the state of files; return the digest of the last."""
        from rvbuild.files.fetch import identities  # imported late: only needed for remote files

        value = None
        for url, response in identities(urls).items():
            self._responses[url] = response
            value = self._known[url] = response.digest if isinstance(response, Identity) else None
        return value

    def _look_up(self, path: str) -> str | None:
        for _ in range(_LOOKS):
            before = signature(path)
            if before is None:
                return None
            value = self._remembered(path, before)
            if value is not None:
                return value
            hashed_at = time.time_ns()
            try:
                value = hash_file(path)
            except FileNotFoundError:
                return None
            self.hashed += 1
            self._note_state(path, before, hashed_at)
            if signature(path) == before:
                self._state.remember_file(path, before, hashed_at, value)
                return value
        return value  # the file keeps changing: the check after the stage notices that

    def _remembered(self, path: str, now: Signature) -> str | None:
        row = self._state.file(path)
        if row is None:
            return None
        known, hashed_at, value = row
        if known != now or is_racy(now, hashed_at):
            return None
        self._note_state(path, now, hashed_at)
        return value

    def _note_state(self, path: str, state: Signature, hashed_at: int) -> None:
        self._seen[path] = (state, hashed_at)
        self._first.setdefault(path, state)
