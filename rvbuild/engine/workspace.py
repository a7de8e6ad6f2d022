"""A workspace: the directory that paths are relative to, and rvbuild's files in its `cache/`."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from rvbuild.engine.remote.read_through import ReadThrough
from rvbuild.engine.store import inside, locks, ownership
from rvbuild.engine.store.fingerprint import Fingerprints
from rvbuild.engine.store.leases import OwnLease
from rvbuild.engine.store.ownership import Standing
from rvbuild.engine.store.state import State
from rvbuild.engine.store.state_file import bring, state_file
from rvbuild.engine.store.store import Store
from rvbuild.errors import StoreError
from rvbuild.files.signing import user_key

#: rvbuild's own names in `cache/`, which projects cannot have.
_FOLDERS = ("tmp", "store", "log", "seals")
_FILES = ("state.db", "state.db-wal", "state.db-shm", "state.db-journal", "lock", ".gitignore")


class Workspace:
    """The workspace at `root` (an absolute path), with its state database and its store.

    `say` receives messages about the cache. The store is the directory named by RVBUILD_STORE (relative to `root`),
    which other workspaces may also use, or else one in the cache. RVBUILD_REMOTE names a remote store, from which
    earlier results are downloaded.
    """

    def __init__(self, root: Path, notify: Callable[[str], None] = lambda line: None) -> None:
        try:
            str(root).encode()
        except UnicodeEncodeError:  # the database stores paths as text
            raise StoreError(f"{root}: the name of the directory is not valid UTF-8; rename it") from None
        self.root = root
        self._inside = f"{root}/"  # what the path of a file in it begins with
        self.cache = root / "cache"
        shared = os.environ.get("RVBUILD_STORE", "")
        try:
            self.cache.mkdir(exist_ok=True)
            require_cache(self.cache)
            if shared:
                # Symbolic links of the user are not resolved.
                self.store = Store(Path(os.path.abspath(root / Path(shared).expanduser())))  # noqa: PTH100
            else:
                self.store = Store(self.cache / "store", user_key)
            with ownership.claiming(self.cache) as standing:
                if standing in (Standing.COPIED, Standing.STRANGE):
                    self._set_aside(standing, notify)
                database = state_file(self.cache)
                bring(self.cache, database)
                self.state = State(database, notify)
                if standing is Standing.COPIED:
                    ownership.keep_signed(self.state, self.store)
            (self.cache / "tmp").mkdir(exist_ok=True)
            self._ignore()
        except OSError as error:
            raise StoreError(f"{self.cache}: cannot write the cache: {error.strerror}; is it read-only?") from None
        try:
            self.store.prepare()
        except OSError as error:
            hint = (
                "is RVBUILD_STORE right? (use RVBUILD_REMOTE for a read-only store)" if shared else "is it read-only?"
            )
            raise StoreError(f"{self.store.root}: cannot write the store: {error.strerror}; {hint}") from None
        #: The lease that lists the results here for other users of the store, if there may be any.
        self.lease = OwnLease(self.store, root) if shared else None
        self.prints = Fingerprints(self.state)
        remote = os.environ.get("RVBUILD_REMOTE", "")
        self.read_through = ReadThrough(remote, root, self.store, notify) if remote else None

    def _ignore(self) -> None:
        if not (self.cache / ".gitignore").exists():
            inside.write(self.cache, ".gitignore", b"*\n!.gitignore\n!README.md\n")

    def _set_aside(self, standing: Standing, notify: Callable[[str], None]) -> None:
        aside, count = ownership.set_aside(self.cache, standing)
        if aside.exists():
            notify(
                f"{self.cache} was written by another user or by an earlier rvbuild and is not trusted: {count} "
                f"results in its store are built again (moved to {aside.name}/; if they are your own, `rvbuild cache "
                "adopt` restores them)"
            )

    def placed(self, shown: str) -> str:
        """Return the path of an output, `shown` at a path relative to the workspace, in the cache.

        Raises
        ------
        StoreError
            It is not a valid place for outputs.
        """
        if not is_output_path(shown):
            raise StoreError(
                f"{shown!r} is not a valid place for an output in {self.cache}: nothing is written or removed there"
            )
        return shown.partition("/")[2]

    def close(self) -> None:
        """Close the state database and the store."""
        self.state.close()
        self.store.close()

    def show(self, path: Path | str) -> str:
        """Return `path` relative to the workspace if it is inside, for messages."""
        if isinstance(path, Path):  # of thousands of sources
            text = str(path)
            if text.startswith(self._inside):
                return text.removeprefix(self._inside)
        with contextlib.suppress(ValueError):
            return str(Path(path).relative_to(self.root))
        return str(path)

    def sweep(self) -> None:
        """Remove leftovers of killed runs, and renew the lease; call it while the workspace is locked."""
        self.store.sweep()
        self.renew_lease()
        for left in (self.cache / "tmp").iterdir():
            self.store.release(left)

    def renew_lease(self) -> None:
        """Update the lease, if there is one; call it while the workspace is locked."""
        if self.lease is not None:
            self.lease.renew(self.state.records())


def is_output_path(shown: str) -> bool:
    """Tell whether `shown`, relative to a workspace, is a valid path of an output: in its own folder of `cache/`.

    >>> is_output_path("cache/p/chip/index.json"), is_output_path("cache/p/../../x"), is_output_path("cache/tmp/x")
    (True, False, False)
    """
    top, _, rest = shown.partition("/")
    project = rest.partition("/")[0]
    return top == "cache" and "/" in rest and inside.is_path(rest) and project not in _FOLDERS and project[0] != "."


def require_cache(cache: Path) -> None:
    """Raise an error if the existing directory `cache` cannot be used as a cache.

    Raises
    ------
    StoreError
        It is a link to a directory with other content, or one of rvbuild's own names in it has an unexpected type.
    """
    if cache.is_symlink() and not (cache / ownership.PLACE).exists():
        others = [path.name for path in cache.iterdir() if path.name not in (*_FOLDERS, *_FILES, "README.md")]
        if others:
            raise StoreError(
                f"{cache}: is a symbolic link to {cache.resolve()}, which holds {others[0]!r} and is not a cache of "
                "rvbuild; expected an empty directory; link to another one, or remove the link"
            )
    inside.require_own(cache, _FOLDERS, _FILES)


@contextlib.contextmanager
def locked(root: Path, notify: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of the workspace at `root`, waiting for other runs; it ends with the process."""
    path = root / "cache" / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        require_cache(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: cannot lock: {os.strerror(error.errno or 0)}") from None
    note = functools.cache(lambda: notify(f"waiting for another rvbuild process in {root} …"))
    with locks.held(path, wait=note):
        yield
