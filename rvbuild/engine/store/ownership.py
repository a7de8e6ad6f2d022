"""The owner of a cache: created here by this user, a copy of such a cache, or created by somebody else.

cache/.stamp   an empty file: no copy of it has its inode and its change time
cache/.place   the state of the stamp when it was created, and a name of the cache that the user has signed

A cache belongs to the user if the stamp is the original. A copy of a user's cache is recognised by the signature:
the results that the user has signed are kept, and everything else is checked again. In any other cache, for example one
that came with a clone of a repository, everything is moved aside without being read.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rvbuild.engine.store import inside
from rvbuild.engine.store.action import MOST_RECORD_BYTES, Action
from rvbuild.engine.store.locks import held
from rvbuild.engine.store.state import State
from rvbuild.engine.store.store import Store
from rvbuild.errors import StoreError
from rvbuild.files.signing import is_signed, signed, user_key

STAMP = ".stamp"
PLACE = ".place"
#: Prefix of the directories for the content of others' caches.
ASIDE = ".strange-"
_TRUSTED = ("state.db", "state.db-wal", "state.db-shm", "state.db-journal", "seals", "log")
_TRUSTED_OF_STORE = tuple(f"store/{name}" for name in ("resume", "forgotten", "differences", "workspaces", "locks"))
_MOST_BYTES = 1 << 16


class Standing(enum.Enum):
    """The relation of a cache to the current user."""

    NEW = "new"
    """It holds nothing that needs trust."""
    OWN = "own"
    """This user created it in this place."""
    COPIED = "copied"
    """It is a copy of a cache that this user created, possibly moved here from another disk."""
    STRANGE = "strange"
    """Somebody else created it, or a version of rvbuild without stamps."""


def standing(cache: Path) -> Standing:
    """Return the standing of the directory `cache`."""
    place = _place(cache)
    stamp = _stamp(cache)
    if stamp is not None and place.get("stamp") == stamp:
        return Standing.OWN
    if not any(os.path.lexists(cache / name) for name in (*_TRUSTED, "store")):
        return Standing.NEW
    key = user_key() if place else None
    return Standing.COPIED if key is not None and is_signed(place, key) else Standing.STRANGE


def stamp_of(cache: Path) -> list[int] | None:
    """Return the state of the stamp of the directory `cache`, [inode, change time in ns]; None if there is none."""
    return _stamp(cache)


@contextlib.contextmanager
def claiming(cache: Path) -> Iterator[Standing]:
    """Yield the standing of `cache`, and claim it afterwards; other processes wait meanwhile."""
    relation = standing(cache)
    if relation is Standing.OWN:
        yield relation
        return
    with held(cache / ".settling"):
        relation = standing(cache)
        yield relation
        if relation is not Standing.OWN:
            claim(cache)


def claim(cache: Path) -> None:
    """Make the directory `cache` ours: its content is trusted from now on."""
    inside.write(cache, STAMP, b"")
    place: dict[str, Any] = {"cache": uuid.uuid4().hex, "stamp": _stamp(cache)}
    key = user_key()
    inside.write(cache, PLACE, json.dumps(place if key is None else signed(place, key)).encode())


def set_aside(cache: Path, relation: Standing) -> tuple[Path, int]:
    """Move the untrusted parts of `cache`, which is not ours, away; return their new place and the number of results.

    For a copy these are the results in its store that this user has not signed; for another user's cache also all
    records of what was built.
    """
    aside = cache / f"{ASIDE}{time.time_ns()}"
    if relation is Standing.STRANGE:
        for name in (*_TRUSTED, *_TRUSTED_OF_STORE):
            _move(cache, name, aside)
    key, count = user_key(), 0
    for path in _actions(cache / "store"):
        if key is None or not _is_ours(cache / "store", path, key):
            _move(cache, f"store/{path}", aside)
            count += 1
    return aside, count


def keep_signed(state: State, store: Store) -> None:
    """Remove the records of `state` that match neither a result signed by this user nor one in a shared `store`."""
    key = user_key()
    wrong = []
    for name, record in state.records().items():
        action = store.action(record.key)
        if action is not None and store.signs and (key is None or not _is_ours(store.root, _file(action.key), key)):
            action = None
        shown = {output: (o.digest, o.size) for output, o in record.outputs.items()}
        if not record.cleaned and (action is None or dict(action.outputs) != shown):
            wrong.append(name)
    state.forget(wrong)


def adopt(cache: Path) -> int:
    """Accept `cache` as ours, with everything in it or moved aside; return the number of results signed now."""
    for aside in sorted(cache.glob(f"{ASIDE}*")):
        for path in _actions(aside / "store"):
            if (
                inside.stat_file(cache, f"store/{path}") is None
                and inside.stat_file(aside, f"store/{path}") is not None
            ):
                inside.move(aside / "store" / path, cache, f"store/{path}")
    key, count = user_key(), 0
    for path in _actions(cache / "store"):
        with contextlib.suppress(OSError, ValueError, StoreError):
            action = Action.decoded(inside.read(cache, f"store/{path}", MOST_RECORD_BYTES), Path(path).stem)
            if action is not None:
                inside.write(cache, f"store/{path}", action.encoded(key))
                count += 1
    claim(cache)
    return count


def _actions(store: Path) -> list[str]:
    """Return the records in `store`, relative to it."""
    paths = []
    for base, _, names in os.walk(store / "actions"):
        paths += [str(Path(base, name).relative_to(store)) for name in names]
    return sorted(paths)


def _file(key: str) -> str:
    return f"actions/{key[:2]}/{key}.json"


def _is_ours(store: Path, path: str, key: bytes) -> bool:
    try:
        data = json.loads(inside.read(store, path, MOST_RECORD_BYTES))
    except (OSError, ValueError, RecursionError, StoreError):
        return False
    return isinstance(data, dict) and is_signed(data, key)


def _move(cache: Path, path: str, aside: Path) -> None:
    """Move `path` in `cache` to the same path in `aside`; a link is moved as a link."""
    parent, _, name = path.rpartition("/")
    with contextlib.suppress(FileNotFoundError), inside.folder(cache, parent) as source:
        os.stat(name, dir_fd=source, follow_symlinks=False)
        with inside.folder(cache, f"{aside.name}/{parent}".rstrip("/"), make=True) as target:
            os.replace(name, name, src_dir_fd=source, dst_dir_fd=target)


def _place(cache: Path) -> dict[str, Any]:
    try:
        data = json.loads(inside.read(cache, PLACE, _MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _stamp(cache: Path) -> list[int] | None:
    try:
        status = (cache / STAMP).lstat()
    except OSError:
        return None
    is_ours = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == os.geteuid()
    return [status.st_ino, status.st_ctime_ns] if is_ours else None
