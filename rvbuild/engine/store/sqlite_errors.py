"""Errors of SQLite: whether a database is damaged, or cannot be used now."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

_UNUSABLE = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_ABORT,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_MISUSE,
}
"""Errors for a file that cannot be used, as opposed to one that is damaged."""


@contextlib.contextmanager
def texts() -> Iterator[None]:
    """Report invalid text, and a value that claims to be larger than memory, like other damage."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise sqlite3.DatabaseError(f"not text: {error}") from None
    except MemoryError:
        raise sqlite3.DatabaseError("a value is larger than memory") from None


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether `error` means that the file is damaged or has another version, and is not just unusable now.

    A closed database is not damaged: a thread may use it while an interrupted run ends.
    """
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return False
    return code(error) not in _UNUSABLE


def code(error: sqlite3.Error) -> int:
    """Return the primary code of an error, its low byte; our own error about the version counts as corruption."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) & 0xFF
