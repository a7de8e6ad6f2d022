"""File access of a remote store: a directory, or any address that fsspec supports.

Errors that may be transient are retried a few times. In a directory, files appear atomically: by a rename, or, if the
file must not exist yet, by a hard link. Buckets are asked to write only if there is no such file (`If-None-Match`, or
its equivalent); for a backend without that feature, existence is checked first, which leaves a moment in which two
writers may both find nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rvbuild.engine.store.action import MOST_RECORD_BYTES
from rvbuild.errors import StoreError, UsageError
from rvbuild.process.threads import LateError, within

#: Pauses before retries.
PAUSES_S = (0.1, 0.5, 2.0)
#: Errors that are not retried.
_FINAL = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, ImportError, TypeError, ValueError)
_FINAL_NUMBERS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.ENAMETOOLONG)
_FINAL_NAMES = ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError")
#: File systems of buckets, which have no directories to make.
_BUCKETS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "tos", "r2"}
#: Errors of servers without conditional writes.
_NO_CONDITIONS = (errno.ENOSYS, errno.EINVAL)
#: Errors of a file system without hard links.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)

#: Time limits of a response, of the list of a large store, and for each byte that is sent or received.
_LIMIT_S = 120.0
_LIST_LIMIT_S = 600.0
_SLOWEST_BYTES_S = 50_000

_T = TypeVar("_T")


class _LargerError(ValueError):
    """A file is larger than expected."""


def _bound(most: int) -> Any:
    """Return a callback that counts received bytes, and aborts a transfer of more than `most`."""
    from fsspec.callbacks import Callback  # imported late: only needed with a remote store

    class Bound(Callback):  # type: ignore[misc]  # fsspec has no types
        def set_size(self, size: int | None) -> None:
            if size is not None and size > most:
                raise _LargerError(f"{size} bytes")
            super().set_size(size)

        def relative_update(self, inc: int = 1) -> None:
            super().relative_update(inc)
            if self.value > most:
                raise _LargerError(f"{self.value} bytes")

    return Bound()


class Backend:
    """The files below `url`: an address such as `s3://bucket/rvbuild`, or a directory (relative to `base`).

    Raises
    ------
    UsageError
        The address is of an unknown kind, or needs a package that is not installed.
    """

    def __init__(self, url: str, base: Path | None = None, pauses_s: Sequence[float] = PAUSES_S) -> None:
        from fsspec.core import url_to_fs

        self.url = url
        place = url if "://" in url or "::" in url else str((base or Path.cwd()) / Path(url).expanduser())
        try:
            self._fs, root = url_to_fs(place, **impatience(place))
        except ImportError as error:
            kind = url.partition("://")[0]
            extra = "; `pip install 'rvbuild[s3]'`" if kind in ("s3", "s3a") else ""
            raise UsageError(
                f"{url}: {kind}:// addresses need a package that is not installed: {error}{extra}"
            ) from None
        except ValueError as error:
            raise UsageError(f"{url}: not the address of a store: {error}") from None
        if hasattr(self._fs, "retries"):
            self._fs.retries = 1  # see `impatience`
        self._root = str(root).rstrip("/")
        kinds = {self._fs.protocol} if isinstance(self._fs.protocol, str) else set(self._fs.protocol)
        self._local = "file" in kinds
        self._flat = bool(kinds & _BUCKETS)
        self._pauses_s = tuple(pauses_s)
        self._made: set[str] = set()
        self._lock = threading.Lock()

    def is_missing(self) -> bool:
        """Tell whether this is a directory that does not exist; any other address can receive its first file."""
        return self._local and not self._fs.isdir(self._root)

    @contextlib.contextmanager
    def errors(self, verb: str) -> Iterator[None]:
        """Turn any error inside the block into a message that begins "cannot `verb` the store".

        Raises
        ------
        StoreError
        """
        try:
            yield
        except (UsageError, StoreError):
            raise
        except Exception as error:  # every file system has its own errors
            message = str(error) or type(error).__name__
            raise StoreError(
                f"{self.url}: cannot {verb} the store: {message}; is it reachable and are you allowed to?"
            ) from None

    def _patiently(self, function: Callable[..., _T], *args: Any, limit_s: float = _LIMIT_S) -> _T:
        """Call `function`, and retry after a pause if it fails for a transient reason; each call has a time limit."""
        for pause_s in self._pauses_s:
            try:
                return within(limit_s, function, *args)
            except Exception as error:  # every file system has its own errors
                if _is_final(error):
                    raise
                time.sleep(pause_s * random.uniform(0.5, 1.5))
        return within(limit_s, function, *args)

    # -- reading ------------------------------------------------------------------------------------------------------

    def sizes(self, folder: str) -> dict[str, int]:
        """Return path -> size of all files below `folder`, relative to it; none if there is no such folder."""
        base = f"{self._root}/{folder}"
        self._fs.invalidate_cache()
        try:
            infos = self._patiently(lambda: self._fs.find(base, detail=True), limit_s=_LIST_LIMIT_S)
        except FileNotFoundError:
            return {}
        return {str(path).removeprefix(base).lstrip("/"): int(info["size"]) for path, info in infos.items()}

    def read(self, path: str, most: int = MOST_RECORD_BYTES) -> bytes | None:
        """Return the content of the file `path`, or None if there is none; only a part if it exceeds `most` bytes."""
        place = f"{self._root}/{path}"
        if not self._may_open(place):
            return None
        try:
            return bytes(self._patiently(self._cat, place, most + 1))
        except FileNotFoundError:
            return None

    def _cat(self, place: str, most: int) -> bytes:
        try:
            return bytes(self._fs.cat_file(place, start=0, end=most))
        except (OSError, ValueError) as error:
            # An empty file has no range to request.
            if isinstance(error, _FINAL) or self._local or self._fs.size(place) != 0:
                raise
            return b""

    def size(self, path: str) -> int | None:
        """Return the size of the file `path` in bytes, or None if there is none."""
        self._fs.invalidate_cache()
        try:
            return int(self._patiently(self._fs.info, f"{self._root}/{path}")["size"])
        except FileNotFoundError:
            return None

    def fetch(self, path: str, target: Path, size: int) -> bool:
        """Copy the file `path` of `size` bytes to `target`; return whether it exists.

        If it turns out to be larger, the copy is incomplete.
        """
        place = f"{self._root}/{path}"
        if not self._may_open(place, size):
            return False
        try:
            self._patiently(
                lambda: self._fs.get_file(place, str(target), callback=_bound(size)), limit_s=_transfer_limit_s(size)
            )
        except (FileNotFoundError, _LargerError):
            return False
        return True

    def _may_open(self, place: str, most: int | None = None) -> bool:
        """Tell whether a local file is a plain file of at most this many bytes: opening a pipe might block for ever."""
        if not self._local:
            return True
        try:
            status = os.stat(place)  # noqa: PTH116 - paths of fsspec
        except OSError:
            return True  # reported when it is opened
        return stat.S_ISREG(status.st_mode) and (most is None or status.st_size <= most)

    # -- writing ------------------------------------------------------------------------------------------------------

    def send(self, source: Path, path: str) -> None:
        """Copy the file `source` to `path`, replacing any file there."""
        limit_s = _transfer_limit_s(source.stat().st_size)
        self._patiently(self._send, source, f"{self._root}/{path}", limit_s=limit_s)

    def replace(self, path: str, text: bytes) -> None:
        """Write the small file `path`, replacing any file there."""
        self._patiently(self._replace, f"{self._root}/{path}", text)

    def remove(self, path: str) -> None:
        """Remove the file `path`, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            self._patiently(self._fs.rm_file, f"{self._root}/{path}")

    def create(self, path: str, text: bytes) -> bool:
        """Write the small file `path` unless it exists; return whether it was written.

        False may also mean that it was written just now and the response was lost: check the content.
        """
        return self._patiently(self._create, f"{self._root}/{path}", text)

    def _send(self, source: Path, target: str) -> None:
        self._make_folder_of(target)
        if self._local:
            with _temporary_for(target) as temporary:
                self._fs.put_file(str(source), temporary)
                os.replace(temporary, target)  # noqa: PTH105 - paths of fsspec
        else:
            self._fs.put_file(str(source), target)

    def _replace(self, target: str, text: bytes) -> None:
        self._make_folder_of(target)
        if self._local:
            with _temporary_for(target) as temporary:
                Path(temporary).write_bytes(text)
                os.replace(temporary, target)  # noqa: PTH105 - paths of fsspec
        else:
            self._fs.pipe_file(target, text)

    def _create(self, target: str, text: bytes) -> bool:
        self._make_folder_of(target)
        if self._local:
            return self._link(target, text)
        try:
            self._fs.pipe_file(target, text, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_CONDITIONS:
                raise
            if self._fs.exists(target):
                return False
            self._fs.pipe_file(target, text)
        return True

    def _link(self, target: str, text: bytes) -> bool:
        with _temporary_for(target) as temporary:
            Path(temporary).write_bytes(text)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if os.path.lexists(target):
                    return False
                os.replace(temporary, target)  # noqa: PTH105 - paths of fsspec
        return True

    def _make_folder_of(self, target: str) -> None:
        folder = target.rpartition("/")[0]
        with self._lock:
            if folder not in self._made and not self._flat:
                self._fs.makedirs(folder, exist_ok=True)
                self._made.add(folder)


@contextlib.contextmanager
def _temporary_for(target: str) -> Iterator[str]:
    """Yield a new path in the directory of `target`; a file that is left there is removed."""
    temporary = f"{target.rpartition('/')[0]}/.{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
    finally:
        Path(temporary).unlink(missing_ok=True)


def impatience(place: str) -> dict[str, Any]:
    """Return settings that make the file system of an S3 bucket fail soon if its server does not respond.

    It would otherwise wait for six minutes, since it and the library below both try five times; we retry ourselves.
    """
    if not place.lower().startswith(("s3://", "s3a://")):
        return {}
    from fsspec.config import conf

    ours = {"connect_timeout": 10, "read_timeout": 20, "retries": {"max_attempts": 0}}
    return {"config_kwargs": {**ours, **conf.get("s3", {}).get("config_kwargs", {})}}


def _transfer_limit_s(size: int) -> float:
    return _LIMIT_S + size / _SLOWEST_BYTES_S


def _is_final(error: Exception) -> bool:
    """Tell whether a retry would fail in the same way."""
    if isinstance(error, (LateError, *_FINAL)) or type(error).__name__ in _FINAL_NAMES:
        return True
    return isinstance(error, OSError) and error.errno in _FINAL_NUMBERS
