"""Reading without side effects: nothing is written to users' files or beside them.

SQLite, in which GeoPackages are kept, repairs and tidies a database whenever it is opened; so one that a program has
left in disorder, or has open, is read from a private copy. GDAL's other habits are turned off by options.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rvbuild.errors import DataError
from rvbuild.files.urls import Url
from rvbuild.files.zipped import Zipped

JOURNALS = ("-wal", "-journal")
"""Files beside an SQLite database with data that are not in it yet, or not any more."""

_MAGIC = b"SQLite format 3\0"
_GML = b"opengis.net/gml"
_TRIES = 3


@contextlib.contextmanager
def undisturbed(path: Path) -> Iterator[Path]:
    """Yield the path to open for a file: the file itself, or a private copy that exists until the block ends.

    Raises
    ------
    DataError
        The file is a database that cannot be copied or repaired.
    """
    if isinstance(path, Url | Zipped) or not _in_disorder(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="rvbuild-") as place:
        copy = Path(place, path.name)
        try:
            _copy(path, copy)
            _tidy(copy)
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"{path}: cannot be read as a database: {error}") from error
        yield copy


def options(path: Path) -> dict[str, str]:
    """Return options with which GDAL opens a vector file without writing, and without asking a server for a schema."""
    if isinstance(path, Url):
        return {}
    try:
        with path.open("rb") as file:
            beginning = file.read(4096)
    except OSError:
        return {}
    if _GML not in beginning:
        return {}
    # GDAL only uses a template beside the file if it is newer than the file, which does not depend on the content.
    template = path.with_suffix(".gfs")
    named = {"GFS_TEMPLATE": str(template)} if template.is_file() else {}
    return {"WRITE_GFS": "NO", "DOWNLOAD_SCHEMA": "NO", **named}


def _in_disorder(path: Path) -> bool:
    """Tell whether SQLite would write when this file is opened."""
    try:
        with path.open("rb") as file:
            header = file.read(20)
    except OSError:
        return False
    if not header.startswith(_MAGIC):
        return False
    # Bytes 18 and 19 are the file format version: 2 means a write-ahead log, which is created even for reading.
    return 2 in header[18:20] or any(_size(journal) for journal in _journals(path))


def _journals(path: Path) -> list[Path]:
    return [path.with_name(path.name + ending) for ending in JOURNALS]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _copy(path: Path, to: Path) -> None:
    """Copy a database with its journals, once more if a program changed it meanwhile."""
    for _ in range(_TRIES):
        before = _states(path)
        for file in (path, *_journals(path)):
            there = to.with_name(to.name + file.name.removeprefix(path.name))
            there.unlink(missing_ok=True)
            if file.is_file():
                shutil.copyfile(file, there)
        if _states(path) == before:
            return


def _states(path: Path) -> list[tuple[int, int, int] | None]:
    states: list[tuple[int, int, int] | None] = []
    for file in (path, *_journals(path)):
        try:
            state = file.stat()
        except FileNotFoundError:
            states.append(None)
        else:
            states.append((state.st_size, state.st_mtime_ns, state.st_ino))
    return states


def _tidy(copy: Path) -> None:
    """Let SQLite put a copy in order, so that it is one file."""
    with contextlib.closing(sqlite3.connect(copy)) as database:
        database.execute("pragma journal_mode = delete").fetchall()
        database.execute("select count(*) from sqlite_master").fetchall()
