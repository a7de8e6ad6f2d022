"""The outputs of a stage, finished by the process that ran it: checked, hashed, durable, and copied for the workspace.

Whoever builds then only renames files and writes records. It reads no byte of an output, and nothing is hashed twice.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rvbuild.engine.keys.packages import versions
from rvbuild.engine.keys.signature import Signature, hash_open, signature
from rvbuild.engine.store.copies import materialize
from rvbuild.engine.store.locks import held
from rvbuild.engine.store.store import DEAR_S, Store
from rvbuild.errors import StageError
from rvbuild.files.durable import sync_all

Seen = tuple[int, int, int, int | None]
"""The state of a file: size, mtime (ns), inode, and ctime (ns), which is None if it does not count."""


@dataclass(frozen=True)
class Making:
    """What the process that runs a stage has to know to finish its outputs.

    Attributes
    ----------
    stage : str
        The name of the stage, for messages.
    store : Path
        The root of the store.
    scratch : Path or None
        A directory for copies, on the file system of the workspace's cache; None if no copies are needed.
    inputs : mapping
        Path of each local file that the stage reads -> the state that it must have before and after; None if it must
        not exist.
    placed : mapping
        Name -> digest of outputs that are in place, of which no copy is needed.
    lock : Path or None
        The lock of the checkpoints, held while the stage runs by the process that writes them: it ends with it.
    is_elsewhere : bool
        Whether another machine may have changed the inputs, so that cached attributes are not used.
    contents : mapping
        Path of each local file that the stage reads -> its digest and size, for a machine that cannot see the file.
    """

    stage: str
    store: Path
    scratch: Path | None
    inputs: Mapping[str, Seen | None] = field(default_factory=dict)
    placed: Mapping[str, str] = field(default_factory=dict)
    lock: Path | None = None
    is_elsewhere: bool = False
    contents: Mapping[str, tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class File:
    """An output: its digest, its size in bytes, a copy for the workspace if one was made, and whether the store has it.

    `is_linked` tells whether the copy is a hard link.
    """

    digest: str
    size: int
    copy: Path | None = None
    is_linked: bool = False
    is_held: bool = False


@dataclass(frozen=True)
class Made:
    """What a stage has made.

    Attributes
    ----------
    result
        What its function returned.
    files : mapping
        Name -> output.
    folder : Path
        The directory with the outputs.
    changed : tuple of str
        Inputs whose state before or after differs from the expected one; then there are no files.
    host : str
        The machine on which it ran.
    seconds : float
        Duration of the function.
    packages : mapping
        The recorded packages of the process.
    is_durable : bool
        Whether the files have reached the disk.
    """

    result: Any
    files: Mapping[str, File]
    folder: Path
    changed: tuple[str, ...]
    host: str
    seconds: float
    packages: Mapping[str, str]
    is_durable: bool

    def copies(self) -> Iterable[Path]:
        """Yield the copies for the workspace."""
        return (file.copy for file in self.files.values() if file.copy is not None)


def make(making: Making, outputs: Path, function: Callable[[], Any], note: Callable[[str], None]) -> Made:
    """Call `function`, which writes into the directory `outputs`, and finish what it has written.

    Raises
    ------
    StageError
        It wrote something that is not a plain file.
    """
    changed = _changed(making)
    result, seconds, files, is_durable = None, 0.0, dict[str, File](), False
    if not changed:
        with _alone(making.lock, note):
            began = time.monotonic()
            result = function()
            seconds = time.monotonic() - began
        changed = _changed(making)
    if not changed:
        paths = sorted(outputs.iterdir())
        for path in paths:
            if not path.is_file() or path.is_symlink():
                raise StageError(f"the stage {making.stage} wrote {path.name}, which is not a plain file")
        store = Store(making.store)
        try:
            for path in paths:
                files[path.name] = _finished(path, making, store)
            if is_durable := making.is_elsewhere or seconds >= DEAR_S:
                sync_all(paths)
        except BaseException:
            for file in files.values():
                if file.copy is not None:
                    file.copy.unlink(missing_ok=True)
            raise
    return Made(result, files, outputs, changed, socket.gethostname(), seconds, versions(), is_durable)


def _finished(path: Path, making: Making, store: Store) -> File:
    """Hash an output, protect it, and copy it for the workspace."""
    with path.open("rb", buffering=0) as file:
        value = hash_open(file.fileno())
        size = os.fstat(file.fileno()).st_size
        path.chmod(0o444)
        copy, is_linked = None, False
        if making.scratch is not None and making.placed.get(path.name) != value:
            copy, is_linked = _copied(path, file.fileno(), making.scratch)
    return File(value, size, copy, is_linked, store.holds(value, size))


def _copied(path: Path, file: int, scratch: Path) -> tuple[Path | None, bool]:
    """Copy an open output; None if that fails: it is stored anyway, and putting it in place reports the error."""
    copy = scratch / uuid.uuid4().hex
    try:
        return copy, materialize(path, file, copy)
    except OSError:
        copy.unlink(missing_ok=True)
        return None, False


@contextlib.contextmanager
def _alone(lock: Path | None, note: Callable[[str], None]) -> Any:
    """Hold the lock of the checkpoints, if there are any, and wait for another process that still writes them."""
    if lock is None:
        yield
        return
    calls = 0

    def wait() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            note("waiting for another process that still writes these checkpoints …")

    with held(lock, wait=wait):
        yield


def _changed(making: Making) -> tuple[str, ...]:
    """Return the inputs that do not have their expected state."""
    look = _fresh_signature if making.is_elsewhere else signature
    return tuple(path for path, seen in making.inputs.items() if not _is_same(seen, look(path)))


def _is_same(seen: Seen | None, now: Signature | None) -> bool:
    if seen is None or now is None:
        return seen is None and now is None
    *state, ctime_ns = seen
    return state == [now.size, now.mtime_ns, now.inode] and ctime_ns in (None, now.ctime_ns)


def _fresh_signature(path: str) -> Signature | None:
    """Return the signature of a file after opening it: a client of a file server then asks for its attributes."""
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    return signature(path)
