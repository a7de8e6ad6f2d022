"""strips: the strips of rows of scenes that are larger than `predict.strip_px`, each predicted as its own artifact.

`infer` joins them to the result that it would have without strips, of the same key. One more artifact of a scene writes
the area of interest in each strip, so that an edit predicts the strips that it touches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rvbuild.rules import infer
from rvbuild.rules.common import (
    Artifact,
    Project,
    Scene,
    aoi,
    area,
    class_ids,
    folder,
    image,
    image_code,
    name,
    packages,
    present,
    user_code,
)
from rvbuild.rules.predictions.layout import STAGE, area_of_strip, has_area, strip, strips_of

if TYPE_CHECKING:
    from rvbuild.stages.strips import StripAreaSettings, StripSettings

VERSION = infer.VERSION  # strips are predicted as scenes are
RUN = "rvbuild.stages.strips:run"
RUN_AREA = "rvbuild.stages.strips:run_area"
CODE = ("rvbuild.stages.strips", "{task}", "rvbuild.learn.*")
WRITES = infer.WRITES
WRITES_AREA = ("*.tif",)


def artifacts(project: Project, code: str) -> Iterator[Artifact]:
    """Yield the strips of every validation and test scene that is cut."""
    for scene in infer.scenes(project):
        if strips := strips_of(project, scene):
            if has_area(scene):
                yield _area(project, scene, strips, code)
            yield from _strips(project, scene, strips, code)


def _area(project: Project, scene: Scene, strips: list[tuple[int, int]], code: str) -> Artifact:
    whole = infer.settings_of_scene(project, scene)
    settings: StripAreaSettings = {
        "task": project.task,
        "image": whole["image"],
        "channels": whole["channels"],
        "classes": class_ids(project),
        "null_id": project.null_id,
        "chip_px": whole["chip_px"],
        "predict": whole["predict"],
        "strips": [list(rows) for rows in strips],
        **area(project, scene),
    }
    return Artifact(
        name=name(STAGE, project.name, scene.id),
        project=project.name,
        stage=STAGE,
        scene=scene.id,
        run=RUN_AREA,
        version=VERSION,
        settings=settings,
        inputs=present(image(project, scene), aoi(project, scene), *image_code(project, scene)),
        folder=folder(project, STAGE, scene.id, "area"),
        code=code,
        packages=packages(project),
        writes=WRITES_AREA,
    )


def _strips(project: Project, scene: Scene, strips: list[tuple[int, int]], code: str) -> Iterator[Artifact]:
    whole = infer.settings_of_scene(project, scene)
    whole.pop("area", None)
    resource, demand = infer.needs(project)
    for number, rows in enumerate(strips):
        settings: StripSettings = {**whole, "rows": list(rows)}
        yield Artifact(
            name=name(STAGE, project.name, strip(scene, number)),
            project=project.name,
            stage=STAGE,
            scene=strip(scene, number),
            run=RUN,
            version=VERSION,
            settings=settings,
            inputs=present(
                image(project, scene),
                area_of_strip(project, scene, number),
                *infer.network(project),
                *user_code(project, scene),
            ),
            folder=folder(project, STAGE, scene.id, str(number)),
            code=code,
            packages={**packages(project), **infer.engine_packages(project)},
            hints={"trained": infer.trained(project)},
            writes=WRITES,
            resource=resource,
            demand=demand,
        )
