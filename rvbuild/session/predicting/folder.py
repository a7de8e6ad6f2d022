"""The directory of predictions: their records, the digests of files, and its lock, in `.rvbuild/`."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from rvbuild.engine.store import inside, locks
from rvbuild.engine.store.fingerprint import Fingerprints
from rvbuild.engine.store.state import State
from rvbuild.errors import StoreError

HIDDEN = ".rvbuild"
MANIFEST = "manifest.json"
RESERVED = frozenset({HIDDEN, MANIFEST})
"""Names in the directory that no result can have."""


class Folder:
    """A directory of predictions.

    Attributes
    ----------
    root : Path
        The directory.
    own : Path
        The directory of rvbuild's own files: `.rvbuild` in it, or a temporary one for a dry run.
    state : State
        The records of predictions, and the digests of files.
    prints : Fingerprints
        The digests of files.
    """

    def __init__(self, root: Path, own: Path, notify: Callable[[str], None]) -> None:
        self.root, self.own = root, own
        self.state = State(own / "state.db", notify)
        self.prints = Fingerprints(self.state)

    def staging(self) -> Path:
        """Return a new empty directory on the file system of the results."""
        return Path(tempfile.mkdtemp(dir=self.own / "tmp"))

    def show(self, path: Path | str) -> str:
        """Return a path relative to the directory if it is inside, for messages."""
        with contextlib.suppress(ValueError):
            return str(Path(path).relative_to(self.root))
        return str(path)


@contextlib.contextmanager
def opened(root: Path, notify: Callable[[str], None], *, dry_run: bool = False) -> Iterator[Folder]:
    """Open a directory of predictions, which is created if needed, and hold its lock.

    Parameters
    ----------
    root
        The absolute path of the directory.
    notify
        Receives messages.
    dry_run
        Whether nothing is to be written: if the directory has no records yet, they are kept in memory of the system.

    Raises
    ------
    StoreError
        It cannot be written, or is something else.
    """
    own = root / HIDDEN
    with contextlib.ExitStack() as stack:
        if dry_run and not own.is_dir():
            own = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rvbuild-predict-")))
        try:
            (own / "tmp").mkdir(parents=True, exist_ok=True)
            inside.require_own(own, ("tmp", "log"), ("lock", "state.db", "state.db-wal", "state.db-shm"))
        except OSError as error:
            raise StoreError(f"{root}: cannot write predictions there: {error.strerror}") from None
        note = functools.cache(lambda: notify(f"waiting for another rvbuild process that predicts into {root} …"))
        stack.enter_context(locks.held(own / "lock", wait=note))
        if not dry_run:
            for left in (own / "tmp").iterdir():  # of a killed run
                shutil.rmtree(left, ignore_errors=True)
        folder = Folder(root, own, notify)
        stack.callback(folder.state.close)
        yield folder
