"""Files by which a worker finds out whether it shares directories and locks with the driver, and whether that lives.

The driver holds a lock on a file in each directory. A worker must see the file with the same content and attributes,
and must fail to lock it: otherwise the directory is another one, or locks are local to each node. A lock ends with its
process, so a worker that gets it later knows that the driver has ended, however it ended.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rvbuild.engine.keys.signature import Signature, signature
from rvbuild.engine.store.locks import HeldError, acquire, give_up, held, is_held
from rvbuild.errors import StoreError

SUFFIX, BOARD = ".session", ".json"
"""Of the file with the lock of a session, and of the one that tells what it builds."""


@dataclass(frozen=True)
class Beacon:
    """What a worker must see: a secret, and for each directory (by its name in messages) the file and its state."""

    nonce: str
    files: Mapping[str, tuple[Path, Signature]]

    def problem(self) -> str | None:
        """Return why this process cannot work in these directories; None if it can."""
        for name, (path, state) in self.files.items():
            try:
                content = path.read_text()
            except OSError as error:
                return f"does not see the {name} {path.parent} of the driver ({error.strerror}): it must be shared"
            if content != self.nonce:
                return f"has another {name} at {path.parent} than the driver: it must be shared"
            if signature(path) != state:
                return (
                    f"sees other sizes, times or inodes of files in the {name} {path.parent} than the driver, so that "
                    "changes of inputs could not be noticed; use a file system that shows the same to all (NFS, Lustre)"
                )
            if not is_held(path):
                return (
                    f"can take a lock in the {name} {path.parent} that the driver holds: locks are local to each node; "
                    "mount the file system with locks for all nodes (Lustre: -o flock; NFS: without nolock)"
                )
            probe = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
            try:
                probe.touch()
                probe.unlink()
            except OSError as error:
                return f"cannot write into the {name} {path.parent} ({error.strerror})"
        return None

    def is_out(self) -> bool:
        """Tell whether the driver has ended."""
        path, _ = next(iter(self.files.values()))
        try:
            return not is_held(path)
        except OSError:  # the file server does not answer
            return False


def _sweep(folder: Path) -> None:
    """Remove the files of sessions whose drivers were killed."""
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(HeldError, StoreError, OSError), held(path, wait=give_up):
            path.with_suffix(BOARD).unlink(missing_ok=True)


@contextlib.contextmanager
def lit(session: str, folders: Mapping[str, Path]) -> Iterator[Beacon]:
    """Hold the locks of a session in `folders`, each with its name in messages.

    Raises
    ------
    StoreError
        A file system does not support locks.
    """
    nonce = uuid.uuid4().hex
    files: dict[str, tuple[Path, Signature]] = {}
    with contextlib.ExitStack() as ending:
        for name, folder in folders.items():
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            path = folder / f"{session}{SUFFIX}"
            handle = acquire(path)
            ending.callback(os.close, handle)
            ending.callback(path.unlink, missing_ok=True)
            os.write(handle, nonce.encode())
            os.fsync(handle)
            state = signature(path)
            assert state is not None
            files[name] = path, state
        yield Beacon(nonce, files)
