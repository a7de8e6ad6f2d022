"""The store: contents of artifacts by digest, and the results of keys.

objects/ab/cdef…      one content, read-only, named by its xxh3_128
actions/ab/<key>.json the result of a key: output names, digests, sizes; seconds; its origin
resume/<trajectory>/  checkpoints of unfinished or extendable work
forgotten/            keys that were cleaned: they are built again even if a remote store has them
differences/          keys that had different results at different times or on different machines
quarantine/           contents that no longer match their digest
tmp/                  unfinished files, which belong to a running or a killed process
locks/                locks of keys being built, of writers of the store, and of owners of unfinished files
workspaces/           results of the workspaces that share the store, for gc; see `leases`

Several workspaces may share a store. A key is built under its lock (`building`), so the second workspace finds the
result of the first. Contents and the record that refers to them are written under `writing`, which is shared; gc
holds `alone`, so it cannot remove contents that a new record is about to refer to.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from rvbuild.engine.keys.signature import hash_open, signature
from rvbuild.engine.store import inside
from rvbuild.engine.store.action import MOST_RECORD_BYTES, Action
from rvbuild.engine.store.copies import materialize, put
from rvbuild.engine.store.later import Later
from rvbuild.engine.store.locks import held
from rvbuild.engine.store.scratch import Scratch
from rvbuild.engine.store.state import Output
from rvbuild.errors import StoreError
from rvbuild.files.durable import sync, sync_all

_FOLDERS = ("objects", "actions", "resume", "forgotten", "differences", "quarantine", "tmp", "locks", "workspaces")
#: A result that took longer, in seconds, is durable before it is recorded.
DEAR_S = 1.0


class Store(Scratch):
    """Contents by digest, in one directory on one file system.

    Parameters
    ----------
    root : Path
        The directory, or a link to it.
    key : callable, optional
        Returns the key that signs records. Without it, several users may share the store.
    """

    def __init__(self, root: Path, key: Callable[[], bytes | None] | None = None) -> None:
        super().__init__(root)
        self.signs = key is not None
        self._key = key
        self._later = Later(root)

    def prepare(self) -> None:
        """Create the store's directories.

        Raises
        ------
        StoreError
            One of them is not a directory: nothing is written or removed behind a link.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        inside.require_own(self.root, _FOLDERS, ())
        for name in _FOLDERS:
            (self.root / name).mkdir(exist_ok=True)

    def close(self) -> None:
        """Make all results durable, and release what protects unfinished files of this object.

        Raises
        ------
        StoreError
            The disk could not write all results.
        """
        try:
            self._later.settle()
        finally:
            super().close()

    # -- locks --------------------------------------------------------------------------------------------------------

    def lock_of_checkpoints(self, trajectory: str) -> Path:
        """Return the lock that the process holds which writes checkpoints of `trajectory`.

        Whoever has it built holds another lock, and may end before that process, on another machine.
        """
        return self.root / "locks" / f"{trajectory}.writer"

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """Keep gc out while contents and the record that refers to them are written."""
        return held(self.root / "locks" / "store", shared=True)

    @contextlib.contextmanager
    def alone(self, wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Keep all writers out; `wait` is called while there are any."""
        with held(self.root / "locks" / "store", wait=wait):
            yield

    # -- objects ------------------------------------------------------------------------------------------------------

    def object(self, digest: str) -> Path:
        """Return the path of the content `digest`, whether or not it exists."""
        return self.root / _object(digest)

    def keep(
        self, staged: Mapping[Path, str], action: Action, held: Collection[str] = (), durable: bool = False
    ) -> None:
        """Move the files `staged`, each with its digest, into the store, and write the record of their action.

        The record of a result that took long becomes durable after its files, which are `durable` already or become
        so here. Other results become durable together, some seconds later or when the store is closed: after a power
        cut they may have to be built again. Files whose contents are `held` by the store are removed.
        """
        is_dear = durable or action.seconds >= DEAR_S
        if is_dear and not durable:
            sync_all(staged)
        for path, digest in staged.items():
            if digest in held and self.has(digest, path.stat().st_size):  # gc may have removed it since
                path.unlink()
            else:
                inside.move(path, self.root, _object(digest))
        contents = [_object(digest) for digest in staged.values()]
        if is_dear:
            self.record(action, {(self.root / path).parent for path in contents})
            return
        self.record(action, durable=False)
        self._later.add([*contents, _action(action.key)])

    def take(self, staged: Path, digest: str) -> None:
        """Move the file `staged`, whose digest is `digest`, into the store."""
        if self.holds(digest, staged.stat().st_size):
            staged.unlink()
            return
        sync(staged)
        staged.chmod(0o444)
        inside.move(staged, self.root, _object(digest))
        sync(self.object(digest).parent)

    def holds(self, digest: str, size: int) -> bool:
        """Tell whether the store holds an intact content `digest`."""
        if not self._is_there(_object(digest)):
            return False
        try:
            with inside.reading(self.root, _object(digest)) as file:
                return os.fstat(file).st_size == size and hash_open(file) == digest
        except FileNotFoundError:
            return False

    def _is_there(self, path: str) -> bool:
        """Tell whether there may be a file at `path`, which takes less time than opening it."""
        return os.path.lexists(f"{self.root}/{path}")

    def has(self, digest: str, size: int) -> bool:
        """Tell whether the store holds a content `digest` of this size; `place` verifies it."""
        status = signature(f"{self.root}/{_object(digest)}")
        return status is not None and status.size == size

    def quarantine(self, digest: str) -> None:
        """Move the store's copy of `digest`, which is damaged, to quarantine."""
        parent, _, name = _object(digest).rpartition("/")
        bad = f"{digest}-{time.time_ns()}"
        with contextlib.suppress(FileNotFoundError), inside.folder(self.root, parent) as source:
            os.stat(name, dir_fd=source, follow_symlinks=False)
            with inside.folder(self.root, "quarantine", make=True) as target:
                os.replace(name, bad, src_dir_fd=source, dst_dir_fd=target)

    def place(self, digest: str, cache: Path, path: str, scratch: Path) -> Output | None:
        """Put the content `digest` into a cache, or return None if the store's copy is damaged or missing.

        A damaged object is moved to quarantine. The file appears by a rename, so it is always complete.

        Parameters
        ----------
        digest : str
        cache : Path
            The directory that contains `path`, which consists of plain names with slashes between them.
        path : str
        scratch : Path
            A directory for unfinished files, on the same file system.

        Raises
        ------
        StoreError
            `path` points outside, or there is a symbolic link on the way.
        """
        temporary = scratch / uuid.uuid4().hex
        try:
            with inside.reading(self.root, _object(digest)) as file:
                if hash_open(file) == digest:
                    linked = materialize(self.object(digest), file, temporary)
                else:
                    self.quarantine(digest)
                    return None
        except FileNotFoundError:
            return None
        return put(temporary, digest, cache, path, scratch, linked)

    @functools.cached_property
    def _secret(self) -> bytes | None:
        """The key of signatures, if this user has one."""
        return None if self._key is None else self._key()

    # -- actions ------------------------------------------------------------------------------------------------------

    def action_file(self, key: str) -> Path:
        """Return the path of the record of `key`, whether or not it exists."""
        return self.root / _action(key)

    def action(self, key: str) -> Action | None:
        """Return the result of `key`, or None if it was never built or its record cannot be read."""
        if not self.knows(key):
            return None
        try:
            text = inside.read(self.root, _action(key), MOST_RECORD_BYTES)
            return Action.decoded(text, key, self._secret)
        except (OSError, ValueError, StoreError):
            return None

    def knows(self, key: str) -> bool:
        """Tell whether there is a record of `key`, readable or not."""
        return self._is_there(_action(key))

    def touch(self, key: str) -> None:
        """Update the last-used time of the action (gc evicts least recently used first)."""
        with contextlib.suppress(OSError):
            os.utime(self.action_file(key), follow_symlinks=False)

    def restorable(self, key: str) -> Action | None:
        """Return the result of `key` if all of its contents are here."""
        action = self.action(key)
        if action is None or not all(self.has(*output) for output in action.outputs.values()):
            return None
        return action

    def record(self, action: Action, folders: Collection[Path] = (), durable: bool = True) -> None:
        """Write the record of an action, whose objects must be in the store already; they lie in `folders`."""
        self.write(_action(action.key), action.encoded(self._secret, checked=True), folders, durable)
        self.recall(action.key)

    def write(self, path: str, content: bytes, folders: Collection[Path] = (), durable: bool = True) -> None:
        """Write the small file at `path` in the store atomically, after `folders` are durable."""
        temporary = self.temporary()
        try:
            file = inside.create(temporary)
            try:
                inside.write_all(file, content)
            finally:
                os.close(file)
            if durable:
                sync_all({temporary, *folders})
            inside.move(temporary, self.root, path)
        except BaseException:
            self.release(temporary)
            raise
        if durable:
            sync((self.root / path).parent)

    def forget(self, key: str) -> None:
        """Remove the result of `key`, so that it is built again and not downloaded either."""
        inside.write(self.root, f"forgotten/{key}", b"")
        inside.remove(self.root, _action(key))

    def recall(self, key: str) -> None:
        """Let `key` be downloaded again, if it was removed on purpose."""
        if self.is_forgotten(key):
            inside.remove(self.root, f"forgotten/{key}")

    def is_forgotten(self, key: str) -> bool:
        """Tell whether `key` was removed on purpose and not built since."""
        return self._is_there(f"forgotten/{key}")

    # -- different results of one key ---------------------------------------------------------------------------------

    def differ(self, key: str, kept: Action, other: Action, where: str) -> None:
        """Record that `key` has two results: `kept`, which is valid and comes from `where`, and `other`."""
        names = {*kept.outputs, *other.outputs}
        both = {n: [kept.outputs.get(n), other.outputs.get(n)] for n in sorted(names)}
        report = {
            "key": key,
            "stage": kept.components.get("stage"),
            "where": where,
            "at": time.time(),
            "outputs": {name: values for name, values in both.items() if values[0] != values[1]},
        }
        self.write(f"differences/{key}.json", json.dumps(report, indent=1).encode())

    def differences(self) -> dict[str, Mapping[str, Any]]:
        """Return key -> report of `differ`."""
        reports: dict[str, Mapping[str, Any]] = {}
        for file in sorted((self.root / "differences").glob("*.json")):
            with contextlib.suppress(OSError, ValueError, RecursionError):
                report = json.loads(inside.read(self.root, f"differences/{file.name}", MOST_RECORD_BYTES))
                if isinstance(report, dict) and isinstance(report.get("outputs"), dict):
                    reports[file.stem] = report
        return reports

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def resume(self, trajectory: str) -> Path:
        """Return the directory for checkpoints of `trajectory`."""
        return self.root / "resume" / trajectory

    def forget_resume(self, trajectory: str) -> None:
        """Remove the checkpoints of `trajectory`."""
        shutil.rmtree(self.resume(trajectory), ignore_errors=True)


def _object(digest: str) -> str:
    return f"objects/{digest[:2]}/{digest[2:]}"


def _action(key: str) -> str:
    return f"actions/{key[:2]}/{key}.json"
