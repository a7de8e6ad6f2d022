"""Files inside zips as paths: they are read in place, without unpacking."""

from __future__ import annotations

import functools
import io
import os
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path, PosixPath, PurePosixPath
from typing import Any, Self

from rvbuild.errors import DataError
from rvbuild.files.readers import reading

MOST_BYTES = 1 << 30
"""Maximum size of a file that is read from a zip: a few bytes in a zip can expand to any size."""

MOST_MEMBERS = 2_000_000
"""Maximum number of files in a zip; each takes a few hundred bytes of memory."""


class Zipped(PosixPath):
    """A file inside a zip, usable where a path is expected.

    Its text, `name`, `stem` and `suffix` are those of the zip's path followed by the member's. It can be opened to read
    it as a whole; no other method that accesses the file system is meaningful.
    """

    _archive: Path
    _member: str

    def __new__(cls, archive: Path, member: str) -> Self:
        """Create a path of a member of a zip from its name in the zip."""
        self = super().__new__(cls, archive, member)
        self._archive, self._member = archive, member
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (Zipped, (self._archive, self._member))

    def open(self, mode: str = "r", *_: Any, encoding: str | None = None, **__: Any) -> Any:
        """Open the file for reading; the whole file is read.

        Raises
        ------
        DataError
            The zip is damaged or has a password, or the file is larger than `MOST_BYTES`.
        """
        if set(mode) - set("rbt"):
            raise OSError(f"{self}: a file in a zip cannot be written")
        with reading(self, "from the zip"):
            archive = _opened(*_state(self._archive))
            size = archive.getinfo(self._member).file_size
            if size > MOST_BYTES:
                raise DataError(
                    f"{self}: would be {size / 1e9:.1f} GB, more than the limit of {MOST_BYTES / 1e9:.1f} GB for a "
                    "file in a zip; unpack the zip, and give the folder instead"
                )
            stream = io.BytesIO(archive.read(self._member))
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding=encoding)


def is_zip(path: Path) -> bool:
    """Tell whether a path has the suffix of a zip."""
    return path.suffix.lower() == ".zip"


def members(archive: Path) -> tuple[str, ...]:
    """Return the names of the files in a zip, sorted, without hidden files and those that macOS adds.

    Raises
    ------
    DataError
        The file does not exist or is not a zip, or a name points outside of it or is not a valid file name.
    """
    with reading(archive, "as a zip"):
        return _members(*_state(archive))


def root_of(names: Sequence[str], wanted: Collection[str]) -> str:
    """Return the prefix of the wanted folders: empty, or, if their parent folder was zipped, its name and a slash.

    >>> root_of(["chips/train/a.png", "chips/valid/b.png"], ["train", "valid"]), root_of(["train/a.png"], ["train"])
    ('chips/', '')
    """
    tops = {name.partition("/")[0] for name in names if "/" in name}
    return f"{tops.pop()}/" if len(tops) == 1 and tops.isdisjoint(wanted) else ""


def _state(archive: Path) -> tuple[str, int, int]:
    """Return the cache key of a zip, which changes when the zip does."""
    status = archive.stat()
    return os.fspath(archive), status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=8)
def _opened(archive: str, _mtime_ns: int, _size: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(archive)


@functools.lru_cache(maxsize=64)
def _members(archive: str, _mtime_ns: int, _size: int) -> tuple[str, ...]:
    with zipfile.ZipFile(archive) as file:
        names = [item.filename for item in file.infolist() if not item.filename.endswith("/")]
    if len(names) > MOST_MEMBERS:
        raise DataError(f"{archive}: has {len(names):,} files, more than {MOST_MEMBERS:,}; split it into several zips")
    visible = []
    for name in names:
        parts = PurePosixPath(name).parts
        if ".." in parts or name.startswith("/"):
            raise DataError(f"{archive}: the name {name!r} points outside the zip; create the zip again")
        if not parts:
            raise DataError(f"{archive}: the name {name!r} is not a valid file name; create the zip again")
        if parts[0] != "__MACOSX" and not any(part.startswith(".") for part in parts):
            visible.append(name)
    return tuple(sorted(visible))
