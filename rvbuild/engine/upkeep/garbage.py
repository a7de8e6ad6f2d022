"""gc: chooses what can be removed from a store, cheapest to rebuild first, and removes it.

The results in workspaces are never removed: the actions of their current records, with their contents and
checkpoints. The same holds for anything written or used within a short grace time. Without a limit only unusable data
are removed: contents that no action refers to, actions whose contents are missing, checkpoints of finished work that no
workspace has, and the quarantine. `older_than` adds results that were not used for that long, and unfinished work of
that age. `max_size` adds more, ordered by value per byte: the seconds that rebuilding would take per byte, halved for
every two weeks without use.

The order of removal makes it safe: first an action's record, then the contents that no remaining action refers to. A
killed gc leaves unreferenced contents, which the next gc removes, and never an action without its contents.
Checkpoints are removed by one rename. The store's lock keeps writers out meanwhile, and the lock of a trajectory
protects checkpoints that a training uses.
"""

from __future__ import annotations

import contextlib
import enum
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rvbuild.engine.store.action import Action
from rvbuild.engine.store.locks import HeldError, give_up
from rvbuild.engine.store.store import Store
from rvbuild.engine.upkeep.inventory import Inventory, Roots, StoredItem

#: Time in seconds for which everything is kept after it was written or used.
GRACE_S = 600.0
_HALF_LIFE_S = 14 * 24 * 3600.0


class Kind(enum.Enum):
    """The kinds of removable data."""

    CHECKPOINTS = "checkpoints"
    """Checkpoints that nobody needs."""
    QUARANTINE = "quarantine"
    """A content that no longer matched its digest."""
    BROKEN = "broken record"
    """A record that cannot be read, or whose contents are missing."""
    CONTENT = "content"
    """A content that no action refers to."""
    ACTION = "action"
    """The result of a key: its record, and the contents that only it refers to."""


@dataclass(frozen=True, slots=True)
class Drop:
    """An item to remove.

    Attributes
    ----------
    kind : Kind
    name : str
        The key, trajectory, digest or file name.
    size : int
        Bytes that this frees, after all earlier drops.
    seconds : float or None
        The time to build it; None if unknown.
    used : float
        When it was last written or used, in seconds since the epoch.
    paths : tuple of Path
        What to remove, in this order.
    """

    kind: Kind
    name: str
    size: int
    seconds: float | None
    used: float
    paths: tuple[Path, ...]


def choose(
    store: Store,
    inventory: Inventory,
    roots: Roots,
    *,
    max_size: int | None = None,
    older_than: float | None = None,
    grace: float = GRACE_S,
    now: float | None = None,
) -> list[Drop]:
    """Return the items to remove, in order.

    Parameters
    ----------
    store, inventory, roots
        The store, the inventory of its content, and the results in workspaces.
    max_size : int, optional
        Maximum size of the store in bytes, unless protected data need more.
    older_than : float, optional
        Seconds without use after which an action is removed.
    grace : float
        Seconds for which everything is kept.
    now : float, optional
        The time, in seconds since the epoch.
    """
    now = time.time() if now is None else now
    broken = inventory.broken()
    drops = list(_useless(store, inventory, roots, broken, now, grace, older_than))
    lost = {d.name for d in drops if d.kind is Kind.BROKEN}
    kept = {key: entry for key, entry in inventory.actions.items() if key not in lost}
    references = Counter(digest for action, _ in kept.values() for digest in _digests(action))
    left = inventory.size() - sum(d.size for d in drops)
    free = [key for key, (_, k) in kept.items() if key not in roots.keys and now - k.used >= grace]
    shares = Counter(references)

    def worth(key: str) -> float:
        """Return the seconds that a byte of the action saves, decreasing with the time since its last use."""
        action, k = kept[key]
        size = k.size + sum(inventory.objects[d].size / shares[d] for d in _digests(action) if d not in roots.digests)
        return action.seconds / size * math.exp2(-max(0.0, now - k.used) / _HALF_LIFE_S)

    def is_old(key: str) -> bool:
        return older_than is not None and now - kept[key][1].used >= older_than

    for key in sorted(free, key=lambda key: (not is_old(key), worth(key), kept[key][1].used, key)):
        if not is_old(key) and (max_size is None or left <= max_size):
            break
        action, k = kept[key]
        paths, size = [store.action_file(key)], k.size
        for digest in _digests(action):
            references[digest] -= 1
            if not references[digest] and digest not in roots.digests and now - inventory.objects[digest].used >= grace:
                paths.append(store.object(digest))
                size += inventory.objects[digest].size
        left -= size
        drops.append(Drop(Kind.ACTION, key, size, action.seconds, k.used, tuple(paths)))
    return drops


def _useless(
    store: Store,
    inventory: Inventory,
    roots: Roots,
    broken: Iterable[str],
    now: float,
    grace: float,
    older_than: float | None,
) -> Iterator[Drop]:
    """Yield unusable items, and unfinished work that is too old."""
    unfinished = max(grace, float("inf") if older_than is None else older_than)
    finished = {action.trajectory for action, _ in inventory.actions.values()}
    for name, k in inventory.checkpoints.items():
        old = now - k.used >= (grace if name in finished else unfinished)
        if old and name not in roots.trajectories:
            yield Drop(Kind.CHECKPOINTS, name, k.size, None, k.used, (store.resume(name),))

    def file(kind: Kind, name: str, path: Path, k: StoredItem) -> Iterator[Drop]:
        if now - k.used >= grace:
            yield Drop(kind, name, k.size, None, k.used, (path,))

    for path, k in inventory.quarantine.items():
        yield from file(Kind.QUARANTINE, path.name, path, k)
    for path, k in inventory.unreadable.items():
        yield from file(Kind.BROKEN, path.name, path, k)
    lost = set()
    for key in broken:
        if key not in roots.keys:
            for drop in file(Kind.BROKEN, key, store.action_file(key), inventory.actions[key][1]):
                lost.add(key)
                yield drop
    used = {d for key, (action, _) in inventory.actions.items() if key not in lost for d in _digests(action)}
    for digest, k in inventory.objects.items():
        if digest not in used and digest not in roots.digests:
            yield from file(Kind.CONTENT, digest, store.object(digest), k)


def remove(store: Store, drops: Iterable[Drop]) -> Iterator[Drop]:
    """Remove the items from `choose` one by one, yielding each removed one; hold the store `alone` meanwhile."""
    for drop in drops:
        if drop.kind is Kind.CHECKPOINTS:
            with contextlib.suppress(HeldError), store.building(drop.name, give_up):
                aside = store.temporary()
                with contextlib.suppress(FileNotFoundError):
                    store.resume(drop.name).replace(aside)
                store.release(aside)
                yield drop
        else:
            for path in drop.paths:
                path.unlink(missing_ok=True)
            yield drop


def _digests(action: Action) -> set[str]:
    return {digest for digest, _ in action.outputs.values()}
