"""The boundary around all readers of input files: turns any failure into a message about the file.

Libraries that read untrusted files raise all kinds of exceptions, and some end the process. Callers wrap them in
`reading`, which turns every exception into a `DataError` that names the file. It also records which files are being
read, so that the process that watches this one (see `rvbuild.engine.run.watched`) can name the file that killed it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rvbuild.errors import DataError, RvbuildError

_active: dict[int, str] = {}
_numbers = itertools.count()
_listener: Callable[[Sequence[str]], None] | None = None


def watch(listener: Callable[[Sequence[str]], None] | None) -> None:
    """Call `listener` with the list of files that are being read whenever it changes, from any thread."""
    global _listener
    _listener = listener


@contextlib.contextmanager
def reading(path: Path | str, description: str) -> Iterator[None]:
    """Read a file in this context.

    Parameters
    ----------
    path
        The file.
    description
        A phrase with the format or the source, for the message: `as a raster`, `from the zip`.

    Raises
    ------
    DataError
        Replaces any other exception, except errors for users and those that end the process.
    """
    number = next(_numbers)
    _active[number] = str(path)
    if _listener is not None:
        _listener([*_active.values()])
    try:
        yield
    except RvbuildError:
        raise
    except Exception as error:
        raise DataError(f"{path}: cannot be read {description}: {reason(error)}") from error
    finally:
        del _active[number]
        if _listener is not None:
            _listener([*_active.values()])


_NUMBER = "Exceeds the limit"
"""The start of Python's message about a number with thousands of digits."""


def reason(error: BaseException) -> str:
    """Describe an exception for users.

    >>> reason(KeyError("bbox")), reason(RecursionError()), reason(FileNotFoundError(2, "No such file or directory"))
    ("KeyError: 'bbox'", 'it is nested too deeply', 'No such file or directory')
    """
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    message = str(error)
    if isinstance(error, ValueError) and message.startswith(_NUMBER):
        return "it holds a number with too many digits"
    if message and not isinstance(error, _UNINFORMATIVE):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


_UNINFORMATIVE = (LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, NameError)
"""Exceptions whose text means little without their type."""
