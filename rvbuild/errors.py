"""Every error that rvbuild raises on purpose.

RvbuildError                 base: one message a user can act on, never a traceback
├── UsageError               the command line or the project file is wrong (exit status 2)
│   └── ProjectError         every problem of a project file, at once
│       └── NoScenesError    nothing but that no file is there of those that give a project its scenes
├── StageError               a stage cannot give its result (exit status 1)
│   ├── DataError            imagery, labels or areas are not what the project says
│   │   └── LabelValueError  pixels of labels hold values that stand for no class
│   ├── ModelError           a model, its weights or its code cannot be used
│   ├── CodeError            code of the user's reads or imports what no key holds
│   └── WorkerDiedError      the process that worked on it is dead
└── StoreError               the store or the state database cannot be used (exit status 1)

A message says where, what was expected, what was found, the nearest valid name, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence


class RvbuildError(Exception):
    """Base of all errors that are meant for the user."""

    exit_status = 1


class UsageError(RvbuildError):
    """The command line or the project file is wrong."""

    exit_status = 2


class ProjectError(UsageError):
    """A project file has problems; `problems` holds one printable line for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class NoScenesError(ProjectError):
    """No file is there of those that give a project its scenes: its data are elsewhere."""


class StageError(RvbuildError):
    """A stage cannot give its result."""


class DataError(StageError):
    """Imagery, labels or areas are not what the project says."""


class LabelValueError(DataError):
    """Pixels of labels hold values that stand for no class; `values` says how many hold which.

    An error that comes from a worker has its message alone.
    """

    def __init__(self, message: str, values: Mapping[str, int] | None = None) -> None:
        self.values = dict(values or {})
        super().__init__(message)


class ModelError(StageError):
    """A model, its weights or its code cannot be used."""


class CodeError(StageError):
    """Code of the user's reads or imports what no key holds."""


class WorkerDiedError(StageError):
    """The process that worked on it is dead; `files` holds what it was reading."""

    def __init__(self, message: str, files: Iterable[str] = ()) -> None:
        self.files = tuple(files)
        super().__init__(message)


class StoreError(RvbuildError):
    """The store or the state database cannot be used."""


def counted(count: int, noun: str) -> str:
    """Return how many of something there are.

    >>> counted(1, "artifact"), counted(1200, "artifact")
    ('1 artifact', '1,200 artifacts')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def either(words: Iterable[str]) -> str:
    """Return a choice between words, for messages.

    >>> either(["a", "b", "c"]), either(["a"])
    ('a, b or c', 'a')
    """
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def classes_that(names: Sequence[str], one: str, many: str) -> str:
    """Return classes with what is said of one of them, or of several.

    >>> classes_that(["car"], "is not learnt", "are not learnt")
    'class car, which is not learnt'
    >>> classes_that(["car", "tree"], "is not learnt", "are not learnt")
    'classes car, tree, which are not learnt'
    """
    return f"class {names[0]}, which {one}" if len(names) == 1 else f"classes {', '.join(names)}, which {many}"


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return `'; did you mean "x"?'` for the valid name nearest to `name`, or an empty string.

    >>> nearest("sise_px", ["size_px", "stride_px"])
    '; did you mean "size_px"?'
    """
    names = list(valid)
    # Without case, "RED" has no letter of "red".
    folded = {other.casefold(): other for other in reversed(names)}
    found = [other for other in names if other.casefold() == name.casefold()]
    found = found or difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    found = found or [folded[near] for near in difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)]
    return f'; did you mean "{found[0]}"?' if found else ""
