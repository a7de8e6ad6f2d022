"""All errors that rvbuild raises deliberately.

RvbuildError                 base class: a message that a user can act on, never a traceback
├── UsageError               the command line or the project file is wrong (exit status 2)
│   └── ProjectError         every problem of a project file, at once
│       └── NoScenesError    no file matches the patterns of its scenes, which is the only problem
├── StageError               a stage cannot produce its result (exit status 1)
│   ├── DataError            imagery, labels or areas do not match the project
│   │   └── LabelValueError  pixels of labels hold values without a class
│   ├── ModelError           a model, its weights or its code cannot be used
│   ├── CodeError            user code reads or imports something outside of its key
│   ├── WorkerDiedError      the worker process died
│   └── PeerLostError        another process that works on the same result is gone
└── StoreError               the store or the state database cannot be used (exit status 1)

A message names the place, the expected and the actual value, the nearest valid name, and what to do next.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence


class RvbuildError(Exception):
    """Base class of all errors that are meant for the user."""

    exit_status = 1


class UsageError(RvbuildError):
    """The command line or the project file is wrong."""

    exit_status = 2


class ProjectError(UsageError):
    """A project file has problems; `problems` holds a printable line for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class NoScenesError(ProjectError):
    """No file matches the patterns of a project's scenes: its data are missing."""


class StageError(RvbuildError):
    """A stage cannot produce its result."""


class DataError(StageError):
    """Imagery, labels or areas do not match the project."""


class LabelValueError(DataError):
    """Pixels of labels hold values without a class; `values` counts the pixels of each.

    If the error comes from a worker, only its message is known.
    """

    def __init__(self, message: str, values: Mapping[str, int] | None = None) -> None:
        self.values = dict(values or {})
        super().__init__(message)


class ModelError(StageError):
    """A model, its weights or its code cannot be used."""


class CodeError(StageError):
    """User code reads or imports something outside of its key."""


class WorkerDiedError(StageError):
    """The worker process died; `files` holds the files that it was reading."""

    def __init__(self, message: str, files: Iterable[str] = ()) -> None:
        self.files = tuple(files)
        super().__init__(message)


class PeerLostError(StageError):
    """Another process that works on the same result is gone; why is for whoever sees that process to say."""


class StoreError(RvbuildError):
    """The store or the state database cannot be used."""


def kind_of(error: RvbuildError) -> str:
    """Return the `module:class` of an error, with which `of_kind` makes it again in another process."""
    return f"{type(error).__module__}:{type(error).__qualname__}"


def of_kind(kind: str, message: str) -> RvbuildError:
    """Return an error of another process, by the result of `kind_of` and its message."""
    module, _, name = kind.partition(":")
    error_class: Callable[[str], RvbuildError] = getattr(importlib.import_module(module), name)
    return error_class(message)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun.

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


def classes_that(names: Sequence[str], singular: str, plural: str) -> str:
    """Return a phrase about one class, or about several.

    >>> classes_that(["car"], "is not learnt", "are not learnt")
    'class car, which is not learnt'
    >>> classes_that(["car", "tree"], "is not learnt", "are not learnt")
    'classes car, tree, which are not learnt'
    """
    return f"class {names[0]}, which {singular}" if len(names) == 1 else f"classes {', '.join(names)}, which {plural}"


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return `'; did you mean "x"?'` for the valid name nearest to `name`, or an empty string.

    >>> nearest("sise_px", ["size_px", "stride_px"])
    '; did you mean "size_px"?'
    """
    names = list(valid)
    # difflib distinguishes case: for it, "RED" and "red" have no letter in common.
    folded = {candidate.casefold(): candidate for candidate in reversed(names)}
    matches = [candidate for candidate in names if candidate.casefold() == name.casefold()]
    matches = matches or difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    matches = matches or [
        folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    ]
    return f'; did you mean "{matches[0]}"?' if matches else ""
