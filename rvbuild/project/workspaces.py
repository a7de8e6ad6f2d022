"""Which workspace a project file belongs to."""

from __future__ import annotations

import os
from pathlib import Path


def find_workspace(project: Path) -> Path:
    """Return the directory that holds the `projects/` in which a file lies, or else the file's own directory."""
    absolute = Path(os.path.abspath(project))  # noqa: PTH100 - resolve() would leave a workspace of symbolic links
    for parent in absolute.parents:
        if parent.name == "projects":
            return parent.parent
    return absolute.parent
