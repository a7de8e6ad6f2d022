"""The words of a command line, normalised for seals.

This module is part of the fast path, so it imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import os
import sys

from rvbuild.errors import UsageError
from rvbuild.project.workspaces import every_project
from rvbuild.session.names import BUILDING

INTERRUPTED = "interrupted: finished artifacts are kept, all others are unchanged"


def silenced() -> int:
    """Discard all further output, because its reader has closed the pipe, and return the exit status."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def require_whole(command: str, package: str) -> None:
    """Raise a UsageError if a package that a command of projects needs is not part of this install."""
    from importlib.util import find_spec

    if find_spec(package) is not None:
        return
    missing = next(name for name in ("torch", package) if find_spec(name) is None)
    raise UsageError(
        f"{command}: projects need {missing}, which is not installed; rvbuild-runtime only predicts with bundles. "
        "Install all of it with `pip install rvbuild`, in an environment of its own"
    )


def normal_words(words: list[str]) -> list[str] | None:
    """Return the normalised words of a building command, with absolute paths; None if seals do not apply."""
    if not words or words[0] not in BUILDING:
        return None
    arguments = words[1:] if any(w.endswith(".toml") for w in words[1:]) else [*words[1:], *every_project()]
    projects = []
    value = False
    for word in arguments:
        if value:
            if not _is_count(word):
                return None
            value = False
        elif word in ("-j", "--jobs", "--procs"):
            value = True
        elif word.endswith(".toml"):
            projects.append(os.path.abspath(word))  # noqa: PTH100 - as above
        elif word not in ("-k", "--keep-going", "-v", "--verbose") and not (word[:2] == "-j" and _is_count(word[2:])):
            return None
    return [words[0], *projects] if projects else None


def _is_count(text: str) -> bool:
    return text.isdecimal() and int(text) > 0
