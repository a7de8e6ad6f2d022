"""The files of a stage that grow while it runs, which are no outputs; see `Artifact.live`."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from rvbuild.engine.keys.artifact import Artifact
from rvbuild.engine.store import inside
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import StoreError


def prepared(workspace: Workspace, artifact: Artifact, note: Callable[[str], None]) -> Path | None:
    """Return the file that grows while a stage runs, in a directory that exists; None if there is none.

    If the directory cannot be made, `note` is told, and the stage runs without it.
    """
    if not artifact.live:
        return None
    path = workspace.placed(artifact.live)
    try:
        with inside.folder(workspace.cache, path.rpartition("/")[0], make=True):
            return workspace.cache / path
    except (OSError, StoreError) as error:
        note(f"warning: {artifact.live} cannot be written: {error}")
        return None


def removed(workspace: Workspace, artifact: Artifact) -> list[str]:
    """Remove the files that have grown, and return the path of the one that an artifact names, if it was there."""
    if not artifact.live:
        return []
    path = workspace.placed(artifact.live)
    there = inside.stat_file(workspace.cache, path) is not None
    parent, _, name = path.rpartition("/")[0].rpartition("/")
    with contextlib.suppress(FileNotFoundError), inside.folder(workspace.cache, f"{parent}/{name}"):
        shutil.rmtree(workspace.cache / parent / name, ignore_errors=True)
    with contextlib.suppress(OSError):
        (workspace.cache / parent).rmdir()  # if nothing else is left of the project
    return [artifact.live] if there else []
