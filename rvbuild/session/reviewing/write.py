"""The review of labels: what the stage `suspects` has found, as files for users."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rvbuild.engine.plan.decide import State
from rvbuild.engine.store import inside
from rvbuild.errors import DataError
from rvbuild.project.model import Project, Scene
from rvbuild.rules import common
from rvbuild.session.process_context import process_context
from rvbuild.session.remarks.outdated_maps import outdated_maps
from rvbuild.session.session import Session

if TYPE_CHECKING:
    from rvbuild.review.outputs import ReviewedScene
    from rvbuild.review.suspect import Suspect
    from rvbuild.review.verdicts import Decision

STAGE = "suspects"
FOLDER = "review"

ALSO = ("draft",)
"""Stages whose results pictures show."""


@dataclass(frozen=True)
class Reviewed:
    """A review of a project.

    Attributes
    ----------
    project : Project
    folder : Path
        The files for users.
    suspects : list of Suspect
    decided : mapping of str to Decision
        What users have decided, by the id of the suspect.
    remarks : sequence of str
        What users should know of the review.
    """

    project: Project
    folder: Path
    suspects: list[Suspect]
    decided: Mapping[str, Decision]
    remarks: Sequence[str] = ()

    def lines(self) -> list[str]:
        """Return what there is, in a few lines."""
        from rvbuild.review.words import summary

        verdicts = [self.decided[suspect.id].verdict for suspect in self.suspects if suspect.id in self.decided]
        counts = {"accepted": verdicts.count("accept"), "rejected": verdicts.count("reject")}
        given = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        return [summary(self.suspects) + (f" ({given})" if given else ""), *self.remarks]


def folder_of(project: Project) -> Path:
    """Return the directory of the review of a project, whether there is one or not."""
    return project.workspace / common.folder(project, FOLDER)


def make_folder(project: Project) -> Path:
    """Make the directory of the review of a project, without what an interrupted command has left there.

    Raises
    ------
    StoreError
        A part of its path is a link, through which nothing is written.
    """
    cache = project.workspace / "cache"
    cache.mkdir(exist_ok=True)
    with inside.folder(cache, f"{project.name}/{FOLDER}", make=True):
        pass
    folder = folder_of(project)
    for leftover in (*folder.glob(".applying-*"), *folder.glob(".new-*")):
        shutil.rmtree(leftover, ignore_errors=True)
    return folder


def write(session: Session, project: Project, trust: bool) -> Reviewed:
    """Write the files of the review of a project whose suspects are up to date; verdicts are kept.

    Raises
    ------
    DataError
        Images or labels cannot be read, or another program locks the table of suspects.
    UsageError
        Images are read by code of the workspace that the user does not trust.
    """
    from rvbuild.review.outputs import write_review
    from rvbuild.review.suspect import SUSPECTS, read_suspects

    path = session.workspace.cache / project.name / STAGE / SUSPECTS
    suspects = read_suspects(path)
    scenes = {scene.id: scene for scene in project.scenes}
    if unknown := {suspect.scene for suspect in suspects} - set(scenes):
        raise DataError(f"{path}: has the scene {min(unknown)!r}, which the project does not have")
    used = [scenes[scene_id] for scene_id in sorted({suspect.scene for suspect in suspects})]
    folder = make_folder(project)
    with process_context(project, common.images_code(project, used), trust, "pictures of suspects")():
        decided = write_review(
            folder,
            suspects,
            {scene.id: reviewed_scene(project, scene, _draft(session, project, scene)) for scene in used},
            name=project.name,
            task=project.task,
            classes=common.classes(project),
            null_id=project.null_id,
        )
    return Reviewed(project, folder, suspects, decided, outdated_maps(session, project))


def reviewed_scene(project: Project, scene: Scene, predicted: Path | None = None) -> ReviewedScene:
    """Return a scene with labels as reviews read it."""
    from rvbuild.review.outputs import ReviewedScene

    assert scene.labels is not None
    return ReviewedScene(
        scene.id,
        [common.resolve(project, path) for path in scene.image.files],
        {"image": common.image_settings(project, scene), "channels": scene.channels},
        [common.resolve(project, path) for path in scene.labels.files],
        scene.labels.files,
        common.label_settings(project, scene),
        predicted,
    )


def _draft(session: Session, project: Project, scene: Scene) -> Path | None:
    """Return the map of a scene by the draft's model, if it is up to date."""
    name = common.name("draft", project.name, scene.base)
    artifact, record = session.plan.artifacts.get(name), session.workspace.state.record(name)
    if artifact is None or record is None:
        return None
    session.plan.examine(session.plan.closure([name]))
    if session.plan[name].decision.state is not State.FRESH:
        return None
    paths = [session.workspace.root / output.path for output in record.outputs.values()]
    return next((path for path in paths if path.name == "labels.tif" and path.is_file()), None)
