"""The gate for all paths that come from data: plain names, inside a directory, without symbolic links on the way.

Records, databases, leases, indexes and remote stores name files, and are not trusted: a name must be a single path
component, and a path must consist of plain names. Directories are opened one inside the other, refusing symbolic links;
a file is then used relative to its open directory, so that nothing can be swapped in between. The root directory may be
a link itself, created by the user. Only the standard library is used here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from rvbuild.errors import StoreError

_MOST_BYTES = 255
_BLOCK = 1 << 20
#: Matches most paths that consist of plain names, in less time than a look at each name.
_SIMPLE = re.compile(r"\w[\w.%+~-]*(?:/\w[\w.%+~-]*)*", re.ASCII).fullmatch
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def is_plain(name: Any) -> TypeGuard[str]:
    r"""Tell whether `name` is a plain file name: a single path component that stays in its directory.

    >>> [is_plain(name) for name in ("labels.tif", "..", "a/b", "a\\b", "", 1)]
    [True, False, False, False, False, False]
    """
    if not isinstance(name, str) or name in ("", ".", "..") or not {"/", "\\", "\0"}.isdisjoint(name):
        return False
    return len(name.encode("utf-8", "surrogatepass")) <= _MOST_BYTES


def is_path(path: Any) -> TypeGuard[str]:
    """Tell whether `path` consists of plain names separated by slashes.

    >>> is_path("cache/p/chip/index.json"), is_path("cache/../x"), is_path("/etc/passwd"), is_path("a//b")
    (True, False, False, False)
    """
    if not isinstance(path, str):
        return False
    return (_SIMPLE(path) is not None and len(path) <= _MOST_BYTES) or all(map(is_plain, path.split("/")))


@contextlib.contextmanager
def folder(root: Path, path: str, *, make: bool = False) -> Iterator[int]:
    """Open the directory at `path` below `root`; everything that is opened is closed at the end.

    Parameters
    ----------
    root : Path
        An existing directory, or a link to one.
    path : str
        Plain names with slashes between them; empty for `root` itself.
    make : bool
        Whether to create missing directories.

    Raises
    ------
    StoreError
        The path is not plain, or a part of it is a symbolic link or not a directory.
    FileNotFoundError
        The directory does not exist.
    """
    names = path.split("/") if path else []
    if path and not is_path(path):
        raise StoreError(f"{path!r} is not a path inside {root}: it was not used")
    handle = os.open(root, _FOLDER)
    try:
        for i, name in enumerate(names):
            try:
                try:
                    inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
                except FileNotFoundError:
                    if not make:
                        raise
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=handle)
                    inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                raise StoreError(_in_the_way(root.joinpath(*names[: i + 1]))) from None
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def _in_the_way(path: Path) -> str:
    if path.is_symlink():
        return (
            f"{path}: is a symbolic link; rvbuild writes and removes nothing behind symbolic links. Remove the link "
            "(only cache/ as a whole may be one; RVBUILD_STORE can move the store)"
        )
    return f"{path}: is not a directory, but should be one; remove it"


def stat_file(root: Path, path: str) -> os.stat_result | None:
    """Return the stat of the plain file at `path` below `root`, or None if there is none."""
    if not is_path(path):
        return None
    parent, _, name = path.rpartition("/")
    try:
        with folder(root, parent) as handle:
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
    except (FileNotFoundError, StoreError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


@contextlib.contextmanager
def reading(root: Path, path: str) -> Iterator[int]:
    """Open the plain file at `path` below `root` for reading.

    Raises
    ------
    FileNotFoundError
        There is no plain file.
    StoreError
        Its directory cannot be opened; see `folder`.
    """
    parent, name = _split(root, path)
    with folder(root, parent) as handle:
        try:
            # Without blocking: it might be a pipe.
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=handle)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            raise FileNotFoundError(errno.ENOENT, "is not a plain file", str(root / path)) from None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise FileNotFoundError(errno.ENOENT, "is not a plain file", str(root / path))
        yield file
    finally:
        os.close(file)


def read(root: Path, path: str, most: int | None = None) -> bytes:
    """Return the content of the plain file at `path` below `root`; see `reading`.

    Raises
    ------
    ValueError
        It has more than `most` bytes.
    """
    with reading(root, path) as file:
        size = os.fstat(file).st_size
        if most is not None and size > most:
            raise ValueError(f"{root / path}: has {size:,} bytes, expected at most {most:,}")
        with os.fdopen(os.dup(file), "rb") as stream:
            return stream.read(size if most is None else most + 1)


def create(path: Path) -> int:
    """Return the new file at `path`, which must not exist, open for writing."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def copy_open(file: int, target: Path) -> None:
    """Copy an open file, from its beginning, to `target`, which must not exist."""
    new = create(target)
    try:
        copy_into(file, new)
    finally:
        os.close(new)


