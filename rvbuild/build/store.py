"""The store: contents of artifacts by digest, and for every key what it gave.

objects/ab/cdef…      one content, read-only, named by its xxh3_128
actions/ab/<key>.json what a key gave: output names, digests, sizes; seconds; where it came from
resume/<trajectory>/  checkpoints of unfinished or extendable work
forgotten/            keys that were cleaned: they are built again even if a store elsewhere has them
differences/          keys that gave other bytes at another time or on another machine
quarantine/           contents that no longer had their digest
tmp/                  unfinished files; whatever is there belongs to a running or a killed process
locks/                the keys that are being built now, who writes to the store, and who has unfinished files
workspaces/           the workspaces that share a store, so that gc knows what they show; see `leases`

Several workspaces may share a store. A key is built under its lock (`building`), so that the second workspace finds
what the first one made. Contents and the record that refers to them are written under `writing`, which many may hold;
gc holds `alone`, so that nothing that is about to be referred to is removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rvbuild.build.fingerprint import hash_file, signature
from rvbuild.build.locks import acquire, held
from rvbuild.build.state import Output, fsync_dir
from rvbuild.errors import StoreError

_FOLDERS = ["objects", "actions", "resume", "forgotten", "differences", "quarantine", "tmp", "locks", "workspaces"]
_FICLONE = 0x40049409
_LINK_FROM = 1 << 20
#: What the lock of a process that has unfinished files is called, with what their names begin with.
_ALIVE = "alive-"


@dataclass(frozen=True, slots=True)
class Action:
    """What building a key gave; `outputs` maps names to (digest, size), `trajectory` names its checkpoints if any."""

    key: str
    components: Mapping[str, Any]
    outputs: Mapping[str, tuple[str, int]]
    seconds: float
    at: float
    packages: Mapping[str, str] = field(default_factory=dict)
    trajectory: str | None = None

    def encoded(self) -> bytes:
        """Return the action as JSON, as it is kept in the store."""
        data = {
            "key": self.key,
            "components": self.components,
            "outputs": {name: list(value) for name, value in self.outputs.items()},
            "seconds": self.seconds,
            "at": self.at,
            "packages": dict(self.packages),
            "trajectory": self.trajectory,
        }
        return json.dumps(data, indent=1, sort_keys=True).encode()

    @classmethod
    def decoded(cls, text: bytes, key: str) -> Action | None:
        """Return the action of `key` from JSON, or None if it is something else or damaged."""
        try:
            data = json.loads(text)
            outputs = {name: (str(d), int(size)) for name, (d, size) in data.pop("outputs").items()}
            found = cls(outputs=outputs, **data)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None
        return found if found.key == key else None


class Store:
    """Contents by digest, in one directory on one file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._owner = ""
        self._end: weakref.finalize[..., Store] | None = None
        self._starting = threading.Lock()

    def prepare(self) -> None:
        """Make the store's directories."""
        for name in _FOLDERS:
            (self.root / name).mkdir(parents=True, exist_ok=True)

    # -- unfinished files ---------------------------------------------------------------------------------------------

    def temporary(self) -> Path:
        """Return a new path in `tmp` that nobody else uses; `release` it when it is gone."""
        return self.root / "tmp" / f"{self._alive()}-{uuid.uuid4().hex}"

    def release(self, path: Path) -> None:
        """Remove what is left at `path`, which `temporary` or `staging` gave."""
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def staging(self) -> Path:
        """Return a new empty directory that nobody else uses."""
        path = self.temporary()
        path.mkdir(parents=True)
        return path

    def sweep(self) -> None:
        """Remove what killed processes left in `tmp`; never what a living one, on whatever machine, may still use."""
        dead: dict[str, bool] = {}
        left = [path for path in (self.root / "tmp").glob("*")]
        owners = [path.name.removeprefix(_ALIVE) for path in (self.root / "locks").glob(f"{_ALIVE}*")]
        for owner in {*owners, *(path.name.partition("-")[0] for path in left)}:
            dead[owner] = self._is_dead(owner)
        for path in left:
            if dead[path.name.partition("-")[0]]:
                self.release(path)

    def close(self) -> None:
        """Say that no unfinished file of this is in use any more."""
        if self._end is not None:
            self._end()

    def now(self) -> float:
        """Return the time of the file system that the store is on, which may be another machine's."""
        probe = self.temporary()
        try:
            probe.touch()
            return probe.stat().st_mtime
        finally:
            self.release(probe)

    def _alive(self) -> str:
        """Return what the names of our unfinished files begin with, and hold the lock that says that we live.

        A lock shows this to other machines and to other containers of this one; the number of a process does not.
        """
        with self._starting:
            if self._end is None or not self._end.alive:
                self._owner = uuid.uuid4().hex
                path = self.root / "locks" / f"{_ALIVE}{self._owner}"
                self._end = weakref.finalize(self, _let_go, path, acquire(path), os.getpid())
            return self._owner

    def _is_dead(self, owner: str) -> bool:
        """Tell whether nobody holds the lock of `owner`, and remove that."""
        path = self.root / "locks" / f"{_ALIVE}{owner}"
        if owner == self._owner:
            return False
        if not path.exists():
            return True
        try:
            with held(path, wait=_give_up):
                return True
        except (_HeldError, StoreError):  # or of a user whose files are not ours to touch
            return False

    # -- locks --------------------------------------------------------------------------------------------------------

    def building(self, key: str, wait: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of `key` (or of a trajectory); `wait` is called while another process builds it."""
        return held(self.root / "locks" / key, wait=wait)

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """Keep gc out while contents and the record that refers to them are written."""
        return held(self.root / "locks" / "store", shared=True)

    @contextlib.contextmanager
    def alone(self, wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Keep all writers out; `wait` is called while there are some."""
        with held(self.root / "locks" / "store", wait=wait):
            yield

    # -- objects ------------------------------------------------------------------------------------------------------

    def object(self, digest: str) -> Path:
        """Return where the content `digest` is, or would be."""
        return self.root / "objects" / digest[:2] / digest[2:]

    def take(self, staged: Path, digest: str) -> None:
        """Move the file `staged`, whose digest is `digest`, into the store."""
        target = self.object(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.stat().st_size == staged.stat().st_size and hash_file(target) == digest:
            staged.unlink()
            return
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        staged.chmod(0o444)
        staged.replace(target)
        fsync_dir(target.parent)

    def has(self, digest: str, size: int) -> bool:
        """Tell whether the store holds `digest`, judged by its size alone; `place` looks at the content."""
        found = signature(self.object(digest))
        return found is not None and found.size == size

    def condemn(self, digest: str) -> None:
        """Move the store's copy of `digest`, which is damaged, to quarantine."""
        bad = self.root / "quarantine" / f"{digest}-{time.time_ns()}"
        bad.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.object(digest).replace(bad)

    def place(self, digest: str, target: Path, shown: str, scratch: Path) -> Output | None:
        """Show the content `digest` at `target`, or return None if the store's copy is damaged or gone.

        A damaged object is moved to quarantine. The file appears by a rename, so it is whole whenever it is there.
        """
        source = self.object(digest)
        try:
            good = hash_file(source) == digest
        except FileNotFoundError:
            return None
        if not good:
            self.condemn(digest)
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = scratch / uuid.uuid4().hex
        linked = _materialize(source, temporary)
        temporary.replace(target)
        found = signature(target)
        if found is None:
            raise StoreError(f"{target}: vanished while it was put in place; is another program cleaning the cache?")
        return Output(shown, digest, found.size, found.mtime_ns, found.inode, None if linked else found.ctime_ns)

    # -- actions ------------------------------------------------------------------------------------------------------

    def action_file(self, key: str) -> Path:
        """Return where the record of `key` is, or would be."""
        return self.root / "actions" / key[:2] / f"{key}.json"

    def action(self, key: str) -> Action | None:
        """Return what `key` gave, or None if it was never built or its record cannot be read."""
        try:
            return Action.decoded(self.action_file(key).read_bytes(), key)
        except OSError:
            return None

    def used(self, key: str) -> None:
        """Take note that what `key` gave is used now: gc keeps what was used lately."""
        with contextlib.suppress(OSError):
            os.utime(self.action_file(key))

    def restorable(self, key: str) -> Action | None:
        """Return what `key` gave if all of it is still here."""
        found = self.action(key)
        if found is None or not all(self.has(*output) for output in found.outputs.values()):
            return None
        return found

    def record(self, action: Action) -> None:
        """Write the record of an action, whose objects must be in the store already."""
        self.write(self.action_file(action.key), action.encoded())
        (self.root / "forgotten" / action.key).unlink(missing_ok=True)

    def write(self, target: Path, content: bytes) -> None:
        """Write a small file that appears as a whole."""
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.temporary()
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            self.release(temporary)
        fsync_dir(target.parent)

    def forget(self, key: str) -> None:
        """Forget what `key` gave, so that it is built again and not fetched from elsewhere either."""
        (self.root / "forgotten" / key).touch()
        self.action_file(key).unlink(missing_ok=True)

    def is_forgotten(self, key: str) -> bool:
        """Tell whether `key` was forgotten on purpose and not built since."""
        return (self.root / "forgotten" / key).exists()

    # -- one key, two results -----------------------------------------------------------------------------------------

    def differ(self, key: str, kept: Action, other: Action, where: str) -> None:
        """Take note that `key` gave `kept`, which counts, and also `other`; `where` names whose `kept` is."""
        names = {*kept.outputs, *other.outputs}
        both = {n: [kept.outputs.get(n), other.outputs.get(n)] for n in sorted(names)}
        said = {
            "key": key,
            "stage": kept.components.get("stage"),
            "where": where,
            "at": time.time(),
            "outputs": {name: values for name, values in both.items() if values[0] != values[1]},
        }
        self.write(self.root / "differences" / f"{key}.json", json.dumps(said, indent=1).encode())

    def differences(self) -> dict[str, Mapping[str, Any]]:
        """Return key -> what `differ` noted of it."""
        found = {}
        for file in sorted((self.root / "differences").glob("*.json")):
            with contextlib.suppress(OSError, ValueError):
                found[file.stem] = json.loads(file.read_bytes())
        return found

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def resume(self, trajectory: str) -> Path:
        """Return the directory for checkpoints of `trajectory`."""
        return self.root / "resume" / trajectory

    def forget_resume(self, trajectory: str) -> None:
        """Remove the checkpoints of `trajectory`."""
        shutil.rmtree(self.resume(trajectory), ignore_errors=True)


class _HeldError(Exception):
    pass


def _give_up() -> None:
    raise _HeldError


def _let_go(path: Path, handle: int, pid: int) -> None:
    if os.getpid() == pid:  # and not a fork of whoever holds it
        path.unlink(missing_ok=True)
        os.close(handle)


def _materialize(source: Path, target: Path) -> bool:
    """Make `target` hold what `source` holds: a reflink, else a hard link or a copy; True for a hard link.

    A hard link is made only of large files, and only where the file's mode protects it: root writes to read-only files.
    """
    if _reflink(source, target):
        return False
    if os.geteuid() != 0 and source.stat().st_size >= _LINK_FROM:
        try:
            os.link(source, target)
        except OSError:
            pass
        else:
            return True
    shutil.copyfile(source, target)
    return False


def _reflink(source: Path, target: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # not a Unix
        return False
    try:
        with source.open("rb") as old, target.open("xb") as new:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
    except OSError:
        target.unlink(missing_ok=True)
        return False
    return True
