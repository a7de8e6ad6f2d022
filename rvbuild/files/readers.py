"""The boundary of all that reads files which others made: whatever goes wrong in there is a message about the file.

Libraries that read strangers' files raise what they like, and some end the process. Who calls them does it inside of
`reading`, which turns every exception into a `DataError` that names the file, and notes which files are being read, so
that whoever watches this process (see `rvbuild.engine.run.watched`) can say which one it died of.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rvbuild.errors import DataError, RvbuildError

_active: dict[int, str] = {}
_numbers = itertools.count()
_tell: Callable[[Sequence[str]], None] | None = None


def watch(tell: Callable[[Sequence[str]], None] | None) -> None:
    """Let `tell` have the files that are being read, whenever these change; threads call it, too."""
    global _tell
    _tell = tell


@contextlib.contextmanager
def reading(path: Path | str, how: str) -> Iterator[None]:
    """Read a file in here.

    Parameters
    ----------
    path
        The file.
    how
        As what it is read, or from where, for the message: `as a raster`, `from the zip`.

    Raises
    ------
    DataError
        Instead of whatever else is raised in here, but errors for the user, and what ends the process.
    """
    number = next(_numbers)
    _active[number] = str(path)
    if _tell is not None:
        _tell([*_active.values()])
    try:
        yield
    except RvbuildError:
        raise
    except Exception as error:
        raise DataError(f"{path}: cannot be read {how}: {reason(error)}") from error
    finally:
        del _active[number]
        if _tell is not None:
            _tell([*_active.values()])


_NUMBER = "Exceeds the limit"
"""How Python begins its message about a number of thousands of digits."""


def reason(error: BaseException) -> str:
    """Return what an exception says, for people.

    >>> reason(KeyError("bbox")), reason(RecursionError()), reason(FileNotFoundError(2, "No such file or directory"))
    ("KeyError: 'bbox'", 'it is nested too deeply', 'No such file or directory')
    """
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = str(error)
    if isinstance(error, ValueError) and said.startswith(_NUMBER):
        return "a number in it has too many digits"
    if said and not isinstance(error, _SPEECHLESS):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


_SPEECHLESS = (LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, NameError)
"""Exceptions whose text alone says nothing."""
