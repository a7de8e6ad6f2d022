"""Which workspace a project file belongs to, and which project files a directory has."""

from __future__ import annotations

import os
from pathlib import Path


def find_workspace(project: Path) -> Path:
    """Return the directory that contains the `projects/` of a file, or else the file's own directory."""
    absolute = Path(os.path.abspath(project))  # noqa: PTH100 - resolve() would leave a workspace of symbolic links
    for parent in absolute.parents:
        if parent.name == "projects":
            return parent.parent
    return absolute.parent


def every_project(directory: Path) -> list[str]:
    """Return the projects of a command without a project file: all in `projects/`, sorted."""
    folder = directory / "projects"
    return sorted(f"projects/{p.name}" for p in folder.glob("*.toml")) if folder.is_dir() else []
