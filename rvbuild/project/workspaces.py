"""The workspace of a project file, and the project files of a directory."""

from __future__ import annotations

import os
from pathlib import Path


def find_workspace(project: Path) -> Path:
    """Return the directory that contains the `projects/` of a file, or else the file's own directory."""
    absolute = Path(os.path.abspath(project))  # noqa: PTH100 - resolve() would follow links out of the workspace
    for parent in absolute.parents:
        if parent.name == "projects":
            return parent.parent
    return absolute.parent


def every_project(directory: Path) -> list[str]:
    """Return all projects in `projects/`, sorted, for a command without a project file."""
    folder = directory / "projects"
    return sorted(f"projects/{p.name}" for p in folder.glob("*.toml")) if folder.is_dir() else []
