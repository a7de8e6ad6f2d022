"""head: the linear model of a project, solved from the sums of all training scenes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rvbuild.project.tasks import SPECS
from rvbuild.rules.common import Artifact, Product, Project, class_names, folder, name, packages
from rvbuild.rules.drafts.sums import summed, totals

if TYPE_CHECKING:
    from rvbuild.stages.draft.settings import HeadSettings

VERSION = 3
RUN = "rvbuild.stages.draft.head:run"
CODE = ("rvbuild.stages.draft.head",)
WRITES = ("head.json",)


def head(project: Project) -> Product:
    """Return the model as an input."""
    return Product("head", name("head", project.name), WRITES)


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the model."""
    scenes = summed(project)
    if not scenes:
        return
    settings: HeadSettings = {
        "classes": class_names(project),
        "null_id": project.null_id,
        "background": SPECS[project.task].one_class_is_enough,
    }
    yield Artifact(
        name=name("head", project.name),
        project=project.name,
        stage="head",
        scene=None,
        run=RUN,
        version=VERSION,
        settings=settings,
        inputs=tuple(totals(project, scene) for scene in scenes),
        folder=folder(project, "head"),
        code=code,
        packages=packages(project),
        writes=WRITES,
    )
