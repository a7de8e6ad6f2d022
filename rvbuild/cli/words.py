"""What the words of a command line mean: the names of stages and commands, and project files.

Whatever the shortest way out needs is here: nothing heavy is imported.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

STAGES = ("analyze", "chip", "train", "predict", "eval", "bundle", "report")
BUILDING = (*STAGES, "build")
CLEANED = (*STAGES, "data")
"""What `clean` knows: what builds make, and what is made when it is asked for."""

INTERRUPTED = "interrupted: finished artifacts are kept, all others are unchanged"

PARTS = {"predict": ("infer", "predict", "mosaic")}
"""The stages that a command does together, where it is more than the one of its name."""


def silenced() -> int:
    """Let what is still to be printed go nowhere, and return the exit status: the reader has seen enough."""
    with contextlib.suppress(OSError, ValueError):  # a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def stages_of(word: str) -> tuple[str, ...]:
    """Return the stages of the artifacts that a command or the name of a stage means.

    >>> stages_of("predict"), stages_of("infer"), stages_of("eval")
    (('infer', 'predict', 'mosaic'), ('infer',), ('eval',))
    """
    return PARTS.get(word, (word,))


def every_project(directory: Path) -> list[str]:
    """Return what a command without a project file means: every one in `projects/`, sorted."""
    folder = directory / "projects"
    return sorted(f"projects/{p.name}" for p in folder.glob("*.toml")) if folder.is_dir() else []


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
