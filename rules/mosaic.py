"""mosaic: the predicted classes of all scenes as one raster, if the project asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rvbuild.rules.common import Artifact, Product, Project, classes, folder, name, packages

if TYPE_CHECKING:
    from rvbuild.stages.mosaic import MosaicSettings

VERSION = 3
RUN = "rvbuild.stages.mosaic:run"
CODE = ("rvbuild.stages.mosaic",)
WRITES = ("labels.vrt", "labels.tif", "labels.qml")


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the mosaic, if the project asks for one and predicts any scene."""
    scenes = sorted(scene.id for scene in project.scenes if scene.split != "train")
    if not project.predict.mosaic or not scenes:
        return
    settings: MosaicSettings = {
        "classes": classes(project),
        "null_id": project.null_id,
        "scenes": scenes,
        "cog": project.predict.mosaic == "cog",
    }
    yield Artifact(
        name=name("mosaic", project.name),
        project=project.name,
        stage="mosaic",
        scene=None,
        run=RUN,
        version=VERSION,
        settings=settings,
        inputs=tuple(
            Product(f"labels/{scene}", name("predict", project.name, scene), ("labels.tif",)) for scene in scenes
        ),
        folder=folder(project, "predict"),
        code=code,
        packages=packages(project),
        writes=WRITES,
    )
