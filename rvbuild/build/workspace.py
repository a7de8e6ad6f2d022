"""A workspace: the directory that paths are relative to, and what rvbuild keeps under its `cache/`."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from rvbuild.build.elsewhere import Elsewhere
from rvbuild.build.fingerprint import Fingerprints
from rvbuild.build.leases import OwnLease
from rvbuild.build.state import State
from rvbuild.build.store import Store
from rvbuild.errors import StoreError


class Workspace:
    """Opens the state database and the store of the workspace at `root` (absolute).

    `say` receives a line for the user when something about the cache is worth telling. The store is the directory that
    the environment variable RVBUILD_STORE names (relative to `root`), which other workspaces may use as well, or else
    one in the cache. RVBUILD_REMOTE names a store elsewhere, from which earlier results are taken.
    """

    def __init__(self, root: Path, say: Callable[[str], None] = lambda line: None) -> None:
        self.root = root
        self.cache = root / "cache"
        shared = os.environ.get("RVBUILD_STORE", "")
        self.store = Store(Path(os.path.abspath(root / Path(shared).expanduser())) if shared else self.cache / "store")  # noqa: PTH100 - keeps symbolic links as the user named them
        try:
            self.state = State(self.cache / "state.db", say)
            (self.cache / "tmp").mkdir(exist_ok=True)
            self._ignore()
        except OSError as error:
            raise StoreError(f"{self.cache}: cannot write the cache: {error.strerror}; is it read-only?") from None
        try:
            self.store.prepare()
        except OSError as error:
            hint = (
                "is RVBUILD_STORE right? (RVBUILD_REMOTE names one to be only read)" if shared else "is it read-only?"
            )
            raise StoreError(f"{self.store.root}: cannot write the store: {error.strerror}; {hint}") from None
        #: What the others that use the store are told of what is shown here, if there may be others.
        self.lease = OwnLease(self.store, root) if shared else None
        self.prints = Fingerprints(self.state)
        remote = os.environ.get("RVBUILD_REMOTE", "")
        self.elsewhere = Elsewhere(remote, root, self.store, say) if remote else None

    def _ignore(self) -> None:
        ignore = self.cache / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n!.gitignore\n!README.md\n")

    def close(self) -> None:
        """Close the state database and the store."""
        self.state.close()
        self.store.close()

    def show(self, path: Path | str) -> str:
        """Return `path` relative to the workspace if it is inside, for people."""
        with contextlib.suppress(ValueError):
            return str(Path(path).relative_to(self.root))
        return str(path)

    def sweep(self) -> None:
        """Remove what killed runs left behind, and renew the lease; call it while the workspace is locked."""
        self.store.sweep()
        self.renew_lease()
        for left in (self.cache / "tmp").iterdir():
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)

    def renew_lease(self) -> None:
        """Have the lease, if there is one, say what is shown; call it while the workspace is locked."""
        if self.lease is not None:
            self.lease.renew(self.state.records())


@contextlib.contextmanager
def locked(root: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of the workspace at `root`, waiting for another run; it dies with the process."""
    from filelock import FileLock, Timeout

    path = root / "cache" / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"waiting for another rvbuild that works in {root} …")
            lock.acquire()
    except OSError as error:
        raise StoreError(f"{path}: cannot lock the workspace: {os.strerror(error.errno or 0)}") from None
    try:
        yield
    finally:
        lock.release()
