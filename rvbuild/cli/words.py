"""What the words of a command line mean, as far as a seal is concerned.

Whatever the shortest way out needs is here: nothing heavy is imported.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from rvbuild.project.workspaces import every_project
from rvbuild.session.names import BUILDING

INTERRUPTED = "interrupted: finished artifacts are kept, all others are unchanged"


def silenced() -> int:
    """Let what is still to be printed go nowhere, and return the exit status: the reader has seen enough."""
    with contextlib.suppress(OSError, ValueError):  # a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def normal_words(words: list[str]) -> list[str] | None:
    """Return the words of a building command that a seal may answer, with absolute paths; None for any other."""
    if not words or words[0] not in BUILDING:
        return None
    rest = words[1:] if any(w.endswith(".toml") for w in words[1:]) else [*words[1:], *every_project(Path.cwd())]
    projects = []
    value = False
    for word in rest:
        if value:
            if not _is_count(word):
                return None
            value = False
        elif word in ("-j", "--jobs"):
            value = True
        elif word.endswith(".toml"):
            projects.append(os.path.abspath(word))  # noqa: PTH100 - as above
        elif word not in ("-k", "--keep-going", "-v", "--verbose") and not (word[:2] == "-j" and _is_count(word[2:])):
            return None
    return [words[0], *projects] if projects else None


def _is_count(text: str) -> bool:
    return text.isdecimal() and int(text) > 0
