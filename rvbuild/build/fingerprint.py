"""Digests of files, computed once per change and remembered by stat signature."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import xxhash

from rvbuild.build.state import Signature, State
from rvbuild.urls import Identity, UnreachableError, is_url

#: A file changed this short a time before it was hashed may change again within the same clock tick.
RACY_NS = 20_000_000
_BLOCK = 1 << 18  # stays in the processor's cache between reading and hashing


def signature(path: Path | str) -> Signature | None:
    """Return the signature of the file at `path` (links followed), or None if there is no such file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - thousands of files
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Signature(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def is_racy(found: Signature, hashed_at: int) -> bool:
    """Tell whether a file may have changed after it was hashed at that time (in ns) and look as it did."""
    return max(found.mtime_ns, found.ctime_ns) > hashed_at - RACY_NS


def hash_file(path: Path | str) -> str:
    """Return the xxh3_128 of the file's bytes, 32 hex digits; the GIL is free meanwhile.

    A directory has no bytes: what is in it are files of their own.
    """
    state = xxhash.xxh3_128()
    if os.path.isdir(path):  # noqa: PTH112 - thousands of files
        return state.hexdigest()
    buffer = bytearray(_BLOCK)
    view = memoryview(buffer)
    with Path(path).open("rb", buffering=0) as file:
        while n := file.readinto(buffer):
            state.update(view[:n])
    return state.hexdigest()


class Fingerprints:
    """Digests of files, kept in the state database from one run to the next.

    Files elsewhere are asked for once in every run: their servers say which state they have, and nothing is kept.

    A signature that has not changed stands for its content, unless the file was modified within 20 ms of its hashing
    (git's "racily clean"). Within one run a file is looked at once, until `forget` is called for it.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._known: dict[str, str | None] = {}
        self._elsewhere: dict[str, Identity | UnreachableError | None] = {}
        self.hashed = 0

    def digest(self, path: Path | str) -> str | None:
        """Return the digest of the file at `path`, or None if it does not exist."""
        name = str(path)
        if name not in self._known:
            self._known[name] = self._ask([name]) if is_url(name) else self._look_up(name)
        return self._known[name]

    def identity(self, path: Path | str) -> Identity | None:
        """Return what tells the state of a file elsewhere, or None if it is not known; after `digest`."""
        found = self._elsewhere.get(str(path))
        return found if isinstance(found, Identity) else None

    def note(self, path: Path | str) -> str:
        """Return how the state of a file elsewhere is known, or why not; empty for other files. After `digest`."""
        name = str(path)
        if name not in self._elsewhere:
            return ""
        found = self._elsewhere[name]
        if isinstance(found, Identity):
            return f"known by its {found.by}"
        return "not found on the server" if found is None else f"cannot be reached: {found}"

    def is_known(self, path: Path | str) -> bool:
        """Tell whether a file is as it was when it was hashed last: then it is there, and can be read."""
        name = str(path)
        if name not in self._known:
            found = signature(name)
            value = None if found is None else self._remembered(name, found)
            if value is None:
                return False
            self._known[name] = value
        return self._known[name] is not None

    def forget(self, path: Path | str) -> None:
        """Look at `path` again when it is asked for next."""
        self._known.pop(str(path), None)

    def prefetch(self, paths: Iterable[Path | str]) -> None:
        """Hash all changed files among `paths` in threads."""
        fresh = [p for p in dict.fromkeys(map(str, paths)) if p not in self._known]
        elsewhere = [p for p in fresh if is_url(p)]
        if elsewhere:
            self._ask(elsewhere)
            fresh = [p for p in fresh if p not in self._known]
        changed = []
        for path in fresh:
            found = signature(path)
            known = None if found is None else self._remembered(path, found)
            if found is None or known is not None:
                self._known[path] = known
            else:
                changed.append(path)
        if len(changed) > 1:
            with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
                list(pool.map(self.digest, changed))
        else:
            for path in changed:
                self.digest(path)

    def _ask(self, urls: Sequence[str]) -> str | None:
        """Ask servers for the state of files; return the digest of the last."""
        from rvbuild.fetch import identities  # what asks servers is loaded where there are some

        value = None
        for url, found in identities(urls).items():
            self._elsewhere[url] = found
            value = self._known[url] = found.digest if isinstance(found, Identity) else None
        return value

    def _look_up(self, path: str) -> str | None:
        for _ in range(3):
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
            if signature(path) == before:
                self._state.remember_file(path, before, hashed_at, value)
                return value
        return value  # a file that never rests: the check after the stage will see it

    def _remembered(self, path: str, now: Signature) -> str | None:
        row = self._state.file(path)
        if row is None:
            return None
        known, hashed_at, value = row
        if known != now:
            return None
        return None if is_racy(now, hashed_at) else value
