"""The content of a store, and the results that workspaces use: the basis of `cache stats` and gc."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rvbuild.engine.store.action import Action
from rvbuild.engine.store.leases import Lease, leases
from rvbuild.engine.store.state import Record, records_of
from rvbuild.engine.store.state_file import state_file
from rvbuild.engine.store.store import Store
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import StoreError


@dataclass(frozen=True, slots=True)
class StoredItem:
    """A file or directory of the store: `used` is when it was last written or used, in seconds since the epoch."""

    size: int
    used: float


@dataclass(frozen=True, slots=True)
class Roots:
    """The results in workspaces, which are never removed.

    Attributes
    ----------
    keys, digests, trajectories : set of str
        The keys, digests of outputs and trajectories of all current records.
    artifacts, size : int
        Number of their artifacts, and the bytes of their outputs.
    others : tuple of Lease
        The leases of the other workspaces that use the store, including expired ones.
    """

    keys: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()
    trajectories: frozenset[str] = frozenset()
    artifacts: int = 0
    size: int = 0
    others: tuple[Lease, ...] = ()


@dataclass(slots=True)
class Inventory:
    """The whole content of a store, from one walk over it.

    Attributes
    ----------
    objects : mapping
        digest -> its file.
    actions : mapping
        key -> (the action, the file of its record).
    unreadable : mapping
        Path of an invalid record -> its file.
    checkpoints : mapping
        trajectory -> its directory.
    quarantine : mapping
        Path of a damaged content -> its file.
    """

    objects: dict[str, StoredItem] = field(default_factory=dict)
    actions: dict[str, tuple[Action, StoredItem]] = field(default_factory=dict)
    unreadable: dict[Path, StoredItem] = field(default_factory=dict)
    checkpoints: dict[str, StoredItem] = field(default_factory=dict)
    quarantine: dict[Path, StoredItem] = field(default_factory=dict)

    def size(self) -> int:
        """Return the size of the whole store in bytes."""
        kinds: list[Iterable[StoredItem]] = [
            self.objects.values(),
            (kept for _, kept in self.actions.values()),
            self.unreadable.values(),
            self.checkpoints.values(),
            self.quarantine.values(),
        ]
        return sum(kept.size for kind in kinds for kept in kind)

    def broken(self) -> dict[str, list[str]]:
        """Return key -> names of the outputs whose contents are missing, for all actions without complete contents."""
        broken = {}
        for key, (action, _) in self.actions.items():
            names = [name for name, (digest, _) in action.outputs.items() if digest not in self.objects]
            if names:
                broken[key] = names
        return broken


def take_inventory(store: Store) -> Inventory:
    """Walk over `store`; files that vanish meanwhile are not counted."""
    inventory = Inventory()
    for path, kept in _walk(store.root / "objects"):
        inventory.objects[path.parent.name + path.name] = kept
    for path, kept in _walk(store.root / "actions"):
        action = store.action(path.stem) if path.suffix == ".json" else None
        if action is None:
            inventory.unreadable[path] = kept
        else:
            inventory.actions[action.key] = (action, kept)
    for entry in _entries(store.root / "resume"):
        files = [kept for _, kept in _walk(entry)]
        with contextlib.suppress(FileNotFoundError):
            newest = max([entry.stat().st_mtime, *(kept.used for kept in files)])
            inventory.checkpoints[entry.name] = StoredItem(sum(kept.size for kept in files), newest)
    inventory.quarantine = dict(_walk(store.root / "quarantine"))
    return inventory


def find_roots(workspace: Workspace, now: float | None = None) -> Roots:
    """Return the results in `workspace` and in all others that use its store, at the time `now` of the store.

    Raises
    ------
    StoreError
        The results of another workspace cannot be read.
    """
    now = workspace.store.now() if now is None else now
    records = workspace.state.records()
    all_records = list(records.values())
    # The store may be inside the cache of another workspace, which has no lease for its own store.
    host = workspace.store.root.parent
    if workspace.store.root.name == "store" and host.name == "cache" and not host.samefile(workspace.cache):
        database = state_file(host)
        theirs = records_of(database) if database.exists() else {}
        require_records(host.parent, theirs)
        all_records += theirs.values()
    ours = None if workspace.lease is None else workspace.lease.file
    others = tuple(lease for lease in leases(workspace.store) if lease.file != ours)
    counting = [lease for lease in others if lease.counts(now)]
    shown = [r for r in all_records if not r.cleaned]
    return Roots(
        frozenset(r.key for r in shown).union(*(lease.keys for lease in counting)),
        frozenset(o.digest for r in shown for o in r.outputs.values()).union(*(lease.digests for lease in counting)),
        frozenset(r.trajectory for r in shown if r.trajectory is not None).union(
            *(lease.trajectories for lease in counting)
        ),
        sum(not r.cleaned for r in records.values()),
        sum(o.size for r in records.values() for o in r.outputs.values()),
        others,
    )


def require_records(root: Path, records: Mapping[str, Record]) -> None:
    """Check that the workspace at `root` has records if it has results, before anything is considered unusable.

    Raises
    ------
    StoreError
        It has results, but its state database has no records: it may have been lost.
    """
    folders = [
        f
        for f in _entries(root / "cache")
        if f.is_dir() and f.name not in ("store", "tmp", "log", "seals") and f.name[0] != "."
    ]
    if not records and any(f.is_file() for folder in folders for f in folder.rglob("*")):
        raise StoreError(
            f"{root / 'cache'}: holds artifacts, but the state database has no record of them (was it lost?); "
            "run `rvbuild build` there first: it finds them again, and gc then knows what to keep"
        )


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _walk(folder: Path) -> Iterator[tuple[Path, StoredItem]]:
    """Yield every file below `folder`, sorted by directory."""
    for base, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(base, name)
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                yield path, StoredItem(stat.st_size, stat.st_mtime)
