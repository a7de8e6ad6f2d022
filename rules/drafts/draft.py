"""draft: the map of every scene by the linear model, those that it learns from as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rvbuild.project.tasks import SPECS
from rvbuild.rules.common import Artifact, Product, Project, Scene, classes, folder, name, packages
from rvbuild.rules.drafts.features import features, scenes
from rvbuild.rules.drafts.head import head

if TYPE_CHECKING:
    from rvbuild.stages.draft.settings import DraftSettings

VERSION = 4
RUN = "rvbuild.stages.draft.map:run"
CODE = ("rvbuild.stages.draft.map",)
WRITES = ("labels.tif", "labels.qml", "scores.tif", "scores.qml", "cells.json")


def drafted(project: Project, scene: Scene) -> Product:
    """Return the map of a scene as predictions."""
    return Product("predictions", name("draft", project.name, scene.base), SPECS[project.task].drafted)


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the map of every scene."""
    for scene in scenes(project):
        settings: DraftSettings = {
            "classes": classes(project),
            "null_id": project.null_id,
            "background": SPECS[project.task].one_class_is_enough,
            "scores": project.draft.scores,
        }
        cell_px = project.predict.stage_settings().get("cell_px")
        if isinstance(cell_px, int):
            settings["cell_px"] = cell_px
        yield Artifact(
            name=name("draft", project.name, scene.base),
            project=project.name,
            stage="draft",
            scene=scene.base,
            run=RUN,
            version=VERSION,
            settings=settings,
            inputs=(features(project, scene), head(project)),
            folder=folder(project, "draft", scene.base),
            code=code,
            packages=packages(project),
            writes=WRITES,
        )
