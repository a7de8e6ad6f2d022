"""The store: contents of artifacts by digest, and for every key what it gave.

objects/ab/cdef…      one content, read-only, named by its xxh3_128
actions/ab/<key>.json what a key gave: output names, digests, sizes; seconds; where it came from
resume/<trajectory>/  checkpoints of unfinished or extendable work
quarantine/           contents that no longer had their digest
tmp/                  unfinished files; whatever is there belongs to a running or a killed process
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rvbuild.build.fingerprint import hash_file, signature
from rvbuild.build.state import Output, fsync_dir
from rvbuild.errors import StoreError

_FICLONE = 0x40049409
_LINK_FROM = 1 << 20


@dataclass(frozen=True, slots=True)
class Action:
    """What building a key gave; `outputs` maps names to (digest, size)."""

    key: str
    components: Mapping[str, Any]
    outputs: Mapping[str, tuple[str, int]]
    seconds: float
    at: float
    packages: Mapping[str, str] = field(default_factory=dict)


class Store:
    """Contents by digest, in one directory on one file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        """Make the store's directories."""
        for name in ("objects", "actions", "resume", "quarantine", "tmp"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def staging(self) -> Path:
        """Return a new empty directory that nobody else uses."""
        path = self.root / "tmp" / f"{os.getpid()}-{uuid.uuid4().hex}"
        path.mkdir(parents=True)
        return path

    def sweep(self) -> None:
        """Remove what killed processes left in `tmp`; called while the workspace is locked."""
        with contextlib.suppress(FileNotFoundError):
            for left in (self.root / "tmp").iterdir():
                pid = left.name.partition("-")[0]
                if pid.isdigit() and Path(f"/proc/{pid}").exists() and int(pid) != os.getpid():
                    continue
                shutil.rmtree(left, ignore_errors=True)
                left.unlink(missing_ok=True)

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
            bad = self.root / "quarantine" / f"{digest}-{time.time_ns()}"
            bad.parent.mkdir(parents=True, exist_ok=True)
            source.replace(bad)
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

    def _action(self, key: str) -> Path:
        return self.root / "actions" / key[:2] / f"{key}.json"

    def action(self, key: str) -> Action | None:
        """Return what `key` gave, or None if it was never built or its record cannot be read."""
        try:
            data = json.loads(self._action(key).read_bytes())
            outputs = {name: (str(d), int(size)) for name, (d, size) in data.pop("outputs").items()}
            found = Action(outputs=outputs, **data)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return found if found.key == key else None

    def restorable(self, key: str) -> Action | None:
        """Return what `key` gave if all of it is still here."""
        found = self.action(key)
        if found is None or not all(self.has(*output) for output in found.outputs.values()):
            return None
        return found

    def record(self, action: Action) -> None:
        """Write the record of an action, whose objects must be in the store already."""
        target = self._action(action.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.root / "tmp" / f"{os.getpid()}-{uuid.uuid4().hex}"
        data = {
            "key": action.key,
            "components": action.components,
            "outputs": {name: list(value) for name, value in action.outputs.items()},
            "seconds": action.seconds,
            "at": action.at,
            "packages": dict(action.packages),
        }
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(data, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        fsync_dir(target.parent)

    def forget(self, key: str) -> None:
        """Forget what `key` gave, so that it is built again."""
        self._action(key).unlink(missing_ok=True)

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def resume(self, trajectory: str) -> Path:
        """Return the directory for checkpoints of `trajectory`."""
        return self.root / "resume" / trajectory

    def forget_resume(self, trajectory: str) -> None:
        """Remove the checkpoints of `trajectory`."""
        shutil.rmtree(self.resume(trajectory), ignore_errors=True)


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
