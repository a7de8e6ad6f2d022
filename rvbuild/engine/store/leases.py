"""Leases: what each workspace that shares a store shows of it, written down in the store, so that every gc keeps it.

workspaces/<digest of host and path>.jsonl   host, path and device; then a line for each artifact that is shown

A workspace writes its own file and nobody else's. It is made to agree with the state database at the beginning of every
run, and a line is added before gc may look again whenever an artifact is built or restored (a later line of an artifact
takes the place of an earlier one): killed at any instant, the file says too much rather than too little. It needs no
look at the workspace itself, so that it also speaks for those of other machines. A lease ends when its workspace is
gone, or, where that cannot be seen from here, when it was not renewed for a long time.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import platform
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from rvbuild.engine.store import inside
from rvbuild.engine.store.action import is_digest
from rvbuild.engine.store.state import Record
from rvbuild.engine.store.store import Store
from rvbuild.errors import StoreError

#: For how long a lease lasts whose workspace cannot be seen from here, in seconds.
LEASE_S = 90 * 24 * 3600.0
_FOLDER = "workspaces"
_MOST_BYTES = 1 << 28
_HOST = re.sub(r"[^A-Za-z0-9.]", "_", platform.node()) or "host"


class Standing(enum.Enum):
    """Whether a lease counts."""

    HERE = "here"
    """Its workspace is on this machine."""
    AWAY = "away"
    """Its workspace is on another machine, or on a disk that is not mounted now, and was used not too long ago."""
    GONE = "gone"
    """Its workspace was on this machine and is there no more."""
    EXPIRED = "expired"
    """Its workspace cannot be seen from here, and was not used for long."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What one workspace shows.

    Attributes
    ----------
    file : Path
        Where it is written.
    host, path : str
        The machine and the workspace.
    device : int
        The file system that the workspace is on, as its machine counts them.
    used : float
        When it was last renewed, in seconds since the epoch.
    keys, digests, trajectories : frozenset of str
        Of all that is shown.
    """

    file: Path
    host: str
    path: str
    device: int
    used: float
    keys: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()
    trajectories: frozenset[str] = field(default=frozenset())

    def standing(self, now: float) -> Standing:
        """Tell whether the lease counts at the time `now`."""
        if self.host == _HOST:
            root = Path(self.path)
            with contextlib.suppress(OSError):  # of a path that no file system takes
                if (root / "cache").is_dir():
                    return Standing.HERE
            if _device(root) == self.device:
                return Standing.GONE
        return Standing.AWAY if now - self.used < LEASE_S else Standing.EXPIRED

    def counts(self, now: float) -> bool:
        """Tell whether what it names must stay."""
        return self.standing(now) in (Standing.HERE, Standing.AWAY)


def leases(store: Store) -> Iterator[Lease]:
    """Yield the leases of all workspaces that share `store`.

    Raises
    ------
    StoreError
        If one cannot be read.
    """
    for file in sorted((store.root / _FOLDER).glob("*.jsonl")):
        with contextlib.suppress(FileNotFoundError):
            try:
                yield _read(store.root, file)
            except FileNotFoundError:
                raise
            except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                raise StoreError(
                    f"{file}: cannot read which results a workspace uses: {error}; build something in each workspace "
                    "that uses this store, or remove the file"
                ) from None


def _read(root: Path, file: Path) -> Lease:
    path = f"{_FOLDER}/{file.name}"
    text = inside.read(root, path, _MOST_BYTES)
    head, *lines = text.decode("utf-8", "surrogatepass").split("\n")
    said = json.loads(head)
    shown: dict[str, list[Any]] = {}
    for line in lines:
        # A line that a kill or a full disk has cut off is of an artifact that was not finished.
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            name, *rest = json.loads(line)
            shown[name] = rest
    found = [rest for rest in shown.values() if len(rest) == 3 and isinstance(rest[2], list)]
    looked = inside.look(root, path)
    if looked is None:
        raise FileNotFoundError(file)
    if not isinstance(said["path"], str) or not said["path"].startswith("/") or "\0" in said["path"]:
        raise ValueError(f"{said['path']!r:.80} is not a workspace")
    return Lease(
        file,
        str(said["host"]),
        said["path"],
        int(said["device"]),
        looked.st_mtime,
        frozenset(key for key, _, _ in found if inside.is_plain(key)),
        frozenset(digest for _, _, digests in found for digest in digests if is_digest(digest)),
        frozenset(trajectory for _, trajectory, _ in found if inside.is_plain(trajectory)),
    )


class OwnLease:
    """The lease of the workspace at `root`, which shares `store`; methods may be called from any thread."""

    def __init__(self, store: Store, root: Path) -> None:
        self._store = store
        self._head = {"host": _HOST, "path": str(root), "device": _device(root)}
        named = f"{_HOST}:{root}".encode("utf-8", "surrogatepass")
        self._path = f"{_FOLDER}/{xxhash.xxh3_64_hexdigest(named)}.jsonl"
        self.file = store.root / self._path
        self._lines: dict[str, str] = {}
        self._lock = threading.Lock()

    def renew(self, records: Mapping[str, Record]) -> None:
        """Have it say what `records` say, and that the workspace is in use; call it while the workspace is locked."""
        with self._lock:
            self._lines = {name: _line(name, record) for name, record in records.items() if not record.cleaned}
            text = self._text()
            try:
                same = inside.read(self._store.root, self._path, _MOST_BYTES) == text
            except (FileNotFoundError, ValueError):
                same = False
            if same:
                os.utime(self.file, follow_symlinks=False)
            else:
                self._store.write(self._path, text)

    def add(self, artifact: str, record: Record) -> None:
        """Say that `artifact` shows what `record` says; call it before the store's lock for writing is let go."""
        line = _line(artifact, record)
        with self._lock:
            if self._lines.get(artifact) == line:
                return
            self._lines[artifact] = line
            try:
                handle = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            except FileNotFoundError:  # taken for expired, by a gc on a machine with another clock
                self._store.write(self._path, self._text())
                return
            try:
                os.write(handle, f"\n{line}\n".encode("utf-8", "surrogatepass"))
            finally:
                os.close(handle)

    def _text(self) -> bytes:
        lines = [json.dumps(self._head), *(line for _, line in sorted(self._lines.items()))]
        return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


def _line(artifact: str, record: Record) -> str:
    digests = sorted({output.digest for output in record.outputs.values()})
    return json.dumps([artifact, record.key, record.trajectory, digests])


def _device(path: Path) -> int:
    """Return the file system of `path`, or of the nearest directory above it that there is."""
    for place in (path, *path.parents):
        with contextlib.suppress(OSError):
            return place.stat().st_dev
    return 0
