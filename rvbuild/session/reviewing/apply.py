"""Accepted verdicts of a review, written into labels."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rvbuild.errors import UsageError
from rvbuild.project.model import Project
from rvbuild.rules import common
from rvbuild.session.process_context import process_context
from rvbuild.session.reviewing.write import make_folder, reviewed_scene

if TYPE_CHECKING:
    from rvbuild.review.applying.publish import Written

COPIES, BACKUPS = "labels", "backups"
"""In the folder of the review."""


@dataclass(frozen=True)
class Applied:
    """The result of applying verdicts.

    Attributes
    ----------
    lines : list of str
        What changes, or would change.
    already : list of str
        What needs no change.
    written : Written, optional
        Where it was written; None if nothing was.
    unsaved : int
        How many of the verdicts the page could not write into the table yet.
    """

    lines: list[str]
    already: list[str]
    written: Written | None
    unsaved: int = 0


def apply_verdicts(
    project: Project,
    verdicts: Path,
    *,
    in_place: bool = False,
    into: Path | None = None,
    dry_run: bool = False,
    trust: bool = False,
) -> Applied:
    """Write the accepted verdicts about labels of a project into copies of its label files, or into these.

    Parameters
    ----------
    project
        The project.
    verdicts
        `suspects.gpkg` or `suspects.geojson`, with verdicts. Those that the page keeps beside `suspects.gpkg`, because
        it could not write them there, count as well.
    in_place
        Change the label files themselves, after a backup of them beside the review.
    into
        The folder of the copies; by default `labels` beside the review.
    dry_run
        Write nothing.
    trust
        Whether code of the workspace may run, which images may need.

    Raises
    ------
    UsageError
        The file is no table of suspects, or no verdict is accepted in it.
    DataError
        Labels have changed since the review, or cannot be edited exactly. Nothing was written then.
    """
    from rvbuild.review.accepted import read_accepted
    from rvbuild.review.applying.plan import plan
    from rvbuild.review.applying.publish import stage, states, write_copies, write_in_place
    from rvbuild.review.outputs import require_no_links
    from rvbuild.review.table import TABLE
    from rvbuild.review.verdicts import read_unsaved

    unsaved = read_unsaved(verdicts.parent) if verdicts.name == TABLE else {}
    accepted = read_accepted(verdicts, unsaved)
    if not accepted:
        raise UsageError(f"{verdicts}: no verdict is accepted; set `verdict` to accept where a label is wrong")
    newer = sum(each.id in unsaved for each in accepted)
    ids = {each.scene for each in accepted}
    used = [scene for scene in project.scenes if scene.labels is not None and scene.id in ids]
    scenes = {scene.id: reviewed_scene(project, scene) for scene in used}
    classes, null_id = common.classes(project), project.null_id
    with process_context(project, common.images_code(project, used), trust, "the grid of images")():
        made = plan(accepted, scenes, task=project.task, classes=classes, null_id=null_id)
        if not made.files:
            return Applied(made.lines, made.already, None, newer)
        folder = make_folder(project)
        require_no_links(folder)
        work = folder / f".applying-{time.time_ns()}"
        try:
            before = states(made)
            copies = stage(made, work, classes, null_id)
            if dry_run:
                return Applied(made.lines, made.already, None, newer)
            if in_place:
                backup = folder / BACKUPS / time.strftime("%Y-%m-%d_%H-%M-%S")
                number = 1
                while backup.exists():
                    number += 1
                    backup = backup.with_name(f"{backup.name.split('.')[0]}.{number}")
                written = write_in_place(made, copies, backup, before, classes, null_id)
            else:
                written = write_copies(made, copies, into or folder / COPIES)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return Applied(made.lines, made.already, written, newer)
