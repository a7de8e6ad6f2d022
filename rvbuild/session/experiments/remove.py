"""Removal of points from the workspace; the store keeps their results until gc frees the space."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from rvbuild.engine.history.versions import Name
from rvbuild.engine.store import inside
from rvbuild.engine.workspace import Workspace, is_output_path, locked
from rvbuild.project.model import Project
from rvbuild.session.experiments.points import FILE, POINTS, Point

LIVE = "live"
"""The folder of such logs; see `Artifact.live`."""


def remove(project: Project, points: Sequence[Point], notify: Callable[[str], None]) -> int:
    """Remove the files and records of points; return the number of files.

    After a kill, removing them again completes it: what a point sets is removed last.
    """
    with locked(project.workspace, notify):
        workspace = Workspace(project.workspace, notify)
        try:
            return sum(_remove(workspace, project.title, point) for point in points)
        finally:
            workspace.renew_lease()
            workspace.close()


def remove_logs(cache: Path, folder: str) -> None:
    """Remove the logs that have grown during the trainings of a variant, and its folder if nothing else is in it."""
    with contextlib.suppress(FileNotFoundError, OSError), inside.folder(cache, folder):
        shutil.rmtree(cache / folder / LIVE, ignore_errors=True)
        (cache / folder).rmdir()


def _remove(workspace: Workspace, project: str, point: Point) -> int:
    count = 0
    of_point = {
        name: r for name, r in workspace.state.records().items() if Name.of(name).project == _name(project, point)
    }
    for name, record in of_point.items():
        for output in record.outputs.values():
            if is_output_path(output.path):
                count += inside.remove(workspace.cache, workspace.placed(output.path), folders=True)
        workspace.state.clean(name, "rvbuild exp rm")
    folder = _name(project, point)
    remove_logs(workspace.cache, folder)
    inside.remove(workspace.cache, f"{folder}/{FILE}", folders=True)
    return count


def _name(project: str, point: Point) -> str:
    return f"{project}/{POINTS}/{point.id}"