def copy_into(file: int, new: int) -> None:
    """Copy an open file, from its beginning, to another."""
    place = 0
    while block := os.pread(file, _BLOCK, place):
        place += len(block)
        write_all(new, block)


def write_all(file: int, content: bytes) -> None:
    """Write `content` to an open file."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


def move(source: Path, root: Path, path: str) -> os.stat_result:
    """Move the file `source`, in our own directory, to `path` below `root`, replacing any file there; return its stat.

    Raises
    ------
    FileNotFoundError
        There is no such file, or somebody removed it at once.
    """
    parent, name = _split(root, path)
    with folder(root, parent, make=True) as handle:
        os.replace(source, name, dst_dir_fd=handle)
        return os.stat(name, dir_fd=handle, follow_symlinks=False)


def make_way(root: Path, path: str, aside: Path) -> bool:
    """Move an obstacle to writing a file at `path` below `root` into `aside`; return whether there was one.

    An obstacle is a directory in place of the file, or a file in place of one of its directories. Symbolic links
    were created on purpose and are not moved.
    """
    names = path.split("/")
    for i, name in enumerate(names):
        try:
            with folder(root, "/".join(names[:i])) as handle:
                mode = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
                if stat.S_ISLNK(mode) or stat.S_ISDIR(mode) == (i < len(names) - 1):
                    continue
                os.replace(name, aside / uuid.uuid4().hex, src_dir_fd=handle)
                return True
        except (FileNotFoundError, StoreError):
            return False
    return False


def write(root: Path, path: str, content: bytes) -> None:
    """Write the small file at `path` below `root` atomically, replacing any file there."""
    parent, name = _split(root, path)
    temporary = f".{uuid.uuid4().hex}.tmp"
    with folder(root, parent, make=True) as handle:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(temporary, flags, 0o666, dir_fd=handle)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(content)
            os.replace(temporary, name, src_dir_fd=handle, dst_dir_fd=handle)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=handle)
            raise


def remove(root: Path, path: str, *, folders: bool = False) -> bool:
    """Remove the file or link at `path` below `root`; return whether it existed.

    With `folders`, also remove parent directories that are then empty, up to but excluding `root`.

    Raises
    ------
    StoreError
        Its directory cannot be opened; see `folder`.
    """
    parent, name = _split(root, path)
    existed = False
    with contextlib.suppress(FileNotFoundError), folder(root, parent) as handle:
        existed = True
        try:
            os.unlink(name, dir_fd=handle)
        except IsADirectoryError:
            raise StoreError(f"{root / path}: is a directory, but should be a file; remove it") from None
    while folders and parent:
        outer, _, inner = parent.rpartition("/")
        try:
            with folder(root, outer) as handle:
                os.rmdir(inner, dir_fd=handle)
        except FileNotFoundError:
            pass
        except OSError:
            break
        parent = outer
    return existed


def require_own(root: Path, folders: tuple[str, ...], files: tuple[str, ...]) -> None:
    """Raise an error if one of rvbuild's own names in a directory has an unexpected type.

    Parameters
    ----------
    root : Path
        The directory, or a link to it.
    folders, files : tuple of str
        Names in it that must be directories or plain files, respectively, if they exist.

    Raises
    ------
    StoreError
    """
    for name in folders:
        kind = _kind(root / name)
        if kind is not None and not stat.S_ISDIR(kind):
            raise StoreError(_in_the_way(root / name))
    for name in files:
        kind = _kind(root / name)
        if kind is not None and not stat.S_ISREG(kind):
            raise StoreError(f"{root / name}: is not a plain file (a link, a directory, a pipe?); remove it")


def _kind(path: Path) -> int | None:
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _split(root: Path, path: str) -> tuple[str, str]:
    parent, _, name = path.rpartition("/")
    if not is_path(path):
        raise StoreError(f"{path!r} is not a path inside {root}: it was not used")
    return parent, name
