"""Leases: lists of the results in each workspace that shares a store, kept in the store, so that every gc keeps them.

workspaces/<digest of host and path>.jsonl   host, path and device; then a line for each artifact in the workspace

A workspace only writes its own file. The file is synchronised with the state database at the start of every run. A
line is added, before gc may run again, whenever an artifact is built or restored; a later line of an artifact replaces
an earlier one. After a kill at any moment, the file lists too much rather than too little. It is valid without access
to the workspace itself, so it also works for other machines. A lease ends when its workspace is gone, or, if that
cannot be seen from here, when it was not renewed for a long time.
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

#: Lifetime in seconds of a lease whose workspace cannot be seen from here.
LEASE_S = 90 * 24 * 3600.0
_FOLDER = "workspaces"
_MOST_BYTES = 1 << 28
_HOST = re.sub(r"[^A-Za-z0-9.]", "_", platform.node()) or "host"


class Standing(enum.Enum):
    """Whether the results of a lease must be kept."""

    HERE = "here"
    """Its workspace is on this machine."""
    AWAY = "away"
    """Its workspace is on another machine, or on a disk that is not mounted now, and was used recently enough."""
    GONE = "gone"
    """Its workspace was on this machine and no longer exists."""
    EXPIRED = "expired"
    """Its workspace cannot be seen from here, and was not used for long."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The results in one workspace.

    Attributes
    ----------
    file : Path
        Path of the lease.
    host, path : str
        The machine and the workspace.
    device : int
        The device number of the workspace's file system on its machine.
    used : float
        When it was last renewed, in seconds since the epoch.
    keys, digests, trajectories : frozenset of str
        The keys, the digests of outputs and the trajectories of all results in the workspace.
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
            with contextlib.suppress(OSError):  # an invalid path
                if (root / "cache").is_dir():
                    return Standing.HERE
            if _device(root) == self.device:
                return Standing.GONE
        return Standing.AWAY if now - self.used < LEASE_S else Standing.EXPIRED

    def counts(self, now: float) -> bool:
        """Tell whether the results that it lists must be kept."""
        return self.standing(now) in (Standing.HERE, Standing.AWAY)


def leases(store: Store) -> Iterator[Lease]:
    """Yield the leases of all workspaces that share `store`.

    Raises
    ------
    StoreError
        One of them cannot be read.
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
    header = json.loads(head)
    shown: dict[str, list[Any]] = {}
    for line in lines:
        # A line that was cut off by a kill or a full disk belongs to an unfinished artifact.
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            name, *rest = json.loads(line)
            shown[name] = rest
    entries = [rest for rest in shown.values() if len(rest) == 3 and isinstance(rest[2], list)]
    status = inside.stat_file(root, path)
    if status is None:
        raise FileNotFoundError(file)
    if not isinstance(header["path"], str) or not header["path"].startswith("/") or "\0" in header["path"]:
        raise ValueError(f"{header['path']!r:.80} is not a workspace")
    return Lease(
        file,
        str(header["host"]),
        header["path"],
        int(header["device"]),
        status.st_mtime,
        frozenset(key for key, _, _ in entries if inside.is_plain(key)),
        frozenset(digest for _, _, digests in entries for digest in digests if is_digest(digest)),
        frozenset(trajectory for _, trajectory, _ in entries if inside.is_plain(trajectory)),
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
        """Replace the list by `records` and mark the workspace as in use; call it while the workspace is locked."""
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
        """Add the result of `artifact` in `record`; call it before releasing the store's lock for writing."""
        line = _line(artifact, record)
        with self._lock:
            if self._lines.get(artifact) == line:
                return
            self._lines[artifact] = line
            try:
                handle = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            except FileNotFoundError:  # removed as expired by gc on a machine with another clock
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
    """Return the device of `path`, or of its nearest existing parent directory."""
    for place in (path, *path.parents):
        with contextlib.suppress(OSError):
            return place.stat().st_dev
    return 0
