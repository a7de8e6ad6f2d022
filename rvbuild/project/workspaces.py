"""The workspace of a project file, and the project files of a directory.

This module is part of the fast path: it works without pathlib, whose import takes as long as the rest of that path.
"""

from __future__ import annotations

import os


def find_workspace(project: str | os.PathLike[str]) -> str:
    """Return the directory that contains the `projects/` of a file, or else the file's own directory.

    Links are not followed, because they could lead out of the workspace.
    """
    own = folder = os.path.dirname(os.path.abspath(project))
    while (parent := os.path.dirname(folder)) != folder:
        if os.path.basename(folder) == "projects":
            return parent
        folder = parent
    return own


def every_project(directory: str | os.PathLike[str] = "") -> list[str]:
    """Return all projects in `projects/` of a directory, sorted, for a command without a project file."""
    try:
        names = os.listdir(os.path.join(directory, "projects"))
    except OSError:
        return []
    return sorted(f"projects/{name}" for name in names if name.endswith(".toml"))
